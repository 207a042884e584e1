"""How right the labels are that a trainer learns from, epoch by epoch: label precision of the samples it keeps."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import style as ink
from analysis.store.labels import counted
from analysis.store.load import Results, series
from analysis.store.results import CellResult, cells
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title

KEPT = "kept_label_precision"
"""The series of the share of right labels among the samples that a trainer kept in an epoch."""


@dataclass(frozen=True)
class Group:
    """Cells that differ in the trainer alone, in the plan's order, by the trainer's name."""

    title: str  # as the trainers' cells are titled, without the trainer
    trainers: dict[str, CellResult]

    @property
    def seeds(self) -> int:
        return max(len(cell.seeds) for cell in self.trainers.values())


def groups(results: Results) -> tuple[Group, ...]:
    """Those with at least two trainers."""
    found: dict[tuple[str, str], Group] = {}
    for cell in cells(results):
        parts = cell.name.split("/")
        if len(parts) < 4 or cell.rows.empty:
            continue
        others = "/".join(parts[:3] + parts[4:])
        group = found.setdefault((others, cell.measure), Group(cell_title(cell).partition(" trained by ")[0], {}))
        group.trainers[parts[3]] = cell
    return tuple(group for group in found.values() if len(group.trainers) > 1)


def kept_by_epoch(results: Results, cell: CellResult) -> dict[int, Summary]:
    """Epoch -> share of right labels among the kept samples, over the seeds; empty for a trainer that keeps all."""
    points = series(results, KEPT)
    own = points[points["run_id"].isin([baseline.baseline_id for baseline in cell.baselines])]
    return {int(str(epoch)): summarise(values) for epoch, values in own.groupby("step")["value"]}


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when no trainer of the store keeps samples."""
    found = []
    for group in groups(results):
        curves = {name: kept for name, cell in group.trainers.items() if (kept := kept_by_epoch(results, cell))}
        if curves:
            found.append((group, curves))
    if not found:
        return None
    figure, axes = ink.panels(len(found), page)
    for axis, (group, curves) in zip(axes, found, strict=True):
        for (name, kept), style in zip(curves.items(), ink.styles(list(curves)), strict=True):
            epochs = [epoch for epoch, summary in kept.items() if summary.mean is not None]
            means = [100 * (kept[epoch].mean or 0.0) for epoch in epochs]
            spread = [100 * (kept[epoch].std or 0.0) for epoch in epochs]
            lower, upper = ([mean + sign * std for mean, std in zip(means, spread, strict=True)] for sign in (-1, 1))
            axis.plot(epochs, means, label=name, **style.curve)
            axis.fill_between(epochs, lower, upper, color=style.color, alpha=style.band, linewidth=0)
        rates = [
            float(baseline.row["noise_rate_measured"])
            for cell in group.trainers.values()
            for baseline in cell.baselines
            if baseline.row is not None
        ]
        ink.level(axis, 100 * (1 - sum(rates) / len(rates)), "all\nsamples", (0, (1, 1.5)))
    ink.headings(
        figure, "Right labels among the samples kept", [f"{group.title}; n = {counted(group.seeds, 'seed')}" for group, _ in found], page
    )
    ink.labels(axes, "Epoch", "Right labels (%)")
    ink.legend_below(figure, "Mean and ± 1 std over the seeds; what a trainer learnt from in each epoch", page)
    return figure

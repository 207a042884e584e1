"""Figure `kept_label_precision`: label precision of the samples that a sample-selecting trainer keeps, by epoch."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import figures
from analysis.store.labels import counted
from analysis.store.load import Results, series
from analysis.store.results import CellResult, cells
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title

KEPT = "kept_label_precision"
"""Series with the share of correct labels among the samples that a trainer kept in an epoch."""


@dataclass(frozen=True)
class TrainerGroup:
    """Cells that differ only in the trainer, by the trainer's name, in the order of the plan."""

    title: str  # title of the cells without the trainer
    trainers: dict[str, CellResult]

    @property
    def seeds(self) -> int:
        return max(len(cell.seeds) for cell in self.trainers.values())


def groups(results: Results) -> tuple[TrainerGroup, ...]:
    """Groups the cells that differ only in the trainer; groups of one are left out."""
    found: dict[tuple[str, str], TrainerGroup] = {}
    for cell in cells(results):
        parts = cell.name.split("/")
        if len(parts) < 4 or cell.rows.empty:
            continue
        # The name of a cell is dataset/noise/network/trainer, and more for pruned cells.
        others = "/".join(parts[:3] + parts[4:])
        group = found.setdefault((others, cell.measure), TrainerGroup(cell_title(cell).partition(" trained by ")[0], {}))
        group.trainers[parts[3]] = cell
    return tuple(group for group in found.values() if len(group.trainers) > 1)


def kept_by_epoch(results: Results, cell: CellResult) -> dict[int, Summary]:
    """Summarises the label precision of the kept samples over the seeds, by epoch; empty for a trainer that keeps all samples."""
    points = series(results, KEPT)
    own = points[points["run_id"].isin([baseline.baseline_id for baseline in cell.baselines])]
    return {int(str(epoch)): summarise(values) for epoch, values in own.groupby("step")["value"]}


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if no trainer of the store selects samples."""
    found = []
    for group in groups(results):
        curves = {name: kept for name, cell in group.trainers.items() if (kept := kept_by_epoch(results, cell))}
        if curves:
            found.append((group, curves))
    if not found:
        return None
    figure, axes = figures.panels(len(found), page)
    for axis, (group, curves) in zip(axes, found, strict=True):
        for (name, kept), style in zip(curves.items(), figures.method_styles(list(curves)), strict=True):
            epochs = [epoch for epoch, summary in kept.items() if summary.mean is not None]
            means = [100 * (kept[epoch].mean or 0.0) for epoch in epochs]
            spread = [100 * (kept[epoch].std or 0.0) for epoch in epochs]
            lower, upper = ([mean + sign * std for mean, std in zip(means, spread, strict=True)] for sign in (-1, 1))
            axis.plot(epochs, means, label=name, **style.curve)
            axis.fill_between(epochs, lower, upper, color=style.color, alpha=style.band_alpha, linewidth=0)
            if group.seeds < figures.MANY_SEEDS:
                # With more, the band shows the spread.
                for epoch in epochs:
                    figures.draw_spread(axis, epoch, [100 * value for value in kept[epoch].values], style)
        # without selection the label precision is one minus the noise rate
        rates = [
            float(baseline.row["noise_rate_measured"])
            for cell in group.trainers.values()
            for baseline in cell.baselines
            if baseline.row is not None
        ]
        figures.reference_line(axis, 100 * (1 - sum(rates) / len(rates)), "all\nsamples", (0, (1, 1.5)))
    figures.set_titles(
        figure, "Label precision of the kept samples", [f"{group.title}; n = {counted(group.seeds, 'seed')}" for group, _ in found], page
    )
    figures.label_axes(axes, "Epoch", "Correct labels (%)")
    most = max(group.seeds for group, _ in found)
    seeds = figures.spread_sentence(most) if most < figures.MANY_SEEDS else ""
    figures.legend_below(figure, f"Samples used for training in each epoch; mean ± 1 standard deviation over the seeds. {seeds}", page)
    return figure

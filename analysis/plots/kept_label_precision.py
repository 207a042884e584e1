"""How right the labels are that a trainer learns from, epoch by epoch: label precision of the samples it keeps."""

from __future__ import annotations

from analysis.plots import style as ink
from analysis.store.labels import counted
from analysis.store.load import Results
from analysis.tables.trainers import groups, kept_by_epoch


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

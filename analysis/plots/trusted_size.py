"""Test accuracy against the size of the trusted set: how many samples SAP needs before it helps."""

from __future__ import annotations

from analysis.plots import style as ink
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import summarise
from analysis.tables.notes import cell_title
from analysis.tables.trusted_size import RULE, size_curves


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when no space of the store varies the size of the trusted set. Its numbers are those of the table."""
    found = [(cell, curves) for cell in cells(results) if (curves := size_curves(cell))]
    if not found:
        return None
    figure, axes = ink.panels(len(found), page)
    subtitles = []
    for axis, (cell, curves) in zip(axes, found, strict=True):
        measure = MEASURES[cell.measure]
        for curve, style in zip(curves, ink.styles([curve.method for curve in curves]), strict=True):
            points = [(point.size, point.test.times(measure.factor)) for point in curve.points if point.test.mean is not None]
            sizes, means = [size for size, _ in points], [test.mean for _, test in points]
            bars = [test.std or 0.0 for _, test in points]
            axis.errorbar(sizes, means, yerr=bars, capsize=3, elinewidth=1, label=method_label(curve.method, curve.space), **style.curve)
        column = score_column("test_oracle", cell.measure)
        vanilla = summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)
        if vanilla.mean is not None:
            ink.level(axis, vanilla.mean * measure.factor, f"Vanilla\n{vanilla.mean * measure.factor:.1f}", (0, (1, 1.5)))
        ink.log_axis(axis, ticks=sorted({point.size for curve in curves for point in curve.points}))
        subtitles.append(f"{cell_title(cell)}; n = {counted(len(cell.seeds), 'seed')}")
    measure = MEASURES[found[0][0].measure]
    ink.headings(figure, f"Test {measure.name} by the size of the trusted set", subtitles, page)
    ink.labels(axes, "Trusted samples", f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    ink.legend_below(figure, f"Best setting of each size, chosen by {RULE}; mean and ± 1 std over the seeds", page)
    return figure

"""Figure `trusted_size`: test accuracy by the number of trusted samples. Its numbers are those of the table `trusted_size`."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

from analysis.plots import figures
from analysis.store.labels import MEASURES, counted
from analysis.store.load import Results
from analysis.store.results import CellResult
from analysis.store.stats import Summary
from analysis.tables.layout import TableLayout, layouts
from analysis.tables.lookup import CellNumbers
from analysis.tables.notes import cell_title
from analysis.tables.spec import shipped_spec


@dataclass(frozen=True)
class SizeCurve:
    """The test scores of one method over one space, by ascending size."""

    cell: CellResult
    method: str
    label: str
    points: tuple[tuple[int, Summary], ...]
    gains: tuple[tuple[float, ...], ...]  # of each point over the unmodified model, by seed


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if no space of the store varies the size of the trusted set."""
    # The figure draws the numbers of the table of the same name, so the two cannot differ.
    spec = shipped_spec("trusted_size")
    found = [curves for layout in layouts(spec, results) if (curves := size_curves(layout))]
    if not found:
        return None
    figure, axes = figures.panels(len(found), page)
    subtitles = []
    for axis, curves in zip(axes, found, strict=True):
        cell = curves[0].cell
        measure = MEASURES[cell.measure]
        for curve, style in zip(curves, figures.method_styles([curve.method for curve in curves]), strict=True):
            points = [(size, [gain * measure.factor for gain in gains]) for (size, _), gains in zip(curve.points, curve.gains, strict=True)]
            axis.plot([size for size, _ in points], [fmean(gains) for _, gains in points], label=curve.label, **style.curve)
            for size, gains in points:
                figures.draw_spread(axis, size, gains, style)
        axis.axhline(0, color=figures.TEXT_GREY, linestyle=(0, (1, 1.5)), linewidth=1)
        # Sizes are tried in steps such as 100, 200, 500, which are even on a logarithmic axis.
        figures.log_axis(axis, ticks=sorted({size for curve in curves for size, _ in curve.points}))
        subtitles.append(f"{cell_title(cell)}; n = {counted(len(cell.seeds), 'seed')}")
    measure = MEASURES[found[0][0].cell.measure]
    figures.set_titles(figure, f"Gain in test {measure.name} by number of trusted samples", subtitles, page)
    figures.label_axes(axes, "Trusted samples", figures.gain_label(measure))
    note = (
        f"Setting selected by {spec.selection.rule} at each size minus the unmodified model of the same seed; mean over the seeds. "
        f"{figures.spread_sentence(max(len(curves[0].cell.seeds) for curves in found))}"
    )
    figures.legend_below(figure, note, page)
    return figure


def size_curves(layout: TableLayout) -> tuple[SizeCurve, ...]:
    """The curves of one table `trusted_size`: one per row group, with one point per row."""
    # the table has further columns, such as the gain
    column, gain = (next(c for c, axis in enumerate(layout.columns) if axis.value == value) for value in ("test", "gain"))
    curves = []
    for g, group in enumerate(layout.row_groups):
        rows = [(row, layout.cells[g, r, column].found) for r, row in enumerate(layout.rows[g])]
        with_numbers = [
            (int(str(row.where["num_trusted"])), found) for row, found in rows if found is not None and found.summary.mean is not None
        ]
        points = tuple((size, found.summary) for size, found in with_numbers)
        gains = {int(str(row.where["num_trusted"])): layout.cells[g, r, gain].found for r, row in enumerate(layout.rows[g])}
        by_seed = tuple(_values(gains[size]) for size, _ in points)
        # A point needs the unmodified model of its seeds.
        if with_numbers and all(by_seed):
            curves.append(SizeCurve(with_numbers[0][1].cell, with_numbers[0][1].method, group.label, points, by_seed))
    return tuple(curves)


def _values(found: CellNumbers | None) -> tuple[float, ...]:
    return () if found is None else tuple(one.value for one in found.values if one.value is not None)

"""Figure `trusted_size`: test accuracy by the number of trusted samples. Its numbers are those of the table `trusted_size`."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import figures
from analysis.plots.single_seeds import NOTE, draw_seeds
from analysis.store.labels import MEASURES, counted
from analysis.store.load import Results
from analysis.store.results import CellResult
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.layout import TableLayout, layouts
from analysis.tables.notes import cell_title
from analysis.tables.spec import shipped_spec


@dataclass(frozen=True)
class SizeCurve:
    """The test scores of one method over one space, by ascending size."""

    cell: CellResult
    method: str
    label: str
    points: tuple[tuple[int, Summary], ...]


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
            points = [(size, test.times(measure.factor)) for size, test in curve.points]
            sizes, means = [size for size, _ in points], [test.mean or 0.0 for _, test in points]
            bars = [test.std or 0.0 for _, test in points]
            axis.errorbar(sizes, means, yerr=bars, capsize=3, elinewidth=1, label=curve.label, **style.curve)
            draw_seeds(axis, points, style)
        column = score_column("test_oracle", cell.measure)
        vanilla = summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)
        if vanilla.mean is not None:
            figures.reference_line(axis, vanilla.mean * measure.factor, f"Vanilla\n{vanilla.mean * measure.factor:.1f}", (0, (1, 1.5)))
        # Sizes are tried in steps such as 100, 200, 500, which are even on a logarithmic axis.
        figures.log_axis(axis, ticks=sorted({size for curve in curves for size, _ in curve.points}))
        subtitles.append(f"{cell_title(cell)}; n = {counted(len(cell.seeds), 'seed')}")
    measure = MEASURES[found[0][0].cell.measure]
    figures.set_titles(figure, f"Test {measure.name} by number of trusted samples", subtitles, page)
    figures.label_axes(axes, "Trusted samples", f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    figures.legend_below(
        figure, f"Setting selected by {spec.selection.rule} at each size; mean ± 1 standard deviation over the seeds; {NOTE}", page
    )
    return figure


def size_curves(layout: TableLayout) -> tuple[SizeCurve, ...]:
    """The curves of one table `trusted_size`: one per row group, with one point per row."""
    # the table has further columns, such as the gain
    (column,) = [c for c, axis in enumerate(layout.columns) if axis.value == "test"]
    curves = []
    for g, group in enumerate(layout.row_groups):
        rows = [(row, layout.cells[g, r, column].found) for r, row in enumerate(layout.rows[g])]
        with_numbers = [
            (int(str(row.where["num_trusted"])), found) for row, found in rows if found is not None and found.summary.mean is not None
        ]
        points = tuple((size, found.summary) for size, found in with_numbers)
        if with_numbers:
            curves.append(SizeCurve(with_numbers[0][1].cell, with_numbers[0][1].method, group.label, points))
    return tuple(curves)

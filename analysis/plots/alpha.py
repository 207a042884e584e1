"""Figure `alpha`: test accuracy by SAP's alpha, with the range of near-optimal values (`analysis.tuning.alpha`)."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import figures
from analysis.plots.single_seeds import NOTE, draw_seeds
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.alpha import TOLERANCE, AlphaCurve, GoodRange, alpha_curves, good_range


@dataclass(frozen=True)
class AlphaPanel:
    """The curves of one cell: of spaces that vary alpha alone, if there are any; otherwise one per combination of the other values."""

    title: str
    measure: str
    seeds: int
    vanilla: Summary
    curves: tuple[AlphaCurve, ...]
    good: tuple[GoodRange | None, ...]


def numbers(results: Results) -> tuple[AlphaPanel, ...]:
    """Computes one panel per cell with at least three values of alpha."""
    found = []
    for cell in cells(results):
        curves = alpha_curves(cell)
        # A space that varies alpha alone is the plain answer; curves of crossed spaces are drawn only without one.
        curves = tuple(curve for curve in curves if not curve.others) or curves
        if curves:
            column = score_column("test_oracle", cell.measure)
            vanilla = summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)
            good = tuple(good_range(curve) for curve in curves)
            found.append(AlphaPanel(cell_title(cell), cell.measure, len(cell.seeds), vanilla, curves, good))
    return tuple(found)


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure; None if no space of the store varies alpha."""
    found = numbers(results)
    if not found:
        return None
    figure, axes = figures.panels(len(found), page)
    for axis, panel in zip(axes, found, strict=True):
        factor = MEASURES[panel.measure].factor
        plain = [curve.method for curve in panel.curves]
        # The other values (such as sizes of the trusted set) have an order, methods have none.
        styles = figures.ordered_styles(len(plain)) if any(curve.others for curve in panel.curves) else figures.method_styles(plain)
        for curve, good, style in zip(panel.curves, panel.good, styles, strict=True):
            label = method_label(curve.method, curve.space) + (f", {curve.others}" if curve.others else "")
            means = [float("nan") if point.mean is None else point.mean * factor for point in curve.test]
            # A single seed has no standard deviation, and no bar.
            spread = [(point.std or 0.0) * factor for point in curve.test]
            axis.errorbar(curve.alphas, means, yerr=spread, capsize=2, elinewidth=0.8, label=label, **style.curve)
            draw_seeds(axis, zip(curve.alphas, (point.times(factor) for point in curve.test), strict=True), style)
            if good and len(panel.curves) == 1:
                # With several curves the ranges would overlap.
                axis.axvspan(
                    good.low,
                    good.high,
                    color=style.color,
                    alpha=0.12,
                    linewidth=0,
                    label=f"within {100 * TOLERANCE:g} point of the maximum",
                )
        # The level below which a correction does harm.
        if panel.vanilla.mean is not None:
            figures.reference_line(axis, panel.vanilla.mean * factor, f"Vanilla\n{panel.vanilla.mean * factor:.1f}", (0, (1, 1.5)))
        figures.log_axis(axis)
    measure = MEASURES[found[0].measure]
    figures.set_titles(
        figure, f"Test {measure.name} by alpha", [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found], page
    )
    figures.label_axes(
        axes, "alpha (larger values change the network less)", f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else "")
    )
    figures.legend_below(figure, f"Score at each alpha, without selection; mean ± 1 standard deviation over the seeds; {NOTE}", page)
    return figure

"""Test accuracy against SAP's alpha, and the range in which it is good (`analysis.tuning.alpha`)."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.plots import style as ink
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.alpha import TOLERANCE, AlphaCurve, GoodRange, alpha_curves, good_range


@dataclass(frozen=True)
class AlphaPanel:
    """One cell: the curves of spaces where alpha alone varies, or where there is none those of every other field's values."""

    title: str
    measure: str
    seeds: int
    vanilla: Summary
    curves: tuple[AlphaCurve, ...]
    good: tuple[GoodRange | None, ...]


def numbers(results: Results) -> tuple[AlphaPanel, ...]:
    """One panel per cell with at least three alphas."""
    found = []
    for cell in cells(results):
        curves = alpha_curves(cell)
        curves = tuple(curve for curve in curves if not curve.others) or curves
        if curves:
            column = score_column("test_oracle", cell.measure)
            vanilla = summarise(None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines)
            good = tuple(good_range(curve) for curve in curves)
            found.append(AlphaPanel(cell_title(cell), cell.measure, len(cell.seeds), vanilla, curves, good))
    return tuple(found)


def draw(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The figure; None when no space of the store varies alpha."""
    found = numbers(results)
    if not found:
        return None
    figure, axes = ink.panels(len(found), page)
    for axis, panel in zip(axes, found, strict=True):
        factor = MEASURES[panel.measure].factor
        plain = [curve.method for curve in panel.curves]
        styles = ink.series(len(plain)) if any(curve.others for curve in panel.curves) else ink.styles(plain)
        for curve, good, style in zip(panel.curves, panel.good, styles, strict=True):
            label = method_label(curve.method, curve.space) + (f", {curve.others}" if curve.others else "")
            means = [float("nan") if point.mean is None else point.mean * factor for point in curve.test]
            spread = [(point.std or 0.0) * factor for point in curve.test]
            axis.errorbar(curve.alphas, means, yerr=spread, capsize=2, elinewidth=0.8, label=label, **style.curve)
            if good and len(panel.curves) == 1:
                axis.axvspan(
                    good.low, good.high, color=style.color, alpha=0.12, linewidth=0, label=f"within {100 * TOLERANCE:g} point of the best"
                )
        if panel.vanilla.mean is not None:
            ink.level(axis, panel.vanilla.mean * factor, f"Vanilla\n{panel.vanilla.mean * factor:.1f}", (0, (1, 1.5)))
        ink.log_axis(axis)
    measure = MEASURES[found[0].measure]
    ink.headings(
        figure, f"Test {measure.name} against alpha", [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found], page
    )
    ink.labels(axes, "alpha (larger is milder)", f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    ink.legend_below(figure, "Every alpha's own score, none of them chosen; mean and ± 1 std over the seeds", page)
    return figure

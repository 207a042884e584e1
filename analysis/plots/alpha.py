"""Figure `alpha`: test accuracy by SAP's alpha, with the range of near-optimal values (`analysis.tuning.alpha`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import isnan
from statistics import fmean

from analysis.plots import figures
from analysis.store.labels import MEASURES, counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.alpha import ALPHA, TOLERANCE, AlphaCurve, GoodRange, alpha_curves, good_range


@dataclass(frozen=True)
class AlphaPanel:
    """The curves of one cell: of spaces that vary alpha alone, if there are any; otherwise one per combination of the other values."""

    title: str
    measure: str
    seeds: int
    vanilla: Summary
    curves: tuple[AlphaCurve, ...]
    good: tuple[GoodRange | None, ...]
    gains: tuple[dict[float, tuple[float, ...]], ...]  # of each curve: alpha -> gain by seed; empty for a curve of crossed values


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
            gains = tuple({} if curve.others else _gains(cell, curve) for curve in curves)
            found.append(AlphaPanel(cell_title(cell), cell.measure, len(cell.seeds), vanilla, curves, good, gains))
    return tuple(found)


def _gains(cell: CellResult, curve: AlphaCurve) -> dict[float, tuple[float, ...]]:
    """Alpha -> test score minus that of the unmodified model of the same seed."""
    column = score_column("test_oracle", cell.measure)
    found: dict[float, list[float]] = {}
    for search in cell.methods[curve.method, curve.space]:
        for settings, score in zip(search.rows["settings"], search.rows[column].astype(float), strict=True):
            if search.vanilla is not None and not isnan(score):
                found.setdefault(float(json.loads(settings)[ALPHA]), []).append(score - float(search.vanilla[column]))
    return {alpha: tuple(gains) for alpha, gains in found.items()}


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
        before = (panel.vanilla.mean or 0.0) * factor
        for curve, good, gains, style in zip(panel.curves, panel.good, panel.gains, styles, strict=True):
            label = method_label(curve.method, curve.space) + (f", {curve.others}" if curve.others else "")
            means = [float("nan") if point.mean is None else point.mean * factor - before for point in curve.test]
            paired = [fmean(gains[alpha]) * factor if gains.get(alpha) else mean for alpha, mean in zip(curve.alphas, means, strict=True)]
            axis.plot(curve.alphas, paired, label=label, **style.curve)
            for alpha, own in gains.items():
                figures.draw_spread(axis, alpha, [gain * factor for gain in own], style)
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
        axis.axhline(0, color=figures.TEXT_GREY, linestyle=(0, (1, 1.5)), linewidth=1)
        figures.log_axis(axis)
    measure = MEASURES[found[0].measure]
    figures.set_titles(
        figure, f"Gain in test {measure.name} by alpha", [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found], page
    )
    figures.label_axes(axes, "alpha (larger values change the network less)", figures.gain_label(measure))
    spread = figures.spread_sentence(max(panel.seeds for panel in found)) if any(any(panel.gains) for panel in found) else ""
    note = f"Score at each alpha, without selection, minus that of the unmodified model of the same seed; mean over the seeds. {spread}"
    figures.legend_below(figure, note, page)
    return figure

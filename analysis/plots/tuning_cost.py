"""Figures `tuning_cost` and `tuning_trials`: test accuracy of the selected setting by tuning cost, or by number of trials.

A line is the expected score over random orders of a search's settings, mean over the seeds (`analysis.tuning.head_to_head`). It ends with
a marker at the complete search: the mean cost and the mean score over the seeds, as in the tables. Small markers there are the single seeds
if they are few, the white one is the default setting. Bands, or whiskers if there are more than three curves, contain 80 % of the outcomes
over orders and seeds.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.plots import figures
from analysis.store.labels import MEASURES, REFERENCES, RETRAIN, counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.anytime import CostItems, Unit, seconds_comparable
from analysis.tuning.head_to_head import BAND, band, mean_scores, method_searches
from analysis.tuning.headline import MAIN_ITEMS, RULE, Default, default_of
from sap_core.text import inert_cell

_NOTE = (
    "Expectation over random orders of the settings, setting selected by {rule}. {spread}: {low:.0f}th to {high:.0f}th percentile over "
    "orders and seeds. Marker: complete search{seeds}; white: default setting. Cost: {cost}."
)

_COST: dict[Unit, str] = {
    "seconds": "compute seconds of jobs with exclusive cores or an exclusive GPU, including preparation",
    "flops": "FLOPs, because jobs shared their cores or GPU; including preparation",
    "trials": "trials, exact expectation over all orders",
}
_AXIS: dict[Unit, str] = {
    "seconds": "Tuning cost per seed (seconds)", "flops": "Tuning cost per seed (GFLOP)", "trials": "Trials",
}  # fmt: skip
_SCALE: dict[Unit, float] = {"seconds": 1.0, "flops": 1e-9, "trials": 1.0}
_POINTS = 120
"""Budgets at which a curve is evaluated."""


@dataclass(frozen=True)
class CostCurve:
    """The searches of one method over one space. Scores as stored (fractions or R²)."""

    method: str
    space: str | None
    seeds: int
    settings: int
    cost: np.ndarray  # [B] budgets in seconds, GFLOP or trials
    mean: np.ndarray  # [B]
    low: np.ndarray  # [B] lower bound of the band
    high: np.ndarray  # [B]
    default: Default | None  # cost in the unit of the budgets
    total: float  # cost of the complete search, mean over the seeds
    final: float  # test score of the complete search, mean over the seeds
    complete: tuple[tuple[float, float], ...]  # (cost, test score) of the complete search of each seed


@dataclass(frozen=True)
class CostPanel:
    """The curves of one cell."""

    cell: str
    title: str
    measure: str
    unit: Unit  # the same in all panels
    seeds: int
    vanilla: Summary
    retrain: Summary
    curves: tuple[CostCurve, ...]


def cost_panels(results: Results, trials: bool = False, rule: str = RULE) -> tuple[CostPanel, ...]:
    """Computes one panel per cell that has a curve. All costs are in FLOPs if the seconds of any search are not comparable.

    Raises:
        UserError: the store is a smoke run's.
    """
    found_cells = cells(results)
    searches = [search for cell in found_cells for key, group in cell.methods.items() if key[0] not in REFERENCES for search in group]
    # One unit in all panels, so that they can be compared.
    unit: Unit = "trials" if trials else "seconds" if seconds_comparable(searches, CostItems()) else "flops"
    found = tuple(_panel(results, cell, rule, unit) for cell in found_cells)
    return tuple(panel for panel in found if panel.curves)


def _panel(results: Results, cell: CellResult, rule: str, unit: Unit) -> CostPanel:
    test = score_column("test_oracle", cell.measure)
    # Retraining is drawn as a level, because its cost is that of a training and not of a search.
    references = [search.choose(rule).row for (method, _), searches in cell.methods.items() if method == RETRAIN for search in searches]
    # References have no curve: they are not searched.
    curves = [_curve(results, *key, searches, rule, unit) for key, searches in cell.methods.items() if key[0] not in REFERENCES]
    return CostPanel(
        cell=cell.name,
        title=cell_title(cell),
        measure=cell.measure,
        unit=unit,
        seeds=len(cell.seeds),
        vanilla=summarise(None if baseline.row is None else float(baseline.row[test]) for baseline in cell.baselines),
        retrain=summarise(None if row is None else float(row[test]) for row in references),
        curves=tuple(curve for curve in curves if curve is not None),
    )


def _curve(results: Results, method: str, space: str | None, searches: Sequence[SearchResult], rule: str, unit: Unit) -> CostCurve | None:
    """The curve of one method over one space; None if no search has scores and a cost."""
    found = method_searches(results, method, space, searches, rule, unit)
    if found is None:
        return None
    (budgets, scores), scale = mean_scores(found, MAIN_ITEMS, _POINTS), _SCALE[unit]
    mean = scores.mean(axis=0)
    low, high = band(found, MAIN_ITEMS, budgets)
    default = default_of(results, found, rule)
    shown = None if default is None else Default(default.test, default.cost.times(scale))
    complete = tuple((cost.total(MAIN_ITEMS) * scale, ranking.final) for cost, ranking in zip(found.costs, found.rankings, strict=True))
    return CostCurve(
        method, space, len(found.seeds), found.settings, budgets * scale, mean, low, high, shown, found.total(MAIN_ITEMS) * scale,
        float(np.mean([ranking.final for ranking in found.rankings])), complete,
    )  # fmt: skip


def curves_csv(results: Results, trials: bool = False) -> str:
    """Formats the curves as CSV, one line per method, space and budget."""
    found = cost_panels(results, trials)
    unit = {"flops": "giga_flops"}.get(found[0].unit, found[0].unit) if found else "seconds"
    lines = [["cell", "method", "space", "settings", unit, "expected_test", f"low_{100 * BAND[0]:.0f}", f"high_{100 * BAND[1]:.0f}"]]
    for panel in found:
        for curve in panel.curves:
            for values in zip(curve.cost, curve.mean, curve.low, curve.high, strict=True):
                head = [panel.cell, curve.method, curve.space or "", str(curve.settings)]
                # More digits than a figure can show.
                lines.append([*map(inert_cell, head), *(f"{value:.8g}" for value in values)])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def draw(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS, trials: bool = False) -> figures.Figure | None:
    """Draws the figure; None if the store has no curve yet."""
    found = cost_panels(results, trials)
    if not found:
        return None
    figure, axes = figures.panels(len(found), page)
    for axis, panel in zip(axes, found, strict=True):
        draw_panel(axis, panel)
    measure, unit = MEASURES[found[0].measure], found[0].unit
    subtitles = [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found]
    by = "number of trials" if trials else "tuning cost"
    figures.set_titles(figure, f"Test {measure.name} by {by}", subtitles, page)
    figures.label_axes(axes, _AXIS[unit], f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    most = max(len(panel.curves) for panel in found)
    note = _NOTE.format(
        rule=RULE,
        spread="Band" if most <= figures.MAX_BANDS else "Whiskers",
        low=100 * BAND[0],
        high=100 * BAND[1],
        seeds=", small: single seeds" if 1 < max(panel.seeds for panel in found) < figures.MANY_SEEDS else "",
        cost=_COST[unit],
    )
    figures.legend_below(figure, note, page)
    return figure


def draw_trials(results: Results, page: figures.PageWidth = figures.TWO_COLUMNS) -> figures.Figure | None:
    """Draws the figure by number of trials."""
    return draw(results, page, trials=True)


def draw_panel(axis: figures.Axes, panel: CostPanel) -> None:
    """Draws the curves of one cell with their spread, defaults and levels of reference."""
    factor = MEASURES[panel.measure].factor
    for curve, style in zip(panel.curves, figures.method_styles([curve.method for curve in panel.curves]), strict=True):
        label = f"{method_label(curve.method, curve.space)}: {counted(curve.settings, 'setting')}"
        # Up to the mean cost of a complete search, beyond which only the most expensive seeds go on.
        within = curve.cost < curve.total
        cost, mean = np.append(curve.cost[within], curve.total), np.append(curve.mean[within], curve.final) * factor
        if len(panel.curves) <= figures.MAX_BANDS:
            # Below the curve, so that bands of other methods do not hide it.
            bounds = curve.low[within] * factor, curve.high[within] * factor
            axis.fill_between(curve.cost[within], *bounds, color=style.color, alpha=style.band_alpha, linewidth=0)
        else:
            _draw_whiskers(axis, curve, style, factor)
        axis.plot(cost, mean, label=label, markevery=[-1], **style.curve)
        if 1 < len(curve.complete) < figures.MANY_SEEDS:
            places, scores = zip(*curve.complete, strict=True)
            hollow = {"markerfacecolor": "none", "markeredgewidth": 0.6, "linestyle": "none"}
            scores_in_unit = [score * factor for score in scores]
            axis.plot(places, scores_in_unit, marker=style.marker, markersize=2.8, color=style.color, zorder=style.zorder + 3, **hollow)
        if curve.default and curve.default.test.mean is not None and curve.default.cost.mean is not None:
            # A hollow marker beside the curve: the default is one trial and bears all shared work alone.
            point = [curve.default.cost.mean], [curve.default.test.mean * factor]
            axis.plot(*point, marker=style.marker, markersize=4 + style.width, markerfacecolor="white", color=style.color, linestyle="none",
                      zorder=style.zorder + 4)  # fmt: skip
    for name, summary, linestyle in (("Vanilla", panel.vanilla, (0, (1, 1.5))), ("Retrain", panel.retrain, (0, (6, 2)))):
        if summary.mean is not None:
            figures.reference_line(axis, summary.mean * factor, f"{name}\n{summary.mean * factor:.1f}", linestyle)
    figures.log_axis(axis)


def _draw_whiskers(axis: figures.Axes, curve: CostCurve, style: figures.LineStyle, factor: float) -> None:
    """Draws the range of the band at three budgets, evenly spaced on the logarithmic axis."""
    inside = [index for index, cost in enumerate(curve.cost) if 0 < cost < curve.total]
    if not inside:
        return
    logs = np.log(curve.cost[inside])
    # At fractions of the range that differ from those of an end, where the markers are.
    places = sorted({inside[int(np.abs(logs - (logs[0] + part * (logs[-1] - logs[0]))).argmin())] for part in (0.2, 0.5, 0.8)})
    # The expectation may lie outside the percentiles if few orders end far from the others.
    mean, low, high = (values[places] * factor for values in (curve.mean, curve.low, curve.high))
    reach = np.stack([np.maximum(mean - low, 0), np.maximum(high - mean, 0)])
    axis.errorbar(
        curve.cost[places], mean, yerr=reach, linestyle="none", color=style.color, elinewidth=0.8, capsize=2, zorder=style.zorder - 1
    )

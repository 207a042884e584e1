"""Accuracy reached against tuning cost: how much compute, or how many trials, a search needs before its choice is good.

Lines are expectations over random orders of a search's settings, mean over the seeds (`analysis.tuning.head_to_head`); the band holds 80 % of
outcomes over orders and seeds; the marker at a line's end is the whole search, the hollow one the default setting by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.plots import style as ink
from analysis.store.labels import MEASURES, REFERENCES, RETRAIN, counted, method_label
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning.anytime import CostItems, Unit, seconds_comparable
from analysis.tuning.head_to_head import BAND, anytime_curve, band, method_searches
from analysis.tuning.headline import RULE, Default, default_of

HOW = (
    "Setting chosen by {rule}, expected over random orders of the settings. Band: {low:.0f} to {high:.0f} % of outcomes over orders "
    "and seeds. Hollow: default setting by itself. Cost: {cost}."
)

_COST: dict[Unit, str] = {
    "seconds": "compute seconds of jobs with cores (or a GPU) of their own, preparation first",
    "flops": "FLOPs, because jobs shared their cores or GPU; preparation first",
    "trials": "trials, exact over all orders",
}
_AXIS: dict[Unit, str] = {
    "seconds": "Tuning cost per seed (seconds)", "flops": "Tuning cost per seed (GFLOP)", "trials": "Trials",
}  # fmt: skip
_SCALE: dict[Unit, float] = {"seconds": 1.0, "flops": 1e-9, "trials": 1.0}
_POINTS = 120


@dataclass(frozen=True)
class CostCurve:
    """One search over the seeds. Scores as stored (fractions or R²)."""

    method: str
    space: str | None
    seeds: int
    settings: int
    cost: np.ndarray  # [B] budgets: seconds, GFLOP or trials
    mean: np.ndarray  # [B]
    low: np.ndarray  # [B] the band
    high: np.ndarray  # [B]
    default: Default | None  # its cost in the unit of the budgets


@dataclass(frozen=True)
class CostPanel:
    """One cell of the sweep."""

    cell: str
    title: str
    measure: str
    unit: Unit  # of every panel's costs
    seeds: int
    vanilla: Summary
    retrain: Summary
    curves: tuple[CostCurve, ...]


def cost_panels(results: Results, trials: bool = False, rule: str = RULE) -> tuple[CostPanel, ...]:
    """The numbers of the figure, one panel per cell that has a curve. In FLOPs throughout as soon as one search has no honest seconds.

    Raises:
        UserError: the store is a smoke run's.
    """
    swept = cells(results)
    searches = [search for cell in swept for key, many in cell.methods.items() if key[0] not in REFERENCES for search in many]
    unit: Unit = "trials" if trials else "seconds" if seconds_comparable(searches, CostItems()) else "flops"
    found = tuple(_panel(results, cell, rule, unit) for cell in swept)
    return tuple(panel for panel in found if panel.curves)


def _panel(results: Results, cell: CellResult, rule: str, unit: Unit) -> CostPanel:
    test = score_column("test_oracle", cell.measure)
    references = [search.choose(rule).row for (method, _), searches in cell.methods.items() if method == RETRAIN for search in searches]
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
    """None when no search has a curve or a cost."""
    one = method_searches(results, method, space, searches, rule, unit)
    if one is None:
        return None
    curve, scale = anytime_curve(one, CostItems(), _POINTS), _SCALE[unit]
    budgets, mean = curve.budgets, curve.test.mean(axis=0)
    low, high = band(one, CostItems(), budgets)
    default = default_of(results, one, rule)
    shown = None if default is None else Default(default.test, default.cost.times(scale))
    return CostCurve(method, space, len(one.seeds), one.settings, budgets * scale, mean, low, high, shown)


def numbers(results: Results, trials: bool = False) -> str:
    """The curves as CSV."""
    found = cost_panels(results, trials)
    unit = {"flops": "giga_flops"}.get(found[0].unit, found[0].unit) if found else "seconds"
    lines = [f"cell,method,space,settings,{unit},expected_test,low_{100 * BAND[0]:.0f},high_{100 * BAND[1]:.0f}"]
    for panel in found:
        for curve in panel.curves:
            for values in zip(curve.cost, curve.mean, curve.low, curve.high, strict=True):
                place = [panel.cell, curve.method, curve.space or "", str(curve.settings)]
                lines.append(",".join([*place, *(f"{value:.8g}" for value in values)]))
    return "\n".join(lines) + "\n"


def draw(results: Results, page: ink.Page = ink.TWO, trials: bool = False) -> ink.Figure | None:
    """The figure; None when the store has no curve yet."""
    found = cost_panels(results, trials)
    if not found:
        return None
    figure, axes = ink.panels(len(found), page)
    for axis, panel in zip(axes, found, strict=True):
        _draw_panel(axis, panel)
    measure, unit = MEASURES[found[0].measure], found[0].unit
    subtitles = [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found]
    against = "number of trials" if trials else "tuning cost"
    ink.headings(figure, f"Test {measure.name} reached against {against}", subtitles, page)
    ink.labels(axes, _AXIS[unit], f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    ink.legend_below(figure, HOW.format(rule=RULE, low=100 * BAND[0], high=100 * BAND[1], cost=_COST[unit]), page)
    return figure


def draw_trials(results: Results, page: ink.Page = ink.TWO) -> ink.Figure | None:
    """The same by the number of trials."""
    return draw(results, page, trials=True)


def _draw_panel(axis: ink.Axes, panel: CostPanel) -> None:
    factor = MEASURES[panel.measure].factor
    for curve, style in zip(panel.curves, ink.styles([curve.method for curve in panel.curves]), strict=True):
        label = f"{method_label(curve.method, curve.space)}: {counted(curve.settings, 'setting')}"
        axis.fill_between(curve.cost, curve.low * factor, curve.high * factor, color=style.color, alpha=style.band, linewidth=0)
        axis.plot(curve.cost, curve.mean * factor, label=label, markevery=[-1], **style.curve)
        if curve.default and curve.default.test.mean is not None and curve.default.cost.mean is not None:
            point = [curve.default.cost.mean], [curve.default.test.mean * factor]
            axis.plot(*point, marker=style.marker, markersize=4 + style.width, markerfacecolor="white", color=style.color, linestyle="none",
                      zorder=style.front + 4)  # fmt: skip
    for name, summary, line in (("Vanilla", panel.vanilla, (0, (1, 1.5))), ("Retrain", panel.retrain, (0, (6, 2)))):
        if summary.mean is not None:
            ink.level(axis, summary.mean * factor, f"{name}\n{summary.mean * factor:.1f}", line)
    ink.log_axis(axis)

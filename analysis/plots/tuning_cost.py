"""Accuracy reached against tuning cost: how much compute a search needs before its choice is good.

Lines are expectations over all orders of a search's settings (see `analysis.tuning_cost`), mean over seeds, with a band of one standard
deviation; the marker at a line's end is the whole search. Numbers first, ink second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.cells import Cell, cells
from analysis.choose import score_column
from analysis.labels import MEASURES, REFERENCES, RETRAIN, counted, method_label
from analysis.load import Results
from analysis.plots import ink
from analysis.stats import Summary, summarise
from analysis.tables.notes import cell_title
from analysis.tuning_cost import Curve, Unit, as_run, expected, unit_of

RULE = "val_noisy"

HOW = (
    f"Setting chosen by {RULE}, expected over all orders of the settings; mean ± 1 std\n"
    "over the seeds. Each setting with its share of common work.\n"
    "Cost: {cost}."
)

_COST: dict[Unit, str] = {
    "seconds": "compute seconds of jobs with cores (or a GPU) of their own",
    "flops": "FLOPs, because jobs shared their cores or GPU",
}
_AXIS: dict[Unit, str] = {"seconds": "seconds", "flops": "GFLOP"}
_SCALE: dict[Unit, float] = {"seconds": 1.0, "flops": 1e-9}


@dataclass(frozen=True)
class CostCurve:
    """One search over the seeds; entry k - 1 of each array is the state after k settings. Scores as stored (fractions or R²)."""

    method: str
    space: str | None
    seeds: int
    cost: np.ndarray  # [K], seconds or GFLOP
    mean: np.ndarray  # [K]
    std: np.ndarray  # [K], zeros when there is one seed
    as_run: Curve  # the same in the settings' real order


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


def cost_panels(results: Results, rule: str = RULE) -> tuple[CostPanel, ...]:
    """The numbers of the figure, one panel per cell that has a curve. In FLOPs throughout as soon as one search has no honest seconds.

    Raises:
        UserError: the store is a smoke run's.
    """
    swept = cells(results)
    unit = unit_of(search for cell in swept for key, searches in cell.methods.items() if key[0] not in REFERENCES for search in searches)
    found = tuple(_panel(cell, rule, unit) for cell in swept)
    return tuple(panel for panel in found if panel.curves)


def _panel(cell: Cell, rule: str, unit: Unit) -> CostPanel:
    test = score_column("test_oracle", cell.measure)
    references = [search.choose(rule).row for (method, _), searches in cell.methods.items() if method == RETRAIN for search in searches]
    curves = [_curve(method, space, cell, rule, unit) for method, space in cell.methods if method not in REFERENCES]
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


def _curve(method: str, space: str | None, cell: Cell, rule: str, unit: Unit) -> CostCurve | None:
    """The searches' mean after k settings, for the k that all of them reached; None when no search has a curve or a cost."""
    pairs = [(expected(search, rule, unit), as_run(search, rule, unit)) for search in cell.methods[method, space]]
    known = [(over_orders, ran) for over_orders, ran in pairs if over_orders and ran and np.isfinite(over_orders.cost).all()]
    if not known:
        return None
    over_orders, ran = _stacked([pair[0] for pair in known]), _stacked([pair[1] for pair in known])
    std_K = over_orders.test.std(axis=0, ddof=1) if len(known) > 1 else np.zeros(over_orders.test.shape[1])
    as_run_mean = Curve(ran.cost.mean(axis=0) * _SCALE[unit], ran.test.mean(axis=0))
    cost_K = over_orders.cost.mean(axis=0) * _SCALE[unit]
    return CostCurve(method, space, len(known), cost_K, over_orders.test.mean(axis=0), std_K, as_run_mean)


def _stacked(curves: Sequence[Curve]) -> Curve:
    """The curves as [seeds, K], cut to the shortest."""
    shortest = min(len(curve.test) for curve in curves)
    return Curve(np.stack([curve.cost[:shortest] for curve in curves]), np.stack([curve.test[:shortest] for curve in curves]))


def numbers(results: Results) -> str:
    """The curves as CSV: expected over all orders, and the settings' real order (`as_run_*`), each averaged over the seeds."""
    found = cost_panels(results)
    unit = "giga_flops" if found and found[0].unit == "flops" else "seconds"
    lines = [f"cell,method,space,settings,{unit},expected_test,expected_test_std,as_run_{unit},as_run_test"]
    for panel in found:
        for curve in panel.curves:
            for k, values in enumerate(zip(curve.cost, curve.mean, curve.std, curve.as_run.cost, curve.as_run.test, strict=True), start=1):
                lines.append(",".join([panel.cell, curve.method, curve.space or "", str(k), *(f"{value:.8g}" for value in values)]))
    return "\n".join(lines) + "\n"


def draw(results: Results) -> ink.Figure | None:
    """The figure; None when the store has no curve yet."""
    found = cost_panels(results)
    if not found:
        return None
    figure, axes = ink.panels(len(found))
    for axis, panel in zip(axes, found, strict=True):
        _draw_panel(axis, panel)
    measure, unit = MEASURES[found[0].measure], found[0].unit
    subtitles = [f"{panel.title}; n = {counted(panel.seeds, 'seed')}" for panel in found]
    ink.headings(figure, f"Test {measure.name} reached against tuning cost", subtitles)
    ink.labels(axes, f"Tuning cost per seed ({_AXIS[unit]})", f"Test {measure.name}" + (f" ({measure.unit})" if measure.unit else ""))
    ink.legend_below(figure, HOW.format(cost=_COST[unit]))
    return figure


def _draw_panel(axis: ink.Axes, panel: CostPanel) -> None:
    factor = MEASURES[panel.measure].factor
    for curve, style in zip(panel.curves, ink.styles([curve.method for curve in panel.curves]), strict=True):
        mean_K, std_K = curve.mean * factor, curve.std * factor
        label = f"{method_label(curve.method, curve.space)}: {counted(len(mean_K), 'setting')}"
        axis.fill_between(curve.cost, mean_K - std_K, mean_K + std_K, color=style.color, alpha=style.band, linewidth=0)
        axis.plot(curve.cost, mean_K, label=label, markevery=[-1], **style.curve)
    for name, summary, line in (("Vanilla", panel.vanilla, (0, (1, 1.5))), ("Retrain", panel.retrain, (0, (6, 2)))):
        if summary.mean is not None:
            ink.level(axis, summary.mean * factor, f"{name}\n{summary.mean * factor:.1f}", line)
    ink.log_axis(axis)

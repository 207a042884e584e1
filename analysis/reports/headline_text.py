"""The one-page report on tuning cost: sentences and three tables per cell, from the numbers of `analysis.tuning.headline`.

Every sentence is generated from the numbers, so that the text cannot contradict the tables when a store changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from analysis.store.labels import DASH, MEASURES, MISSING, counted, mean_std, method_label, number, plain, seconds
from analysis.store.load import Results
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.notes import BOUNDARY_MARK, cell_title
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.alpha import TOLERANCE, Transfer, good_range
from analysis.tuning.anytime import NUM_ORDERS, Unit
from analysis.tuning.head_to_head import BAND, RESAMPLES, TARGETS, CostRatio
from analysis.tuning.headline import COST_ITEM_SETS, RULE, TRIALS, Headline, HeadToHead, SearchSummary, all_transfers, headlines
from analysis.tuning.power import POWER

_UNITS: dict[Unit, tuple[str, float]] = {
    "seconds": ("s", 1.0),
    "flops": ("GFLOP", 1e-9),
    "passes": ("sample-passes", 1.0),
    "trials": ("", 1),
}
"""Unit of cost -> (symbol, factor from the stored to the printed value)."""

_NEVER = "never"


def headline_tables(results: Results) -> tuple[Table, ...]:
    """Three tables per cell, with the sentences as notes of the first; empty if the store has no search."""
    found = headlines(results)
    # Transfers are between cells, so they are computed once for all of them.
    transfers = all_transfers(results)
    return tuple(
        table
        for headline in found
        for table in (_performance_table(headline, transfers, results.problems), _cost_table(headline), *_comparison_tables(headline))
    )


def sentences(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    """The report of one cell as sentences, the main result first."""
    return [
        *_main_result(headline),
        *_defaults(headline),
        *_boundary_values(headline),
        *_optimism(headline),
        *_alphas(headline, transfers),
        f"{RULE}: {RULES[RULE].format(score=MEASURES[headline.cell.measure].name)}. {TIES}",
        _method(headline),
        "Search spaces by hash (fixed in the plan before the first trial): "
        + ", ".join(f"{_label(summary)} {'/'.join(summary.hashes) or MISSING}" for summary in headline.summaries)
        + ".",
    ]


def _main_result(headline: Headline) -> list[str]:
    """SAP compared with SCRUB, or with the most expensive other corrector if there is no SCRUB."""
    # SAP's other spaces are compared in the table, not in the main sentence.
    others = [comparison for comparison in headline.comparisons if comparison.method != "sap"]
    if headline.sap is None or not others:
        return []
    # SCRUB is the paper's main comparison.
    comparison = next((comparison for comparison in others if comparison.method == "scrub"), max(others, key=lambda other: other.total))
    ours, theirs, points = _label(headline.sap), _label(comparison), _points(headline)
    return [
        *_cost_sentences(headline, comparison, ours, theirs),
        _equal_budget_sentence(headline, comparison, ours, theirs),
        _difference_sentence(headline, comparison, ours, theirs, points),
    ]


def _cost_sentences(headline: Headline, comparison: HeadToHead, ours: str, theirs: str) -> list[str]:
    # The first set of cost items is the main one, the others show how much depends on that choice.
    main, *rest = ((name, comparison.cost[name]) for name in COST_ITEM_SETS)
    # A ratio to a target that one of the two never reaches would be meaningless.
    if math.isnan(main[1].value):
        return [f"{ours} or {theirs} gains nothing over the unmodified models, so costs cannot be compared at a common target."]
    gain = f"{main[1].target * _points(headline):.2f} {_noun(headline)}"
    return [
        f"To reach {_percent(TARGETS[1])} of the smaller of the two best gains ({gain}), {theirs} needs {_ratio(main[1])} times the "
        f"{_amount(headline)} of {ours} (95 % interval {_interval(main[1])}), and {_ratio(comparison.trials)} times the trials "
        f"({_interval(comparison.trials)}). Its space has {comparison.settings:.3g} times as many settings, and its complete search costs "
        f"{comparison.total:.3g} times as much.",
        "With other cost items: " + "; ".join(f"{name} {_ratio(ratio)} ({_interval(ratio)})" for name, ratio in rest) + ".",
    ]


def _equal_budget_sentence(headline: Headline, comparison: HeadToHead, ours: str, theirs: str) -> str:
    unit, scale = _UNITS[headline.unit]
    # SAP's complete search is the smaller budget where it is the cheaper one; both budgets are named with their amounts.
    (small, early), (large, late) = comparison.probability_ahead
    return (
        f"At equal budget, {ours} has the better test score with probability {early:.2f} at the cost of its complete search "
        f"({seconds(small * scale)} {unit}), and {late:.2f} at that of {theirs} ({seconds(large * scale)} {unit})."
    )


def _difference_sentence(headline: Headline, comparison: HeadToHead, ours: str, theirs: str, points: float) -> str:
    difference, seeds = comparison.difference.times(points), counted(comparison.difference.n, "seed")
    above = "above" if (difference.mean or 0) >= 0 else "below"
    needed = comparison.seeds_needed
    # A difference of zero, or of one seed, has no such number.
    seeds_needed = "" if needed is None else f"; a true difference of this size would need {counted(needed, 'seed')}"
    return (
        f"The complete search of {theirs} ends {abs(difference.mean or 0):.2f} {_noun(headline)} {above} that of {ours} (paired over "
        f"{seeds}). With this standard deviation, {seeds} detect a true difference of {_finite(comparison.detectable_difference * points)} "
        f"or more in {POWER * 100:.0f} % of cases{seeds_needed}."
    )


def _defaults(headline: Headline) -> list[str]:
    factor = _factor(headline)
    # A default can be judged only if the space contains it, because defaults are not run on their own.
    known = [
        f"{_label(summary)} {number((summary.default.test.mean or 0) * factor, 2)} "
        f"(complete search {number((summary.final.mean or 0) * factor, 2)})"
        for summary in headline.summaries
        if summary.default is not None
    ]
    # Named, because a method without a default would otherwise be missing from the sentence without a reason.
    lacking = [_label(summary) for summary in headline.summaries if summary.default is None]
    found = [f"Test score without a search, with the default setting of each method: {', '.join(known)}."] if known else []
    return found + ([f"Default not in the space, or not recorded in the store: {', '.join(lacking)}."] if lacking else [])


def _boundary_values(headline: Headline) -> list[str]:
    found = []
    for summary in headline.summaries:
        values = [f"{value.field} = {plain(value.value)} ({value.side})" for value in summary.boundary_values]
        if values:
            found.append(f"{_label(summary)} {', '.join(values)}")
    if not found:
        return []
    return [
        f"{BOUNDARY_MARK} Selected values at the boundary of their search range, where a wider space might be better: {'; '.join(found)}."
    ]


def _optimism(headline: Headline) -> list[str]:
    bounds = [f"{_label(summary)} {100 * summary.optimism:.2f}" for summary in headline.summaries if not math.isnan(summary.optimism)]
    if not bounds:
        return []
    # The bound assumes independent errors, so what was measured is printed beside it.
    measured = [
        f"{_label(summary)} {number(100 * summary.measured_optimism.mean, 2, sign=True)}"
        for summary in headline.summaries
        if summary.measured_optimism.mean is not None
    ]
    measured_text = (
        f" Measured as the selected score on the correctly labelled validation samples minus the test score: {', '.join(measured)}."
        if measured
        else ""
    )
    return [
        f"Optimism (winner's curse): with {headline.validation} validation samples, the best score of a search is too high by at most "
        f"(points) {', '.join(bounds)}, the values for equally good settings with independent errors. No table shows such a score as a "
        f"result.{measured_text}"
    ]


def _alphas(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    found = []
    for curve in headline.curves:
        good = good_range(curve)
        # Ranges are stated for spaces that vary alpha alone; in crossed spaces there is one range per combination.
        if good and not curve.others and headline.cell.measure == "acc":
            ends = [f"the {side} end of the space" for side, is_open in (("lower", good.open_low), ("upper", good.open_high)) if is_open]
            found.append(
                f"{method_label(curve.method, curve.space)}: {good.count} of {len(curve.alphas)} alphas are within "
                f"{100 * TOLERANCE:g} point of the best ({plain(good.best)}), from {plain(good.low)} to {plain(good.high)}, a factor of "
                f"{good.width:.3g}"
                f"{'; the range is cut off at ' + ' and '.join(ends) if ends else ''}."
            )
    for (method, space), pairs in transfers.items():
        # The loss of using others' alphas here, not that of using this cell's alpha elsewhere.
        own = [pair for pair in pairs if pair.cell == headline.cell.name]
        # A store of one cell has no other alphas to try.
        if own:
            loss = summarise(pair.loss for pair in own)
            worst = max(own, key=lambda pair: pair.loss)
            found.append(
                f"{method_label(method, space)} with the alpha of another cell in place of tuning loses "
                f"{100 * (loss.mean or 0):.2f} points on average over {counted(len(own), 'other cell')}, and at most "
                f"{100 * worst.loss:.2f} (alpha of {worst.origin})."
            )
    return found


def _method(headline: Headline) -> str:
    # The conditions of the measurement belong to the numbers, so they are printed with every report.
    unit = {
        "seconds": f"Seconds are of {headline.device}, with exclusive cores (or GPU) for each job",
        "flops": "Costs are in FLOPs, because jobs shared their device",
    }
    spread = "" if headline.by_phase else " The store has no costs by phase, so preparation is spread over the settings."
    return (
        f"{unit.get(headline.unit, headline.unit)}. Trials are drawn without replacement and are exact over all orders; costs are averaged "
        f"over {NUM_ORDERS} random orders. Bands are the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % quantiles over orders and seeds: the "
        f"results that single searches obtain, not a confidence interval. Intervals of ratios are bootstrapped over seeds with {RESAMPLES} "
        f"resamples. Preparation is spent before the first setting; the training of the baseline counts only where named.{spread}"
    )


def _performance_table(
    headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]], problems: Sequence[str]
) -> Table:
    measure, factor = MEASURES[headline.cell.measure], _factor(headline)
    unit = f" ({measure.unit})" if measure.unit else ""
    columns = [
        Column("method", "Method", numeric=False),
        Column("settings", "Settings"),
        Column("default_test", "default", f"Expected test {measure.name}{unit} after trials"),
        *(Column(f"test_{k}", str(k), f"Expected test {measure.name}{unit} after trials") for k in TRIALS),
        Column("test_all", "all", f"Expected test {measure.name}{unit} after trials"),
        Column("unmodified_kept", "Kept vanilla", numeric=False),
    ]
    rows = []
    for summary in headline.summaries:
        # A space need not contain the method's default.
        default = None if summary.default is None else summary.default.test.times(factor)
        rows.append(
            (
                FormattedCell(_label(summary), marks=BOUNDARY_MARK if summary.boundary_values else ""),
                FormattedCell(str(summary.settings), summary.settings),
                FormattedCell(MISSING) if default is None else FormattedCell(number(default.mean, 2), default.mean, default.std),
                *(_banded(value, band, factor) for value, band in zip(summary.by_trials, summary.bands, strict=True)),
                FormattedCell(mean_std(*_pair(summary, factor), 2), *_pair(summary, factor)),
                FormattedCell(f"{summary.kept} of {summary.final.n}" if summary.kept else "0"),
            )
        )
    seeds = counted(len(headline.cell.seeds), "seed")
    caption = (
        f"What tuning reaches on {cell_title(headline.cell)}, {seeds}: expected test {measure.name} of the setting selected by {RULE}; "
        f"in brackets the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % band; all: mean ± sample standard deviation over the seeds."
    )
    return Table("headline", headline.cell.name, caption, tuple(columns), tuple(rows), (*sentences(headline, transfers), *problems))


def _banded(value: float | None, band: tuple[float, float] | None, factor: float) -> FormattedCell:
    if value is None or band is None:
        return FormattedCell(MISSING)
    return FormattedCell(f"{value * factor:.1f} ({band[0] * factor:.1f}{DASH}{band[1] * factor:.1f})", value * factor)


def _pair(summary: SearchSummary, factor: float) -> tuple[float | None, float | None]:
    shown = summary.final.times(factor)
    return shown.mean, shown.std


def _cost_table(headline: Headline) -> Table:
    unit, scale = _UNITS[headline.unit]
    # The unit is part of the column's name in CSV.
    suffix = "seconds" if headline.unit == "seconds" else "giga_flops"
    shares = [_percent(share) for share in TARGETS]
    columns = [
        Column("method", "Method", numeric=False),
        Column(f"default_{suffix}", "default", f"Cost ({unit})"),
        Column(f"total_{suffix}", "complete search", f"Cost ({unit})"),
        *(Column(f"{suffix}_to_{100 * share:.0f}", label, f"Cost ({unit}) to a share of the method's best gain")
          for share, label in zip(TARGETS, shares, strict=True)),
        *(Column(f"trials_to_{100 * share:.0f}", label, "Trials to a share of the method's best gain")
          for share, label in zip(TARGETS, shares, strict=True)),
        Column("best_gain_points", f"Best gain{' (points)' if headline.cell.measure == 'acc' else ''}"),
    ]  # fmt: skip
    rows = []
    for summary in headline.summaries:
        # The default stands alone and bears all shared work that it uses, so its cost may exceed a share of the search's.
        default = None if summary.default is None or summary.default.cost.mean is None else summary.default.cost.mean * scale
        rows.append(
            (
                FormattedCell(_label(summary)),
                FormattedCell(seconds(default), default),
                FormattedCell(seconds(summary.total * scale), summary.total * scale),
                *(_to(value, scale, seconds) for value in summary.cost_to),
                *(_to(value, 1.0, lambda value: number(value, 0)) for value in summary.trials_to),
                FormattedCell(number(summary.best_gain * _points(headline), 2, sign=True), summary.best_gain * _points(headline)),
            )
        )
    caption = f"What tuning costs on {cell_title(headline.cell)}: mean over the seeds, own work and preparation; the default standalone."
    return Table("headline-cost", headline.cell.name, caption, tuple(columns), tuple(rows))


def _to(value: float, scale: float, show: Callable[[float], str]) -> FormattedCell:
    # The text `never` has no number behind it, so that CSV has no infinities.
    return FormattedCell(_NEVER) if math.isinf(value) else FormattedCell(show(value * scale), value * scale)


def _comparison_tables(headline: Headline) -> tuple[Table, ...]:
    if headline.sap is None or not headline.comparisons:
        return ()
    columns = (
        Column("method", "Method", numeric=False),
        Column("settings_ratio", "settings", "As a multiple of SAP's"),
        Column("cost_ratio", "total cost", "As a multiple of SAP's"),
        Column("target_ratio", f"cost to {_percent(TARGETS[1])}", "As a multiple of SAP's"),
        Column("target_interval", "95 % interval", "As a multiple of SAP's", numeric=False),
        Column("sap_ahead_small", "at SAP's cost", "P(SAP ahead)"),
        Column("sap_ahead_large", "at the other's", "P(SAP ahead)"),
        Column("difference_points", "Difference"),
        Column("detectable_points", "Detectable"),
        Column("seeds_needed", "Seeds needed"),
    )
    points, main = _points(headline), next(iter(COST_ITEM_SETS))
    rows = tuple(_comparison_row(comparison, comparison.cost[main], points) for comparison in headline.comparisons)
    caption = (
        f"Each search compared with {_label(headline.sap)} (SAP in this table) on {cell_title(headline.cell)}. Cost to "
        f"{_percent(TARGETS[1])} of the smaller best gain. Difference: test score of the other complete search minus SAP's, paired by "
        f"seed. Detectable: the smallest true difference that this number of seeds detects in {POWER * 100:.0f} % of cases (two-sided "
        f"paired t-test at 5 %). Seeds needed: to detect a true difference of the size found."
    )
    return (Table("headline-comparisons", headline.cell.name, caption, columns, rows),)


def _comparison_row(comparison: HeadToHead, ratio: CostRatio, points: float) -> tuple[FormattedCell, ...]:
    difference = comparison.difference.times(points)
    return (
        FormattedCell(_label(comparison)),
        FormattedCell(f"{comparison.settings:.3g}", comparison.settings),
        FormattedCell(f"{comparison.total:.3g}", comparison.total),
        FormattedCell(_ratio(ratio), None if math.isnan(ratio.value) else ratio.value),
        FormattedCell(_interval(ratio)),
        *(FormattedCell(f"{chance:.2f}", chance) for _, chance in comparison.probability_ahead),
        FormattedCell(mean_std(difference.mean, difference.std, 2, sign=True), difference.mean, difference.std),
        FormattedCell(
            _finite(comparison.detectable_difference * points),
            None if math.isinf(comparison.detectable_difference) else comparison.detectable_difference * points,
        ),
        FormattedCell(MISSING if comparison.seeds_needed is None else str(comparison.seeds_needed), comparison.seeds_needed),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _label(search: SearchSummary | HeadToHead) -> str:
    return method_label(search.method, search.space)


def _ratio(ratio: CostRatio) -> str:
    return MISSING if math.isnan(ratio.value) else f"{ratio.value:.3g}"


def _interval(ratio: CostRatio) -> str:
    return MISSING if math.isnan(ratio.low) else f"{ratio.low:.3g} to {_finite(ratio.high)}"


def _finite(value: float) -> str:
    return "infinity" if math.isinf(value) else MISSING if math.isnan(value) else f"{value:.3g}"


def _amount(headline: Headline) -> str:
    return {"seconds": "seconds", "flops": "FLOPs"}.get(headline.unit, headline.unit)


def _factor(headline: Headline) -> float:
    return MEASURES[headline.cell.measure].factor


def _points(headline: Headline) -> float:
    return _factor(headline)


def _noun(headline: Headline) -> str:
    return "points" if headline.cell.measure == "acc" else "of R²"

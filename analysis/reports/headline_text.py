"""The one-page report on tuning cost: sentences made from the numbers of `analysis.tuning.headline`, and three tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from analysis.store.labels import DASH, MEASURES, MISSING, counted, mean_std, method_label, number, plain, seconds
from analysis.store.load import Results
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.notes import EDGE, cell_title
from analysis.tables.render import Cell, Column, Table
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
_NEVER = "never"


def page(results: Results) -> tuple[Table, ...]:
    """Three tables per cell; the sentences stand under the first. Empty where the store has no search."""
    headline = headlines(results)
    transfers = all_transfers(results)
    return tuple(
        table for each in headline for table in (_reach(each, transfers, results.problems), _cost(each), *_comparison_tables(each))
    )


def sentences(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    """The report in words, the headline first."""
    return [
        *_headline(headline),
        *_defaults(headline),
        *_edges(headline),
        *_doubts(headline),
        *_alphas(headline, transfers),
        f"{RULE}: {RULES[RULE].format(score=MEASURES[headline.cell.measure].name)}. {TIES}",
        _method(headline),
        "Search spaces, by their hashes (in the plan before the first trial): "
        + ", ".join(f"{_label(summary)} {'/'.join(summary.hashes) or MISSING}" for summary in headline.summaries)
        + ".",
    ]


def _headline(headline: Headline) -> list[str]:
    """SAP against SCRUB, or against the dearest other corrector where there is no SCRUB."""
    others = [comparison for comparison in headline.comparisons if comparison.method != "sap"]
    if headline.sap is None or not others:
        return []
    comparison = next(
        (comparison for comparison in others if comparison.method == "scrub"), max(others, key=lambda comparison: comparison.total)
    )
    ours, theirs, (unit, scale), points = _label(headline.sap), _label(comparison), _UNITS[headline.unit], _points(headline)
    main, *rest = ((name, comparison.cost[name]) for name in COST_ITEM_SETS)
    n = comparison.difference.n
    sentences_found = []
    if math.isnan(main[1].value):
        sentences_found.append(
            f"{ours} or {theirs} gains nothing over the unmodified models, so there is no common target to compare costs at."
        )
    else:
        share = _percent(TARGETS[1])
        sentences_found.append(
            f"To {share} of the smaller of the two best gains ({main[1].target * points:.2f} {_word(headline)}), {theirs} needs "
            f"{_ratio(main[1])} times the {_amount(headline)} of {ours} (95 % interval {_interval(main[1])}); in trials "
            f"{_ratio(comparison.trials)} times ({_interval(comparison.trials)}). The plain ratio of settings is {comparison.settings:.3g}, "
            f"that of whole searches' costs {comparison.total:.3g}."
        )
        sentences_found.append(
            "Counted otherwise: " + "; ".join(f"{name} {_ratio(ratio)} ({_interval(ratio)})" for name, ratio in rest) + "."
        )
    (small, early), (large, late) = comparison.probability_ahead
    sentences_found.append(
        f"At equal budget the better test score is {ours}'s with probability {early:.2f} when both have spent what its whole search costs "
        f"({seconds(small * scale)} {unit}), and {late:.2f} when both have spent what {theirs} costs ({seconds(large * scale)} {unit})."
    )
    difference = comparison.difference.times(points)
    above = "above" if (difference.mean or 0) >= 0 else "below"
    seeds_needed = (
        "" if comparison.seeds_needed is None else f"; a true gap of this size would take {counted(comparison.seeds_needed, 'seed')}"
    )
    sentences_found.append(
        f"The whole search of {theirs} ends {abs(difference.mean or 0):.2f} {_word(headline)} {above} that of {ours} "
        f"(paired over {counted(n, 'seed')}). With this spread {counted(n, 'seed')} show a gap of "
        f"{_finite(comparison.detectable_difference * points)} or more in {POWER * 100:.0f} % of cases{seeds_needed}."
    )
    return sentences_found


def _defaults(headline: Headline) -> list[str]:
    factor = _factor(headline)
    known = [
        f"{_label(summary)} {number((summary.default.test.mean or 0) * factor, 2)} (whole search {number((summary.final.mean or 0) * factor, 2)})"
        for summary in headline.summaries
        if summary.default is not None
    ]
    lacking = [_label(summary) for summary in headline.summaries if summary.default is None]
    sentences_found = [f"Without a search, by each method's default setting alone: {', '.join(known)}."] if known else []
    return sentences_found + (
        [f"The default is no setting of the space (or the store does not say it) of {', '.join(lacking)}."] if lacking else []
    )


def _edges(headline: Headline) -> list[str]:
    at = [
        f"{_label(summary)} {', '.join(f'{boundary.field} = {plain(boundary.value)} ({boundary.side})' for boundary in summary.boundary_values)}"
        for summary in headline.summaries
        if summary.boundary_values
    ]
    return [f"{EDGE} Chosen values at the end of their range, where a wider space might do better: {'; '.join(at)}."] if at else []


def _doubts(headline: Headline) -> list[str]:
    """The winner's curse."""
    bounds = [f"{_label(summary)} {100 * summary.optimism:.2f}" for summary in headline.summaries if not math.isnan(summary.optimism)]
    if not bounds:
        return []
    seen = [
        f"{_label(summary)} {number(100 * summary.measured_optimism.mean, 2, sign=True)}"
        for summary in headline.summaries
        if summary.measured_optimism.mean is not None
    ]
    measured = f" Measured, on the validation samples with true labels, chosen score minus test score: {', '.join(seen)}." if seen else ""
    return [
        f"Winner's curse: with {headline.validation} validation samples the best score of a search flatters by up to (points) "
        f"{', '.join(bounds)}, if settings were equally good and erred independently. No such score is shown as a result.{measured}"
    ]


def _alphas(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    sentences_found = []
    for curve in headline.curves:
        good = good_range(curve)
        if good and not curve.others and headline.cell.measure == "acc":
            ends = [f"the {side} end of the space" for side, is_open in (("lower", good.open_low), ("upper", good.open_high)) if is_open]
            sentences_found.append(
                f"{method_label(curve.method, curve.space)}: within {100 * TOLERANCE:g} point of the best alpha ({plain(good.best)}) lie "
                f"{good.count} of {len(curve.alphas)} alphas, {plain(good.low)} to {plain(good.high)}, a factor of {good.width:.3g}"
                f"{'; it is cut off at ' + ' and '.join(ends) if ends else ''}."
            )
    for (method, space), pairs in transfers.items():
        owned = [pair for pair in pairs if pair.cell == headline.cell.name]
        if owned:
            loss = summarise(pair.loss for pair in owned)
            worst = max(owned, key=lambda pair: pair.loss)
            sentences_found.append(
                f"{method_label(method, space)} with alpha taken from another cell in place of tuning loses "
                f"{100 * (loss.mean or 0):.2f} points on average over {counted(len(owned), 'other cell')}, "
                f"{100 * worst.loss:.2f} at worst (from {worst.origin})."
            )
    return sentences_found


def _method(headline: Headline) -> str:
    unit = {
        "seconds": f"Seconds are of {headline.device}, jobs with cores (or a GPU) of their own",
        "flops": "FLOPs, because jobs shared their device",
    }
    spread = "" if headline.by_phase else " The store tells no costs by phase, so preparation is spread over the settings."
    return (
        f"{unit.get(headline.unit, headline.unit)}. Trials are drawn without replacement, exact over all orders; costs over {NUM_ORDERS} random "
        f"orders. "
        f"Bands are the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % of outcomes over orders and seeds: what one search may come to, no "
        f"confidence interval. Intervals of ratios: bootstrap over seeds, {RESAMPLES} resamples. Preparation is paid before the first "
        f"setting; the baseline's training is left out unless named.{spread}"
    )


def _reach(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]], problems: Sequence[str]) -> Table:
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
        default = None if summary.default is None else summary.default.test.times(factor)
        rows.append(
            (
                Cell(_label(summary), marks=EDGE if summary.boundary_values else ""),
                Cell(str(summary.settings), summary.settings),
                Cell(MISSING) if default is None else Cell(number(default.mean, 2), default.mean, default.std),
                *(_banded(value, band, factor) for value, band in zip(summary.by_trials, summary.bands, strict=True)),
                Cell(mean_std(*_pair(summary, factor), 2), *_pair(summary, factor)),
                Cell(f"{summary.kept} of {summary.final.n}" if summary.kept else "0"),
            )
        )
    seeds = counted(len(headline.cell.seeds), "seed")
    caption = (
        f"What tuning reaches on {cell_title(headline.cell)}, {seeds}: expected test {measure.name} of the setting that {RULE} "
        f"chooses; in brackets the {100 * BAND[0]:.0f} to {100 * BAND[1]:.0f} % band; all: mean ± sample standard deviation over the seeds."
    )
    return Table("headline", headline.cell.name, caption, tuple(columns), tuple(rows), (*sentences(headline, transfers), *problems))


def _banded(value: float | None, band: tuple[float, float] | None, factor: float) -> Cell:
    if value is None or band is None:
        return Cell(MISSING)
    return Cell(f"{value * factor:.1f} ({band[0] * factor:.1f}{DASH}{band[1] * factor:.1f})", value * factor)


def _pair(summary: SearchSummary, factor: float) -> tuple[float | None, float | None]:
    shown = summary.final.times(factor)
    return shown.mean, shown.std


def _cost(headline: Headline) -> Table:
    unit, scale = _UNITS[headline.unit]
    suffix = "seconds" if headline.unit == "seconds" else "giga_flops"
    shares = [_percent(share) for share in TARGETS]
    columns = [
        Column("method", "Method", numeric=False),
        Column(f"default_{suffix}", "default", f"Cost ({unit})"),
        Column(f"total_{suffix}", "whole search", f"Cost ({unit})"),
        *(Column(f"{suffix}_to_{100 * share:.0f}", told_share, f"Cost ({unit}) to a share of the own best gain")
          for share, told_share in zip(TARGETS, shares, strict=True)),
        *(Column(f"trials_to_{100 * share:.0f}", told_share, "Trials to a share of the own best gain")
          for share, told_share in zip(TARGETS, shares, strict=True)),
        Column("best_gain_points", f"Best gain{' (points)' if headline.cell.measure == 'acc' else ''}"),
    ]  # fmt: skip
    rows = []
    for summary in headline.summaries:
        alone = None if summary.default is None or summary.default.cost.mean is None else summary.default.cost.mean * scale
        rows.append(
            (
                Cell(_label(summary)),
                Cell(seconds(alone), alone),
                Cell(seconds(summary.total * scale), summary.total * scale),
                *(_to(value, scale, seconds) for value in summary.cost_to),
                *(_to(value, 1.0, lambda value: number(value, 0)) for value in summary.trials_to),
                Cell(number(summary.best_gain * _points(headline), 2, sign=True), summary.best_gain * _points(headline)),
            )
        )
    caption = f"What tuning costs on {cell_title(headline.cell)}: mean over the seeds, own work and preparation; the default by itself."
    return Table("headline-cost", headline.cell.name, caption, tuple(columns), tuple(rows))


def _to(value: float, scale: float, show: Callable[[float], str]) -> Cell:
    return Cell(_NEVER) if math.isinf(value) else Cell(show(value * scale), value * scale)


def _comparison_tables(headline: Headline) -> tuple[Table, ...]:
    if headline.sap is None or not headline.comparisons:
        return ()
    columns = (
        Column("method", "Method", numeric=False),
        Column("settings_ratio", "settings", "As a multiple of SAP's"),
        Column("cost_ratio", "whole cost", "As a multiple of SAP's"),
        Column("target_ratio", f"cost to {_percent(TARGETS[1])}", "As a multiple of SAP's"),
        Column("target_interval", "95 % interval", "As a multiple of SAP's", numeric=False),
        Column("sap_ahead_small", "at SAP's cost", "P(SAP ahead)"),
        Column("sap_ahead_large", "at the other's", "P(SAP ahead)"),
        Column("gap_points", "Gap"),
        Column("detectable_points", "Detectable"),
        Column("seeds_needed", "Seeds for this gap"),
    )
    points, main = _points(headline), next(iter(COST_ITEM_SETS))
    rows = tuple(_comparison_row(comparison, comparison.cost[main], points) for comparison in headline.comparisons)
    caption = (
        f"Each search against {_label(headline.sap)} on {cell_title(headline.cell)}, which is SAP here. Cost to "
        f"{_percent(TARGETS[1])} of the smaller best gain. Gap: test score of the other's whole search minus SAP's, "
        f"paired by seed; detectable: the smallest true gap that as many seeds show in {POWER * 100:.0f} % of "
        f"cases (two-sided paired t-test at 5 %)."
    )
    return (Table("headline-duels", headline.cell.name, caption, columns, rows),)


def _comparison_row(comparison: HeadToHead, ratio: CostRatio, points: float) -> tuple[Cell, ...]:
    difference = comparison.difference.times(points)
    return (
        Cell(_label(comparison)),
        Cell(f"{comparison.settings:.3g}", comparison.settings),
        Cell(f"{comparison.total:.3g}", comparison.total),
        Cell(_ratio(ratio), None if math.isnan(ratio.value) else ratio.value),
        Cell(_interval(ratio)),
        *(Cell(f"{chance:.2f}", chance) for _, chance in comparison.probability_ahead),
        Cell(mean_std(difference.mean, difference.std, 2, sign=True), difference.mean, difference.std),
        Cell(
            _finite(comparison.detectable_difference * points),
            None if math.isinf(comparison.detectable_difference) else comparison.detectable_difference * points,
        ),
        Cell(MISSING if comparison.seeds_needed is None else str(comparison.seeds_needed), comparison.seeds_needed),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _label(what: SearchSummary | HeadToHead) -> str:
    return method_label(what.method, what.space)


def _ratio(ratio: CostRatio) -> str:
    return MISSING if math.isnan(ratio.value) else f"{ratio.value:.3g}"


def _interval(ratio: CostRatio) -> str:
    return MISSING if math.isnan(ratio.low) else f"{ratio.low:.3g} to {_finite(ratio.high)}"


def _finite(value: float) -> str:
    return "no end" if math.isinf(value) else MISSING if math.isnan(value) else f"{value:.3g}"


def _amount(headline: Headline) -> str:
    return {"seconds": "seconds", "flops": "FLOPs"}.get(headline.unit, headline.unit)


def _factor(headline: Headline) -> float:
    return MEASURES[headline.cell.measure].factor


def _points(headline: Headline) -> float:
    return _factor(headline)


def _word(headline: Headline) -> str:
    return "points" if headline.cell.measure == "acc" else "of R²"

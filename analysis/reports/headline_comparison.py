"""The sentences of the report on tuning cost that compare SAP with SCRUB, or with the most expensive other corrector."""

from __future__ import annotations

import math

from analysis.reports.headline_format import (
    UNITS,
    bounds_text,
    chance_text,
    decimals_of,
    factor_of,
    interval_text,
    label_of,
    percent,
    ratio_text,
    seeds_text,
    significant,
)
from analysis.store.labels import MISSING, counted, number, seconds
from analysis.tuning.anytime import NUM_ORDERS
from analysis.tuning.head_to_head import TARGETS, CostRatio
from analysis.tuning.headline import COST_ITEM_SETS, Headline, HeadToHead
from analysis.tuning.intervals import FEW_SEEDS, MEAN_METHOD, RATIO_METHOD, STD_METHOD, mean_interval
from analysis.tuning.power import POWER, PairedPower


def main_result(headline: Headline) -> list[str]:
    """SAP compared with SCRUB, or with the most expensive other corrector if there is no SCRUB."""
    # SAP's other spaces are compared in the table, not in the main sentence.
    others = [comparison for comparison in headline.comparisons if comparison.method != "sap"]
    if headline.sap is None or not others:
        return []
    # SCRUB is the paper's main comparison.
    comparison = next(
        (comparison for comparison in others if comparison.method == "scrub"), max(others, key=lambda other: other.total or 0.0)
    )
    ours, theirs = label_of(headline.sap), label_of(comparison)
    return [
        *_cost_sentences(headline, comparison, ours, theirs),
        _equal_budget_sentence(headline, comparison, ours, theirs),
        _difference_sentence(headline, comparison, ours, theirs),
        *_power_sentences(headline, comparison),
        *_by_seed(headline),
    ]


def _cost_sentences(headline: Headline, comparison: HeadToHead, ours: str, theirs: str) -> list[str]:
    # The first set of cost items is the main one, the others show how much depends on that choice.
    (_, main), *rest = ((name, comparison.cost[name]) for name in COST_ITEM_SETS)
    # A ratio to a target that neither of the two reaches would be meaningless.
    if main.value is None:
        return [f"Neither {ours} nor {theirs} gains anything over the unmodified models, so costs cannot be compared at a common target."]
    seeds = counted(len(main.seeds), "seed")
    gain = f"{number((main.target.mean or 0.0) * factor_of(headline), decimals_of(headline))} {_noun(headline)} on average"
    return [
        f"To reach {percent(TARGETS[1])} of the smaller of the two best gains of a seed ({gain}), {theirs} needs {ratio_text(main.value)} "
        f"times the {_amount(headline)} of {ours} ({_interval_text(main)}), and {ratio_text(comparison.trials.value)} times the trials "
        f"({_interval_text(comparison.trials)}). Ratios are geometric means over {seeds}; intervals: {RATIO_METHOD}, n = {len(main.seeds)}."
        f" The space of {theirs} has {comparison.settings:.3g} times as many settings"
        + ("." if comparison.total is None else f", and its complete search costs {comparison.total:.3g} times as much."),
        *_open_seeds(main, ours, theirs),
        "With other cost items: " + "; ".join(f"{name} {ratio_text(ratio.value)} ({_interval_text(ratio)})" for name, ratio in rest) + ".",
    ]


def _open_seeds(ratio: CostRatio, ours: str, theirs: str) -> list[str]:
    """States on how many seeds one of the two searches, or both, never reach the target."""
    seeds = len(ratio.seeds)
    unknown = sum(one.low == 0 and math.isinf(one.high) for one in ratio.seeds)
    above = sum(one.low > 0 and math.isinf(one.high) for one in ratio.seeds)
    below = sum(one.low == 0 and math.isfinite(one.high) for one in ratio.seeds)
    never = "gains nothing and never reaches the target; its complete search is a lower bound of its cost there"
    return [
        *([f"On {above} of {counted(seeds, 'seed')} {theirs} {never}."] if above else []),
        *([f"On {below} of {counted(seeds, 'seed')} {ours} {never}."] if below else []),
        *(
            [f"On {unknown} of {counted(seeds, 'seed')} neither of the two gains anything, so the mean ratio is unknown."]
            if unknown
            else []
        ),
    ]


def _equal_budget_sentence(headline: Headline, comparison: HeadToHead, ours: str, theirs: str) -> str:
    unit, scale = UNITS[headline.unit]
    # SAP's complete search is the smaller budget where it is the cheaper one; both budgets are named with their amounts.
    (small, early), (large, late) = comparison.probability_ahead
    error = max(early.error, late.error)
    return (
        f"At equal budget, {ours} has the better test score with probability {chance_text(early)} at the cost of its complete search "
        f"({seconds(small * scale)} {unit}), and {chance_text(late)} at that of {theirs} ({seconds(large * scale)} {unit}): over pairs of "
        f"{NUM_ORDERS} random orders on {counted(comparison.difference.n, 'seed')}, Monte-Carlo error {_error_text(error)}."
    )


def _difference_sentence(headline: Headline, comparison: HeadToHead, ours: str, theirs: str) -> str:
    differences, decimals = comparison.difference.times(factor_of(headline)), decimals_of(headline)
    mean, seeds = differences.mean or 0.0, counted(comparison.difference.n, "seed")
    text = number(abs(mean), decimals)
    where = "above" if mean > 0 else "below"
    # A difference that prints as zero is not called a lead.
    if mean == 0:
        ends = "ends at the mean test score"
    elif float(text) == 0:
        ends = f"ends less than {10**-decimals / 2:.{decimals + 1}f} {_noun(headline)} {where} that"
    else:
        ends = f"ends {text} {_noun(headline)} {where} that"
    interval = mean_interval(differences.values)
    spread = (
        f"paired over {seeds}, which give no interval"
        if interval is None
        else f"paired over {seeds}; 95 % interval of the difference {interval_text(interval, decimals)}, {MEAN_METHOD}"
    )
    return f"The complete search of {theirs} {ends} of {ours} ({spread})."


def _power_sentences(headline: Headline, comparison: HeadToHead) -> list[str]:
    power, factor, noun = comparison.power, factor_of(headline), _noun(headline)
    if power is None:
        return []
    differences, decimals = comparison.difference.times(factor), decimals_of(headline)
    seeds, mean = counted(differences.n, "seed"), abs(differences.mean or 0.0)
    low, high = (number(end * factor, decimals) for end in power.std)
    detectable_low, detectable_high = (f"{end * factor:.3g}" for end in power.detectable_range)
    needed = (
        f" To detect a true difference of {number(mean, decimals)} {noun}, as large as the one found, {seeds_text(power.seeds)} would be "
        f"needed ({_seeds_range(power)})."
        if mean > 0
        else ""
    )
    return [
        f"Power: the standard deviation of these differences is {number(differences.std, decimals)} {noun}, estimated from {seeds} (95 % "
        f"interval {low} to {high}, {STD_METHOD}). With it, a two-sided paired t-test at 5 % over {seeds} detects a true difference of "
        f"{power.detectable * factor:.3g} {noun} with probability {POWER * 100:.0f} % ({detectable_low} to {detectable_high} over that "
        f"interval).{needed}"
    ]


def _by_seed(headline: Headline) -> list[str]:
    """The single seeds behind the means, where there are few."""
    if len(headline.cell.seeds) >= FEW_SEEDS or len(headline.cell.seeds) < 2:
        return []
    factor, decimals = factor_of(headline), decimals_of(headline)
    scores = [
        f"{label_of(summary)} {', '.join(number(value * factor, decimals) for value in summary.final.values)}"
        for summary in headline.summaries
    ]
    found = [f"Test score of the complete search by seed: {'; '.join(scores)}."]
    main = next(iter(COST_ITEM_SETS))
    ratios = [
        f"{label_of(comparison)} {', '.join(bounds_text(seed, significant) for seed in comparison.cost[main].seeds)} and "
        f"{', '.join(number(value * factor, decimals, sign=True) for value in comparison.difference.values)}"
        for comparison in headline.comparisons
    ]
    if ratios:
        found.append(f"Ratio of costs to the common target and difference of test scores, by seed: {'; '.join(ratios)}.")
    return found


def _interval_text(ratio: CostRatio) -> str:
    if ratio.interval is None:
        return "one seed has no interval" if len(ratio.seeds) < 2 else "no interval: the ratio of every seed is the same"
    text = ratio_text(ratio.interval)
    return "95 % interval unbounded" if text == MISSING else f"95 % interval {text}"


def _seeds_range(power: PairedPower) -> str:
    # More spread needs more seeds, so the ends of the deviation's interval are those of the number of seeds.
    low, high = power.seeds_range
    return f"{'more than 10,000' if low is None else low} to {'more than 10,000' if high is None else high} over that interval"


def _error_text(error: float) -> str:
    return "below 0.005" if error < 0.005 else f"{error:.2f}"


def _amount(headline: Headline) -> str:
    return {"seconds": "seconds", "flops": "FLOPs"}.get(headline.unit, headline.unit)


def _noun(headline: Headline) -> str:
    return "points" if headline.cell.measure == "acc" else "of R²"

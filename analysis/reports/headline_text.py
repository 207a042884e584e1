"""The sentences of the one-page report on tuning cost, from the numbers of `analysis.tuning.headline`; its tables: `headline_tables`.

Every sentence is generated from the numbers, so that the text cannot contradict the tables when a store changes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from analysis.reports.headline_comparison import main_result
from analysis.reports.headline_format import factor_of, label_of
from analysis.store.labels import MEASURES, MISSING, REFERENCES, counted, method_label, number, plain
from analysis.store.selection_rule import RULES, TIES
from analysis.store.stats import summarise
from analysis.tables.notes import BOUNDARY_MARK, INCOMPLETE_MARK, seconds_notes
from analysis.tuning.alpha import TOLERANCE, Transfer, good_range
from analysis.tuning.anytime import NUM_ORDERS
from analysis.tuning.head_to_head import BAND
from analysis.tuning.headline import RULE, Headline


def sentences(headline: Headline, transfers: Mapping[tuple[str, str | None], Sequence[Transfer]]) -> list[str]:
    """The report of one cell as sentences, the main result first."""
    return [
        *main_result(headline),
        *_defaults(headline),
        *_boundary_values(headline),
        *_optimism(headline),
        *_alphas(headline, transfers),
        f"{RULE}: {RULES[RULE].format(score=MEASURES[headline.cell.measure].name)}. {TIES}",
        *unlisted_sentences(headline),
        _method(headline),
        *caveats(headline),
        "Search spaces by hash (fixed in the plan before the first trial): "
        + ", ".join(f"{label_of(summary)} {'/'.join(summary.hashes) or MISSING}" for summary in headline.summaries)
        + ".",
    ]


def _defaults(headline: Headline) -> list[str]:
    factor = factor_of(headline)
    # A default can be judged only if the space contains it, because defaults are not run on their own.
    known = [
        f"{label_of(summary)} {number((summary.default.test.mean or 0) * factor, 2)} "
        f"(complete search {number((summary.final.mean or 0) * factor, 2)})"
        for summary in headline.summaries
        if summary.default is not None
    ]
    # Named, because a method without a default would otherwise be missing from the sentence without a reason.
    lacking = [label_of(summary) for summary in headline.summaries if summary.default is None]
    found = [f"Test score without a search, with the default setting of each method: {', '.join(known)}."] if known else []
    return found + ([f"Default not in the space, or not recorded in the store: {', '.join(lacking)}."] if lacking else [])


def _boundary_values(headline: Headline) -> list[str]:
    found = []
    for summary in headline.summaries:
        values = [f"{value.field} = {plain(value.value)} ({value.side})" for value in summary.boundary_values]
        if values:
            found.append(f"{label_of(summary)} {', '.join(values)}")
    if not found:
        return []
    return [
        f"{BOUNDARY_MARK} Selected values at the boundary of their search range, where a wider space might be better: {'; '.join(found)}."
    ]


def _optimism(headline: Headline) -> list[str]:
    bounds = [f"{label_of(summary)} {100 * summary.optimism:.2f}" for summary in headline.summaries if not math.isnan(summary.optimism)]
    if not bounds:
        return []
    # The bound assumes independent errors, so what was measured is printed beside it.
    measured = [
        f"{label_of(summary)} {number(100 * summary.measured_optimism.mean, 2, sign=True)}"
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
    # One significant digit without an exponent.
    error = float(f"{100 * max((summary.cost_error for summary in headline.summaries), default=0.0):.1g}")
    return (
        f"{unit.get(headline.unit, headline.unit)}. Trials are drawn without replacement and are exact over all orders; costs are averaged "
        f"over {NUM_ORDERS} random orders, with a Monte-Carlo error of at most {error:g} %. Bands are the {100 * BAND[0]:.0f} to "
        f"{100 * BAND[1]:.0f} % quantiles over orders and seeds: the results that single searches obtain, not a confidence interval. "
        f"Preparation is spent before the first setting; the training of the baseline counts only where named.{spread}"
    )


def unlisted_sentences(headline: Headline) -> list[str]:
    """Names the methods and seeds without numbers, with the reasons."""
    found = []
    for one in headline.unlisted:
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in one.reasons)
        label = method_label(one.method, one.space)
        what = "means are over the other seeds" if one.partly else "not listed and not ranked"
        found.append(f"{INCOMPLETE_MARK} {label}: {what} ({reasons}).")
    return found


def caveats(headline: Headline) -> list[str]:
    """How the seconds of the report were measured."""
    searches = [search for (method, _), group in headline.cell.methods.items() if method not in REFERENCES for search in group]
    return seconds_notes(headline.cell, searches)

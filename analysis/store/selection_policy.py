"""Applies a selection rule to the searches of several seeds: independently for each seed, or pooled into one setting for all seeds.

`analysis.store.selection_rule` selects within one search. This module adds the two options that a table may vary: pooling over seeds, and
whether the unmodified model is a candidate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.store.labels import MEASURES
from analysis.store.results import SearchResult
from analysis.store.selection_rule import FALLBACKS, RULES, Choice, boundary_values, choose, score_column
from analysis.store.stats import TOLERANCE

__all__ = ["FALLBACKS", "POOLING", "Policy", "select"]

POOLING = {
    "seed": "selected independently for each seed",
    "pooled": "one setting for all seeds, by its mean score over them; a setting that failed or is missing in one seed never wins",
}
"""Value of `Policy.over` -> description printed below tables."""


@dataclass(frozen=True)
class Policy:
    """A selection rule with its options."""

    rule: str = "val_noisy"  # a key of RULES
    over: str = "seed"  # a key of POOLING
    fallback: str = "strict"  # a key of FALLBACKS

    def sentences(self, measure: str = "acc") -> list[str]:
        """The notes that a table prints about the policy."""
        score = MEASURES[measure].name
        return [
            f"{self.rule}: {RULES[self.rule].format(score=score)}; {POOLING[self.over]}.",
            f"{FALLBACKS[self.fallback]} A tie goes to the earlier setting of the space; failed settings count as tried and never win.",
        ]


def select(searches: Sequence[SearchResult], policy: Policy) -> tuple[Choice, ...]:
    """Selects a setting for each search.

    Args:
        searches: the searches of one method over one space in one cell, one per seed.
        policy: the rule and its options.
    """
    if policy.over == "seed" or not searches:
        return tuple(
            choose(search.vanilla, search.rows, search.settings, policy.rule, search.measure, policy.fallback) for search in searches
        )
    return _pooled(searches, policy)


def _pooled(searches: Sequence[SearchResult], policy: Policy) -> tuple[Choice, ...]:
    column = score_column(policy.rule, searches[0].measure)
    # A seed on which the rule cannot select at all (no baseline, no scores) must not silently drop out of the mean.
    separate = [choose(search.vanilla, search.rows, search.settings, policy.rule, search.measure, policy.fallback) for search in searches]
    problems = [(search.seed, choice.problem) for search, choice in zip(searches, separate, strict=True) if choice.problem]
    if problems:
        reasons = "; ".join(f"seed {seed}: {problem}" for seed, problem in problems)
        return tuple(Choice(None, problem=f"the seeds cannot be pooled ({reasons})") for _ in searches)
    scores: dict[str, list[float]] = {}
    positions: dict[str, int] = {}
    for search in searches:
        # Settings are matched between seeds by their canonical JSON text; NaN marks a failed one.
        for settings, position, score, status in zip(
            search.rows["settings"], search.rows["position"], search.rows[column], search.rows["status"], strict=True
        ):
            # All seeds have the same space, so a setting has one position.
            positions.setdefault(str(settings), int(position))
            scores.setdefault(str(settings), []).append(float(score) if status == "ok" else math.nan)
    means = {
        settings: sum(values) / len(values)
        for settings, values in scores.items()
        # A mean over fewer seeds would be compared with means over all of them.
        if len(values) == len(searches) and not any(map(math.isnan, values))
    }
    if not means:
        return tuple(Choice(None, problem="no setting has a score in every seed") for _ in searches)
    # Ties go to the earlier setting. Up to rounding, because the mean of .1, .2 and .3 is not that of .2, .2 and .2 in float64.
    highest = max(means.values())
    winner = min((settings for settings in means if means[settings] >= highest - TOLERANCE), key=lambda settings: positions[settings])
    # The same seeds as the settings' means, so that the comparison is paired.
    unmodified = sum(float(search.vanilla[column]) for search in searches if search.vanilla is not None) / len(searches)
    # As within one search: the unmodified models win ties.
    if policy.fallback == "strict" and not means[winner] > unmodified + TOLERANCE:
        return tuple(Choice(search.vanilla, kept=True) for search in searches)
    return tuple(
        Choice(search.rows[search.rows["settings"] == winner].iloc[0], boundary_values=boundary_values(json.loads(winner), search.settings))
        for search in searches
    )

"""How the settings of a method are chosen over its seeds: each seed by itself, or one setting for all of them.

`analysis.store.selection_rule` has the rules and chooses for one search; this module adds what a table may vary: seeds pooled, and whether the unmodified
model is a candidate.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.store.labels import MEASURES
from analysis.store.results import SearchResult
from analysis.store.selection_rule import FALLBACKS, RULES, Choice, boundary_values, choose, score_column

__all__ = ["FALLBACKS", "POOLING", "Policy", "select"]

POOLING = {
    "seed": "each seed chooses by itself",
    "pooled": "one setting for all seeds, by its mean score over them; a setting that failed or is missing in one seed never wins",
}
"""What is pooled -> in words."""


@dataclass(frozen=True)
class Policy:
    """A rule of selection with its options."""

    rule: str = "val_noisy"
    over: str = "seed"
    fallback: str = "strict"

    def sentences(self, measure: str = "acc") -> list[str]:
        """What a table says about it."""
        score = MEASURES[measure].name
        return [
            f"{self.rule}: {RULES[self.rule].format(score=score)}; {POOLING[self.over]}.",
            f"{FALLBACKS[self.fallback]} A tie goes to the earlier setting of the space; failed settings count as tried and never win.",
        ]


def select(searches: Sequence[SearchResult], policy: Policy) -> tuple[Choice, ...]:
    """What each of the searches chose; they are one method in one space on the seeds of one cell."""
    if policy.over == "seed" or not searches:
        return tuple(
            choose(search.vanilla, search.rows, search.settings, policy.rule, search.measure, policy.fallback) for search in searches
        )
    return _pooled(searches, policy)


def _pooled(searches: Sequence[SearchResult], policy: Policy) -> tuple[Choice, ...]:
    column = score_column(policy.rule, searches[0].measure)
    alone = [choose(search.vanilla, search.rows, search.settings, policy.rule, search.measure, policy.fallback) for search in searches]
    problems = [(search.seed, choice.problem) for search, choice in zip(searches, alone, strict=True) if choice.problem]
    if problems:
        told = "; ".join(f"seed {seed}: {problem}" for seed, problem in problems)
        return tuple(Choice(None, problem=f"nothing can be pooled over the seeds ({told})") for _ in searches)
    scores: dict[str, list[float]] = {}
    places: dict[str, int] = {}
    for search in searches:
        for settings, place, score, status in zip(
            search.rows["settings"], search.rows["position"], search.rows[column], search.rows["status"], strict=True
        ):
            places.setdefault(str(settings), int(place))
            scores.setdefault(str(settings), []).append(float(score) if status == "ok" else math.nan)
    means = {
        settings: sum(values) / len(values)
        for settings, values in scores.items()
        if len(values) == len(searches) and not any(map(math.isnan, values))
    }
    if not means:
        return tuple(Choice(None, problem="no setting has a score in every seed") for _ in searches)
    winner = min(means, key=lambda settings: (-means[settings], places[settings]))
    unmodified = sum(float(search.vanilla[column]) for search in searches if search.vanilla is not None) / len(searches)
    if policy.fallback == "strict" and not means[winner] > unmodified:
        return tuple(Choice(search.vanilla, kept=True) for search in searches)
    return tuple(
        Choice(search.rows[search.rows["settings"] == winner].iloc[0], boundary_values=boundary_values(json.loads(winner), search.settings))
        for search in searches
    )

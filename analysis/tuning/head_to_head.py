"""Two searches against each other: what each has reached by when, how their costs to a target compare, and which is ahead at equal budget.

A curve is the expected test score of the model that a search would take, by budget: exact in trials, over random orders
otherwise. A search's *best gain* is the highest point of its curve (mean over the seeds) above the unmodified model. The target that two
searches have in common is a share of the smaller of their best gains, so both can reach it.

The interval of a ratio of costs is a percentile bootstrap over seeds, paired (the same seeds for both), with the target found anew
in every resample. It speaks of the seeds that there are: with three, it is rough.

Shapes: S seeds, B budgets, R random orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.store.load import Results
from analysis.store.results import SearchResult
from analysis.tuning.anytime import (
    CostItems,
    CostRecord,
    SearchTrajectories,
    Unit,
    budget_grid,
    cost_record,
    random_orders,
    rank_search,
    simulate_orders,
)
from analysis.tuning.best_of_k import RankedSettings, expected_test_scores, quantiles

BAND = (0.1, 0.9)
"""Levels of the one band that is drawn: between them lie the outcomes of 80 % of searches of that budget, over random orders and seeds.

It says what a single user who searches once may get. It is no confidence interval of the mean: three seeds support none worth drawing,
and bootstrap bands of such curves are known to miss their coverage (Lourie et al.).
"""

TARGETS = (0.90, 0.95, 0.99)
RESAMPLES = 2000
_SLACK = 1e-12


@dataclass(frozen=True)
class MethodSearches:
    """One method in one space on one cell; entry s of each tuple is one seed's search."""

    method: str
    space: str | None
    seeds: tuple[int, ...]
    searches: tuple[SearchResult, ...]
    rankings: tuple[RankedSettings, ...]
    costs: tuple[CostRecord, ...]
    unit: Unit

    @property
    def settings(self) -> int:
        """Settings of one search."""
        return max(map(len, self.rankings))

    def trajectories(self, items: CostItems, order_seed: int = 0) -> tuple[SearchTrajectories, ...]:
        """Each seed's search in random orders; another `order_seed` gives other orders."""
        return tuple(
            simulate_orders(ranking, cost, items, random_orders(len(ranking), seed=order_seed))
            for ranking, cost in zip(self.rankings, self.costs, strict=True)
        )

    def total(self, items: CostItems) -> float:
        """The whole search, mean over the seeds."""
        return float(np.mean([cost.total(items) for cost in self.costs]))

    def restrict_to_seeds(self, seeds: Sequence[int]) -> MethodSearches:
        """The same on some of its seeds, in the given order."""
        places = [self.seeds.index(seed) for seed in seeds]
        searches, rankings = tuple(self.searches[place] for place in places), tuple(self.rankings[place] for place in places)
        return replace(self, seeds=tuple(seeds), searches=searches, rankings=rankings, costs=tuple(self.costs[place] for place in places))


@dataclass(frozen=True)
class AnytimeCurve:
    """Expected test scores by budget."""

    budgets: np.ndarray  # [B], rising
    test: np.ndarray  # [S, B]
    unmodified: np.ndarray  # [S]

    def best_gain(self, which: Sequence[int] | None = None) -> float:
        """The highest mean above the unmodified models' mean, over the seeds `which` (with repeats)."""
        return float(self._gain(which).max())

    def cost_to(self, gain: float, which: Sequence[int] | None = None) -> float:
        """The smallest budget whose expected gain is at least `gain`; infinite if none is."""
        there = np.flatnonzero(self._gain(which) >= gain - _SLACK)
        return float(self.budgets[there[0]]) if len(there) else math.inf

    def _gain(self, which: Sequence[int] | None) -> np.ndarray:
        rows = slice(None) if which is None else list(which)
        gained: np.ndarray = self.test[rows].mean(axis=0) - self.unmodified[rows].mean()
        return gained


@dataclass(frozen=True)
class CostRatio:
    """How many times one search's cost to the common target another's is."""

    value: float  # NaN: one of the two gains nothing
    low: float
    high: float
    target: float  # the gain to be reached


def method_searches(
    results: Results, method: str, space: str | None, searches: Sequence[SearchResult], rule: str, unit: Unit
) -> MethodSearches | None:
    """The searches that can be judged and paid; None when there is none."""
    found = []
    for search in searches:
        ranking, cost = rank_search(search, rule), cost_record(results, search, unit)
        if ranking is not None and cost is not None:
            found.append((search.seed, search, ranking, cost))
    if not found:
        return None
    seeds, used, rankings, costs = zip(*found, strict=True)
    return MethodSearches(method, space, seeds, used, rankings, costs, unit)


def anytime_curve(one: MethodSearches, items: CostItems, points: int = 400) -> AnytimeCurve:
    """The curve: exact where the unit is trials, else the mean over random orders at so many budgets."""
    unmodified = np.array([ranking.unmodified for ranking in one.rankings])
    if one.unit == "trials":
        shortest = min(map(len, one.rankings))
        return AnytimeCurve(
            np.arange(1.0, shortest + 1), np.stack([expected_test_scores(ranking)[:shortest] for ranking in one.rankings]), unmodified
        )
    trajectories = one.trajectories(items)
    budgets = budget_grid(trajectories, points)
    return AnytimeCurve(budgets, np.stack([each.at(budgets).mean(axis=1) for each in trajectories]), unmodified)


def band(one: MethodSearches, items: CostItems, budgets: np.ndarray) -> np.ndarray:
    """[2, B] the band at these budgets; exact in trials, where budgets are 1 ... B."""
    if one.unit == "trials":
        return quantiles(one.rankings, BAND)[:, : len(budgets)]
    pooled = np.concatenate([each.at(budgets) for each in one.trajectories(items)], axis=1)
    return np.asarray(np.quantile(pooled, BAND, axis=1, method="inverted_cdf"))


def cost_ratio_to_target(cheap: AnytimeCurve, dear: AnytimeCurve, share: float = 0.95, resamples: int = RESAMPLES) -> CostRatio:
    """`dear`'s cost to the common target as a multiple of `cheap`'s, with a 95 % interval; the curves have the same seeds."""

    def statistic(which: Sequence[int] | None) -> tuple[float, float]:
        target = share * min(cheap.best_gain(which), dear.best_gain(which))
        if target <= 0:
            return math.nan, target
        return dear.cost_to(target, which) / cheap.cost_to(target, which), target

    value, target = statistic(None)
    seeds = len(cheap.unmodified)
    drawn = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    again = {tuple(sorted(which)): 0.0 for which in drawn.tolist()}
    again = {which: statistic(which)[0] for which in again}  # resamples repeat themselves where seeds are few
    found = np.array([again[tuple(sorted(which))] for which in drawn.tolist()])
    found = found[~np.isnan(found)]
    low, high = np.quantile(found, (0.025, 0.975)) if seeds > 1 and len(found) else (math.nan, math.nan)
    return CostRatio(value, float(low), float(high), target)


def probability_ahead(first: Sequence[SearchTrajectories], second: Sequence[SearchTrajectories], budget: float) -> float:
    """The probability that the first search has the higher test score when both have spent `budget`; ties count half.

    Over seeds (paired) and independent random orders of both.
    """
    spent = np.array([budget])
    return float(np.mean([_higher(one.at(spent)[0], other.at(spent)[0]) for one, other in zip(first, second, strict=True)]))


def _higher(first_R: np.ndarray, second_R: np.ndarray) -> float:
    """P(first > second) + P(equal) / 2 over all pairs."""
    ordered = np.sort(second_R)
    below = np.searchsorted(ordered, first_R, side="left") + np.searchsorted(ordered, first_R, side="right")
    return float(below.mean() / (2 * len(ordered)))

"""Head-to-head comparison of two searches: costs to a target, their ratio, and which search is ahead at equal budget.

The anytime curve of a search is the expected gain of its incumbent by budget, for one seed: exact in trials, an average over random orders
otherwise. The *best gain* is the maximum of the curve. The common target of two searches on one seed is a share of the smaller of their
best gains, so that both reach it. If only one of them gains anything, the other never reaches the target, and its cost is at least that of
its complete search (`Bounds`); such a seed is kept, and leaves the mean and its interval open.

Shapes: S seeds, B budgets, R random orders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from analysis.store.load import Results
from analysis.store.results import SearchResult
from analysis.store.stats import TOLERANCE, Summary, summarise
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
from analysis.tuning.intervals import Bounds, geometric_mean_of, ratio_interval

_OWN_ONLY = CostItems(preparation=False)

BAND = (0.1, 0.9)
"""Quantile levels of the plotted band, which contains 80 % of searches of that budget, over random orders and seeds.

It shows what one user who searches once may obtain. It is not a confidence interval of the mean.
"""

TARGETS = (0.90, 0.95, 0.99)
"""Shares of the best gain to which costs are reported."""

_BATCHES = 10
"""Parts of the random orders from which the Monte-Carlo error of a cost is estimated."""


@dataclass(frozen=True, eq=False)
class MethodSearches:
    """The searches of one method over one space in one cell; entry s of each tuple belongs to the s-th seed."""

    method: str
    space: str | None
    seeds: tuple[int, ...]
    searches: tuple[SearchResult, ...]
    rankings: tuple[RankedSettings, ...]
    costs: tuple[CostRecord, ...]
    unit: Unit

    @property
    def settings(self) -> int:
        """The number of settings of one search."""
        return max(map(len, self.rankings))

    def trajectories(self, items: CostItems, order_seed: int = 0) -> tuple[SearchTrajectories, ...]:
        """Simulates each seed's search in random orders, which depend on `order_seed`."""
        return tuple(
            simulate_orders(ranking, cost, items, random_orders(len(ranking), seed=order_seed))
            for ranking, cost in zip(self.rankings, self.costs, strict=True)
        )

    def total(self, items: CostItems) -> float:
        """The cost of the complete search, mean over the seeds."""
        return float(np.mean([cost.total(items) for cost in self.costs]))

    @property
    def final(self) -> Summary:
        """The test score of the model that the complete search selects, over the seeds."""
        return summarise(ranking.final for ranking in self.rankings)

    def restrict_to_seeds(self, seeds: Sequence[int]) -> MethodSearches:
        """The searches of some of the seeds, in the given order."""
        # The same object has its simulated curves in the cache.
        if tuple(seeds) == self.seeds:
            return self
        # In the given order, so that entry s of two searches is the same seed.
        places = [self.seeds.index(seed) for seed in seeds]
        searches, rankings = tuple(self.searches[place] for place in places), tuple(self.rankings[place] for place in places)
        return replace(self, seeds=tuple(seeds), searches=searches, rankings=rankings, costs=tuple(self.costs[place] for place in places))


@dataclass(frozen=True)
class AnytimeCurve:
    """The expected gain of one search (of one seed) by budget: the test score of its incumbent minus that of the unmodified model."""

    budgets: np.ndarray  # [B], ascending; the last is the cost of the complete search
    gain: np.ndarray  # [B]
    batches: np.ndarray | None = None  # [batches, B] the same from parts of the random orders; None if the curve is exact

    @property
    def best_gain(self) -> float:
        """The maximum of the curve; exactly 0 if no setting changes the test score."""
        return float(self.gain.max())

    def cost_to(self, gain: float) -> Bounds:
        """The smallest budget at which the expected gain reaches `gain`; at least the cost of the complete search if none does."""
        found = _first(self.budgets, self.gain, gain)
        return Bounds(found, found) if math.isfinite(found) else Bounds(float(self.budgets[-1]), math.inf)

    def cost_to_share(self, share: float) -> Bounds | None:
        """The cost to a share of the best gain; None if there is no gain."""
        return self.cost_to(share * self.best_gain) if self.best_gain > 0 else None

    def error(self, gain: float) -> float:
        """The Monte-Carlo standard error of `cost_to`; 0 if the curve is exact."""
        if self.batches is None:
            return 0.0
        # A part that does not reach the target within its orders reaches it at the end.
        costs = [min(_first(self.budgets, batch, gain), float(self.budgets[-1])) for batch in self.batches]
        return float(np.std(costs, ddof=1) / math.sqrt(len(costs)))


def _first(budgets: np.ndarray, gain_B: np.ndarray, gain: float) -> float:
    # The first budget that reaches the target; the curve of expectations need not be monotone in test score.
    reached = np.flatnonzero(gain_B >= gain - TOLERANCE)
    return float(budgets[reached[0]]) if len(reached) else math.inf


@dataclass(frozen=True)
class CostRatio:
    """The cost of one search to the common target, divided by that of another search."""

    seeds: tuple[Bounds, ...]  # by seed
    target: Summary  # the common target, as a gain over the unmodified model; of the seeds that have one

    @property
    def value(self) -> Bounds | None:
        """The geometric mean over the seeds; None if no seed has a target, because neither search gains anything on any."""
        return geometric_mean_of(self.seeds) if self.target.n else None

    @property
    def interval(self) -> Bounds | None:
        """See `ratio_interval`."""
        return ratio_interval(self.seeds) if self.target.n else None


@dataclass(frozen=True)
class Chance:
    """A probability that was estimated from random orders."""

    value: float
    error: float  # Monte-Carlo standard error


def method_searches(
    results: Results, method: str, space: str | None, searches: Sequence[SearchResult], rule: str, unit: Unit
) -> MethodSearches | None:
    """The searches for which the rule can select and the cost is recorded; None if there are none."""
    found = []
    for search in searches:
        ranking, cost = rank_search(search, rule), cost_record(results, search, unit)
        # A seed without a choice or a cost drops out of scores and costs alike.
        if ranking is not None and cost is not None:
            found.append((search.seed, search, ranking, cost))
    if not found:
        return None
    seeds, used, rankings, costs = zip(*found, strict=True)
    return MethodSearches(method, space, seeds, used, rankings, costs, unit)


def anytime_curves(one: MethodSearches, items: CostItems, points: int = 400) -> tuple[AnytimeCurve, ...]:
    """The curve of each seed: exact if the unit is trials, otherwise the mean over random orders at about 2 `points` budgets."""
    if one.unit == "trials":
        return tuple(
            AnytimeCurve(np.arange(1.0, len(ranking) + 1), _snapped(expected_test_scores(ranking) - ranking.unmodified))
            for ranking in one.rankings
        )
    # What is spent before the first setting shifts the curve, so one simulation serves all sets of cost items.
    return tuple(
        replace(curve, budgets=curve.budgets + cost.upfront(items)) for curve, cost in zip(_own_curves(one, points), one.costs, strict=True)
    )


@lru_cache(maxsize=64)
def _own_curves(one: MethodSearches, points: int) -> tuple[AnytimeCurve, ...]:
    found = []
    for ranking, trajectories in zip(one.rankings, one.trajectories(_OWN_ONLY), strict=True):
        budgets = _budgets(trajectories, points)
        gain_BR = trajectories.at(budgets) - ranking.unmodified
        batches = np.stack([part.mean(axis=1) for part in np.array_split(gain_BR, _BATCHES, axis=1)])
        found.append(AnytimeCurve(budgets, _snapped(gain_BR.mean(axis=1)), _snapped(batches)))
    return tuple(found)


def _budgets(trajectories: SearchTrajectories, points: int) -> np.ndarray:
    """[B] the costs at which settings finish, evenly by count and, so that cheap searches are resolved too, evenly by logarithm."""
    by_count = np.quantile(trajectories.cost, np.linspace(0, 1, points))
    # Every order of a search costs the same in total, up to rounding.
    low, high = max(float(by_count[0]), float(by_count[-1]) * 1e-9), float(by_count[-1])
    return np.unique(np.concatenate([by_count, np.geomspace(low, high, points)[:-1]] if low > 0 else [by_count]))


def _snapped(gain: np.ndarray) -> np.ndarray:
    """Sets gains that are rounding errors to exactly 0."""
    return np.where(np.abs(gain) <= TOLERANCE, 0.0, gain)


def mean_scores(one: MethodSearches, items: CostItems, points: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """(budgets [B], expected test scores [S, B]) on budgets that all seeds share, for a figure."""
    if one.unit == "trials":
        # Seeds of an unfinished sweep may have fewer settings; the curve ends where the first of them does.
        shortest = min(map(len, one.rankings))
        return np.arange(1.0, shortest + 1), np.stack([expected_test_scores(ranking)[:shortest] for ranking in one.rankings])
    trajectories = one.trajectories(items)
    # Logarithmic, because searches of 16 and of 675 settings are compared.
    budgets = budget_grid(trajectories, points)
    return budgets, np.stack([each.at(budgets).mean(axis=1) for each in trajectories])


def band(one: MethodSearches, items: CostItems, budgets: np.ndarray) -> np.ndarray:
    """[2, B] quantiles of the incumbent's test score at `BAND`; exact in trials, where the budgets are 1 ... B."""
    if one.unit == "trials":
        return quantiles(one.rankings, BAND)[:, : len(budgets)]
    # Orders of all seeds are pooled, because the band describes single searches on any of the baselines.
    pooled = np.concatenate([each.at(budgets) for each in one.trajectories(items)], axis=1)
    return np.asarray(np.quantile(pooled, BAND, axis=1, method="inverted_cdf"))


def cost_ratio_to_target(reference: Sequence[AnytimeCurve], other: Sequence[AnytimeCurve], share: float = 0.95) -> CostRatio:
    """The cost of `other` to the common target divided by the cost of `reference`.

    Args:
        reference: the curves whose costs are the denominators, one per seed.
        other: the curves whose costs are the numerators, over the same seeds.
        share: the target as a share of the smaller best gain.
    """
    ratios, targets = [], []
    for ours, theirs in zip(reference, other, strict=True):
        gains = [curve.best_gain for curve in (ours, theirs) if curve.best_gain > 0]
        if gains:
            targets.append(share * min(gains))
            ratio = theirs.cost_to(targets[-1]).over(ours.cost_to(targets[-1]))
            # A cost that was not measured is NaN, and nothing is known of the ratio.
            ratios.append(Bounds(0.0, math.inf) if math.isnan(ratio.low) or math.isnan(ratio.high) else ratio)
        else:
            # Nothing is known of the ratio on a seed without a target, and the mean over the seeds is unknown with it.
            ratios.append(Bounds(0.0, math.inf))
    return CostRatio(tuple(ratios), summarise(targets))


def probability_ahead(first: Sequence[SearchTrajectories], second: Sequence[SearchTrajectories], budget: float) -> Chance:
    """The probability that the first search's incumbent has the higher test score when both have spent `budget`; ties count half.

    Averages over seeds (paired) and over independent random orders of the two searches.
    """
    spent = np.array([budget])
    pairs = [(one.at(spent)[0], other.at(spent)[0]) for one, other in zip(first, second, strict=True)]
    # The two projections of a U-statistic: the share of the other search's orders that each order beats, mean over the seeds.
    wins_R = np.mean([_higher(one, other) for one, other in pairs], axis=0)
    losses_R = np.mean([_higher(other, one) for one, other in pairs], axis=0)
    return Chance(float(wins_R.mean()), math.sqrt(float(wins_R.var() / len(wins_R) + losses_R.var() / len(losses_R))))


def _higher(first_R: np.ndarray, second_R: np.ndarray) -> np.ndarray:
    """[R] for each of `first`, the share of `second` that is lower, plus half of the share that is equal."""
    # All R x R pairs in R log R: the two searches draw their orders independently.
    ordered = np.sort(second_R)
    below = np.searchsorted(ordered, first_R - TOLERANCE, side="left") + np.searchsorted(ordered, first_R + TOLERANCE, side="right")
    return np.asarray(below / (2 * len(ordered)))

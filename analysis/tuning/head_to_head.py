"""Head-to-head comparison of two searches: anytime curves, the ratio of costs to a common target, and which is ahead at equal budget.

An anytime curve is the expected test score of the incumbent by budget: exact in trials, an average over random orders otherwise. The *best
gain* of a search is the maximum of its curve (mean over the seeds) minus the unmodified model's score. The common target of two searches is
a share of the smaller of their best gains, so that both reach it.

The interval of a cost ratio is a paired percentile bootstrap over seeds (the same resampled seeds for both searches), and the target is
recomputed in every resample. With three seeds the interval is rough.

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
"""Quantile levels of the plotted band, which contains 80 % of searches of that budget, over random orders and seeds.

It shows what one user who searches once may obtain. It is not a confidence interval of the mean: three seeds are too few for one, and
bootstrap bands of such curves are known to miss their nominal coverage (Lourie et al.).
"""

TARGETS = (0.90, 0.95, 0.99)
"""Shares of the best gain to which costs are reported."""

RESAMPLES = 2000
"""Bootstrap resamples of a ratio's interval."""

_SLACK = 1e-12


@dataclass(frozen=True)
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

    def restrict_to_seeds(self, seeds: Sequence[int]) -> MethodSearches:
        """The searches of some of the seeds, in the given order."""
        # In the given order, so that entry s of two searches is the same seed.
        places = [self.seeds.index(seed) for seed in seeds]
        searches, rankings = tuple(self.searches[place] for place in places), tuple(self.rankings[place] for place in places)
        return replace(self, seeds=tuple(seeds), searches=searches, rankings=rankings, costs=tuple(self.costs[place] for place in places))


@dataclass(frozen=True)
class AnytimeCurve:
    """Expected test scores of the incumbent by budget."""

    budgets: np.ndarray  # [B], ascending
    test: np.ndarray  # [S, B]
    unmodified: np.ndarray  # [S]

    def best_gain(self, seeds: Sequence[int] | None = None) -> float:
        """The maximum of the mean curve minus the unmodified models' mean, over the given indices of seeds (repeats allowed)."""
        return float(self._gain(seeds).max())

    def cost_to(self, gain: float, seeds: Sequence[int] | None = None) -> float:
        """The smallest budget at which the expected gain reaches `gain`; infinite if none does."""
        # The first budget of the grid that reaches the target; the curve of expectations need not be monotone in test score.
        reached = np.flatnonzero(self._gain(seeds) >= gain - _SLACK)
        return float(self.budgets[reached[0]]) if len(reached) else math.inf

    def _gain(self, seeds: Sequence[int] | None) -> np.ndarray:
        rows = slice(None) if seeds is None else list(seeds)
        gained: np.ndarray = self.test[rows].mean(axis=0) - self.unmodified[rows].mean()
        return gained


@dataclass(frozen=True)
class CostRatio:
    """The cost of one search to the common target, divided by that of another search."""

    value: float  # NaN if one of the two searches gains nothing
    low: float  # 95 % interval; NaN for a single seed
    high: float
    target: float  # the common target, as a gain over the unmodified model


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


def anytime_curve(one: MethodSearches, items: CostItems, points: int = 400) -> AnytimeCurve:
    """The anytime curve: exact if the unit is trials, otherwise the mean over random orders at `points` budgets."""
    unmodified = np.array([ranking.unmodified for ranking in one.rankings])
    if one.unit == "trials":
        # Seeds of an unfinished sweep may have fewer settings; the curve ends where the first of them does.
        shortest = min(map(len, one.rankings))
        return AnytimeCurve(
            np.arange(1.0, shortest + 1), np.stack([expected_test_scores(ranking)[:shortest] for ranking in one.rankings]), unmodified
        )
    trajectories = one.trajectories(items)
    # Logarithmic, because searches of 16 and of 675 settings are compared.
    budgets = budget_grid(trajectories, points)
    return AnytimeCurve(budgets, np.stack([each.at(budgets).mean(axis=1) for each in trajectories]), unmodified)


def band(one: MethodSearches, items: CostItems, budgets: np.ndarray) -> np.ndarray:
    """[2, B] quantiles of the incumbent's test score at `BAND`; exact in trials, where the budgets are 1 ... B."""
    if one.unit == "trials":
        return quantiles(one.rankings, BAND)[:, : len(budgets)]
    # Orders of all seeds are pooled, because the band describes single searches on any of the baselines.
    pooled = np.concatenate([each.at(budgets) for each in one.trajectories(items)], axis=1)
    return np.asarray(np.quantile(pooled, BAND, axis=1, method="inverted_cdf"))


def cost_ratio_to_target(reference: AnytimeCurve, other: AnytimeCurve, share: float = 0.95, resamples: int = RESAMPLES) -> CostRatio:
    """The cost of `other` to the common target divided by the cost of `reference`, with a 95 % interval.

    Args:
        reference: the curve whose cost is the denominator.
        other: the curve whose cost is the numerator, over the same seeds.
        share: the target as a share of the smaller best gain.
        resamples: bootstrap resamples of the interval.
    """

    def statistic(seeds: Sequence[int] | None) -> tuple[float, float]:
        # The smaller of the two best gains, so that both curves reach the target.
        target = share * min(reference.best_gain(seeds), other.best_gain(seeds))
        # Without a gain there is no target, and the ratio is undefined.
        if target <= 0:
            return math.nan, target
        return other.cost_to(target, seeds) / reference.cost_to(target, seeds), target

    value, target = statistic(None)
    count = len(reference.unmodified)
    # The statistic does not depend on the order of the seeds, so resamples are sorted to be found again.
    resampled = [tuple(sorted(seeds)) for seeds in np.random.default_rng(0).integers(count, size=(resamples, count)).tolist()]
    # With few seeds there are few different resamples (10 for three seeds), so each is evaluated once.
    ratios = {seeds: statistic(seeds)[0] for seeds in dict.fromkeys(resampled)}
    found = np.array([ratios[seeds] for seeds in resampled])
    # Resamples in which a search gains nothing have no ratio.
    found = found[~np.isnan(found)]
    # A single seed has one resample, and its interval would pretend to certainty.
    low, high = np.quantile(found, (0.025, 0.975)) if count > 1 and len(found) else (math.nan, math.nan)
    return CostRatio(value, float(low), float(high), target)


def probability_ahead(first: Sequence[SearchTrajectories], second: Sequence[SearchTrajectories], budget: float) -> float:
    """The probability that the first search's incumbent has the higher test score when both have spent `budget`; ties count half.

    Averages over seeds (paired) and over independent random orders of the two searches.
    """
    spent = np.array([budget])
    return float(np.mean([_higher(one.at(spent)[0], other.at(spent)[0]) for one, other in zip(first, second, strict=True)]))


def _higher(first_R: np.ndarray, second_R: np.ndarray) -> float:
    """P(first > second) + P(equal) / 2 over all pairs."""
    # All R x R pairs in R log R: the two searches draw their orders independently.
    ordered = np.sort(second_R)
    below = np.searchsorted(ordered, first_R, side="left") + np.searchsorted(ordered, first_R, side="right")
    return float(below.mean() / (2 * len(ordered)))

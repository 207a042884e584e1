"""Expected performance of random search on a finite grid: exact expectations and quantiles of the best of k settings.

With N settings ranked by the selection rule (1 worst, N best; see `RankedSettings`), the setting of rank i is the best of k settings drawn
without replacement with probability C(i-1, k-1) / C(N, k). The expected test score of the selected model is therefore

    E_k = sum over i of C(i-1, k-1) / C(N, k) t(i)

where t(i) is the test score of the setting of rank i, or that of the unmodified model if the setting does not beat it. For a finite grid
in random order, E_k is exact, not an estimate. Ties are broken as in `analysis.store.selection_rule`.

Source: Tang et al. (2020), who draw without replacement; Dodge et al. (2019) draw with replacement, which is biased low. Both report the
validation score in place of t.

Shapes: N settings, K = N budgets in trials.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RankedSettings:
    """The settings of one search, ranked by the selection rule from worst to best."""

    order: np.ndarray  # [N] index in the space of the setting of each rank
    test: np.ndarray  # [N] test score of the selected model if that setting is the best of those tried
    unmodified: float  # test score of the unmodified model, which is selected before any setting is tried

    def __len__(self) -> int:
        return len(self.test)

    @property
    def final(self) -> float:
        """The test score of the model that the complete search selects."""
        return float(self.test[-1])


def rank_settings(unmodified: float, unmodified_test: float, scores_N: np.ndarray, tests_N: np.ndarray) -> RankedSettings:
    """Ranks settings as `analysis.store.selection_rule.best` does.

    Args:
        unmodified: the unmodified model's score under the rule; a setting that does not beat it is never selected. Minus infinity if the
            unmodified model is not a candidate.
        unmodified_test: the unmodified model's test score.
        scores_N: the scores of the settings under the rule, in the order of the space (the earlier of equal ones ranks higher); NaN for
            failed settings.
        tests_N: the test scores of the settings.
    """
    scores_N = np.asarray(scores_N, dtype=float)
    beats_N = np.nan_to_num(scores_N, nan=-np.inf) > unmodified
    # Failed settings and those that do not beat the unmodified model share the lowest key: none of them is ever selected. Among equal
    # scores the earlier setting ranks higher.
    order_N = np.lexsort((-np.arange(len(scores_N)), np.where(beats_N, scores_N, -np.inf)))
    return RankedSettings(order_N, np.where(beats_N, tests_N, unmodified_test)[order_N], unmodified_test)


def best_rank_probabilities(count: int) -> Iterator[np.ndarray]:
    """For k = 1 ... N, yields the probability [N] of each rank to be the best of k settings drawn without replacement."""
    # A recurrence in k, because the binomial coefficients themselves overflow float64 for N above about 1,000.
    rank = np.arange(1, count + 1)
    chance_N = np.full(count, 1 / count)
    for k in range(1, count + 1):
        yield chance_N
        # C(i-1, k) / C(N, k+1) from C(i-1, k-1) / C(N, k).
        if k < count:
            chance_N = chance_N * np.maximum(rank - k, 0) / k * (k + 1) / (count - k)


def expected_test_scores(ranking: RankedSettings) -> np.ndarray:
    """[K] expected test score of the selected model after k = 1 ... N settings in random order."""
    return np.array([chance_N @ ranking.test for chance_N in best_rank_probabilities(len(ranking))])


def quantiles(rankings: Sequence[RankedSettings], levels: Sequence[float]) -> np.ndarray:
    """[levels, K] exact quantiles of the test score after k settings, over random orders and equally likely searches (one per seed).

    K is the number of settings of the smallest search.
    """
    shortest = min(map(len, rankings))
    values = np.concatenate([ranking.test for ranking in rankings])
    order = np.argsort(values, kind="stable")
    found = np.empty((len(levels), shortest))
    for k, probabilities in enumerate(zip(*(best_rank_probabilities(len(ranking)) for ranking in rankings), strict=False)):
        # Each search (seed) is equally likely, whatever its size.
        weights = np.concatenate(probabilities)[order] / len(rankings)
        found[:, k] = weighted_quantiles(values[order], weights, levels)
    return found


def weighted_quantiles(values: np.ndarray, weights: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """Weighted quantiles by inversion of the cumulative distribution; `values` must be ascending."""
    cumulative = np.cumsum(weights)
    # The last sum may exceed a level by rounding.
    indices = np.searchsorted(cumulative, np.asarray(levels) * cumulative[-1] * (1 - 1e-12))
    return np.asarray(values[np.minimum(indices, len(values) - 1)])

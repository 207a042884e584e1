"""Confidence intervals over few seeds: of a mean, of a ratio of costs, and of a standard deviation.

All are at level `CONFIDENCE` and hold for any number of seeds from two if the numbers are normal (ratios: if their logarithms are). A
percentile bootstrap is not used: with three seeds it covers the mean in 75 % of cases in place of 95 %. docs/tuning_cost.md has the
simulated coverage, computed by `benchmarks/interval_coverage.py`.

A ratio of costs has Student's interval of the mean logarithm of the ratios by seed. Costs are positive and differ between seeds by a
factor, and both searches of a seed share its baseline, so the ratio by seed is the paired quantity. Fieller's interval of a ratio of means
is not used: it is unbounded wherever the mean of the denominator is not significant, which at three seeds it often is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CONFIDENCE = 0.95

FEW_SEEDS = 5
"""With fewer seeds tables and figures also show the value of each."""

MEAN_METHOD = "Student's t over the seeds"
RATIO_METHOD = "Student's t on the logarithms of the ratios by seed"
STD_METHOD = "chi-square"

_ROUNDING = 1e-12


@dataclass(frozen=True)
class Bounds:
    """A positive number, or what is known of one: a cost of a search that never reached its target is at least what was spent."""

    low: float
    high: float  # infinite if there is only a lower bound

    @property
    def exact(self) -> bool:
        """Whether the number itself is known."""
        return self.low == self.high

    def over(self, other: Bounds) -> Bounds:
        """This number divided by another one."""
        # Of a cost of zero, and of one that is not bounded, no ratio is known.
        low = self.low / other.high if other.high > 0 else 0.0
        return Bounds(low, self.high / other.low if other.low > 0 else math.inf)

    def times(self, factor: float) -> Bounds:
        """The number in another unit."""
        return Bounds(self.low * factor, self.high * factor)


def mean_of(numbers: Sequence[Bounds]) -> Bounds:
    """The arithmetic mean."""
    return Bounds(float(np.mean([one.low for one in numbers])), float(np.mean([one.high for one in numbers])))


def geometric_mean_of(numbers: Sequence[Bounds]) -> Bounds:
    """The geometric mean."""
    # The logarithm of 0 is minus infinity, whose exponential is 0: one seed without a lower bound leaves the mean without one.
    with np.errstate(divide="ignore"):
        return Bounds(*(float(np.exp(np.mean(np.log(some)))) for some in _ends(numbers)))


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Student's interval of the mean; None for fewer than two values, and if all are equal, because their spread is then unknown."""
    # Equal up to rounding: three equal differences of accuracies need not have equal bits.
    if len(values) < 2 or max(values) - min(values) <= _ROUNDING * max(1.0, max(map(abs, values))):
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values))
    half = _student(len(values) - 1) * error
    return mean - half, mean + half


def ratio_interval(ratios: Sequence[Bounds]) -> Bounds | None:
    """The interval of the geometric mean of the ratios by seed; None as in `mean_interval`.

    A ratio that is only bounded from below enters the lower limit with its bound and leaves the upper limit infinite: the mean of lower
    bounds is not above the mean, so its lower limit is one of the mean too. Upper bounds accordingly.
    """
    with np.errstate(divide="ignore"):
        lows, highs = (np.log(some) for some in _ends(ratios))
    low = mean_interval(lows.tolist()) if np.isfinite(lows).all() else (-math.inf, math.inf)
    high = mean_interval(highs.tolist()) if np.isfinite(highs).all() else (-math.inf, math.inf)
    return None if len(ratios) < 2 or low is None or high is None else Bounds(math.exp(low[0]), math.exp(high[1]))


def std_interval(std: float, n: int) -> tuple[float, float] | None:
    """The chi-square interval of a standard deviation that was estimated from n normal values; None for fewer than two, or for zero."""
    # It takes longer to load than all the rest.
    from scipy import stats

    if n < 2 or std <= 0:
        return None
    low, high = stats.chi2.interval(CONFIDENCE, n - 1)
    return std * math.sqrt((n - 1) / float(high)), std * math.sqrt((n - 1) / float(low))


@cache
def _student(degrees: int) -> float:
    # It takes longer to load than all the rest.
    from scipy import stats

    return float(stats.t.ppf((1 + CONFIDENCE) / 2, degrees))


def _ends(numbers: Sequence[Bounds]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([one.low for one in numbers]), np.array([one.high for one in numbers])

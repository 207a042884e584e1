"""Power of a comparison over few seeds, and the optimism of the best validation score of many settings (winner's curse)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from analysis.store.stats import Summary
from analysis.tuning.intervals import std_interval

LEVEL = 0.05
POWER = 0.80
MAX_SEEDS = 10_000


def power(difference: float, std: float, n: int, paired: bool = True) -> float:
    """The probability that a two-sided t-test at LEVEL detects a true difference, with the right sign.

    Args:
        difference: the true difference of the means, at least 0.
        std: the standard deviation over seeds: of the paired differences, or (not `paired`) of each of the two methods.
        n: the number of seeds of each method, at least 2.
        paired: whether the two methods are compared seed by seed.
    """
    # It takes longer to load than all the rest.
    from scipy.stats import nct
    from scipy.stats import t as student

    degrees = n - 1 if paired else 2 * n - 2
    # The noncentrality: difference over the standard error, which for two independent means of n seeds is std sqrt(2 / n).
    shift = difference / std * math.sqrt(n if paired else n / 2)
    # Only the upper tail: rejecting in favour of the wrong method is no detection.
    return float(nct.sf(student.ppf(1 - LEVEL / 2, degrees), degrees, shift))


def detectable_difference(std: float, n: int, paired: bool = True) -> float:
    """The smallest true difference that n seeds detect with probability POWER, in the unit of `std`; infinite for fewer than two seeds."""
    if n < 2:
        return math.inf
    if std <= 0:
        return 0.0
    low, high = 0.0, std
    # Doubling brackets the answer, because power grows with the difference.
    while power(high, std, n, paired) < POWER:
        low, high = high, 2 * high
    # Bisection to the last bits of a float64.
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle, std, n, paired) < POWER else (low, middle)
    return high


def seeds_needed(difference: float, std: float, paired: bool = True) -> int | None:
    """The number of seeds per method that detect `difference` with probability POWER; None for no difference or more than 10,000 seeds."""
    if difference <= 0:
        return None
    low, high = 1, 2
    # Power grows with the number of seeds; two are the fewest with a standard deviation.
    while power(difference, std, high, paired) < POWER:
        low, high = high, 2 * high
        if high > MAX_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power(difference, std, middle, paired) < POWER else (low, middle)
    return high


@dataclass(frozen=True)
class PairedPower:
    """The power of a paired t-test over the seeds of some differences, and how uncertain it is.

    The standard deviation is an estimate from few seeds. Each pair contains the number at the lower and the upper end of its chi-square
    interval (`analysis.tuning.intervals.std_interval`).
    """

    std: tuple[float, float]  # interval of the standard deviation
    detectable: float  # the smallest true difference that this number of seeds detects with probability POWER
    detectable_range: tuple[float, float]
    seeds: int | None  # the seeds that would detect a true difference of the size found; None: none was found, or more than 10,000 seeds
    seeds_range: tuple[int | None, int | None]


def paired_power(differences: Summary) -> PairedPower | None:
    """The power of the paired t-test; None for fewer than two seeds, or if all differences are equal (the spread is then unknown)."""
    spread = None if differences.std is None else std_interval(differences.std, differences.n)
    if spread is None or differences.std is None:
        return None
    found = abs(differences.mean or 0.0)
    unit = detectable_difference(1.0, differences.n)
    return PairedPower(
        std=spread,
        detectable=unit * differences.std,
        # The detectable difference is proportional to the standard deviation.
        detectable_range=(unit * spread[0], unit * spread[1]),
        seeds=seeds_needed(found, differences.std),
        seeds_range=(seeds_needed(found, spread[0]), seeds_needed(found, spread[1])),
    )


def expected_maximum(count: int) -> float:
    """The expected maximum of `count` independent standard normal variables.

    Integrates E[max] = int (1[x >= 0] - Phi(x)^count) dx numerically on [-12, 12].
    """
    # It takes longer to load than all the rest.
    from scipy.stats import norm

    # Beyond 12 standard deviations both terms agree to the last bit of a float64.
    x, step = np.linspace(-12.0, 12.0, 24_001, retstep=True)
    below = norm.cdf(x) ** count
    return float((np.heaviside(x, 0.5) - below).sum() * step)


def optimism(count: int, accuracy: float, images: int) -> float:
    """An upper bound of the optimism of the best of `count` validation accuracies, as a fraction.

    The bound is attained by equally good settings with independent errors. Settings of one search are evaluated on the same images and
    resemble each other, so their errors are correlated and the optimism is smaller.
    """
    # The standard error of an accuracy over n images is sqrt(a (1 - a) / n).
    return expected_maximum(count) * math.sqrt(accuracy * (1 - accuracy) / images)

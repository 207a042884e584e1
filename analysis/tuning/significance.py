"""Significance tests of one method against another, over the seeds of a cell and over cells, with Holm's correction.

The tests are scipy's. With three seeds against three, few differences are significant; the sentences therefore never conclude that two
methods are equal, only that the data do not show a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from analysis.store.stats import Summary

LEVEL = 0.05
CONFIDENCE = 0.95
RESAMPLES = 9999


def welch(one: Summary, other: Summary) -> float | None:
    """Two-sided p-value of Welch's t-test from means, sample standard deviations and sizes; None if a standard deviation is missing."""
    # Without any variance the statistic is undefined.
    if one.mean is None or other.mean is None or one.std is None or other.std is None or not (one.std or other.std):
        return None
    return _p(stats.ttest_ind_from_stats(one.mean, one.std, one.n, other.mean, other.std, other.n, equal_var=False).pvalue)


def paired(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the paired t-test; None for fewer than two differences or if all are equal."""
    # Equal differences have no variance, so the statistic is undefined.
    if len(differences) < 2 or np.ptp(differences) == 0:
        return None
    return _p(stats.ttest_1samp(differences, 0.0).pvalue)


def wilcoxon(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test; exact for up to 50 differences without ties.

    Zeros are dropped, as Wilcoxon does; None if no difference remains.
    """
    nonzero = [difference for difference in rounded(differences) if difference != 0]
    return _p(stats.wilcoxon(nonzero).pvalue) if nonzero else None


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusts the p-values of a family of tests by Holm's (1979) step-down method; None stays None and does not count as a test."""
    # Step-down: the smallest p-value is multiplied by the number of tests, the next by one less, and so on.
    order = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, index) in enumerate(order):
        # Adjusted p-values must not decrease.
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        corrected[index] = highest
    return corrected


def interval(differences: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean at level `CONFIDENCE`, deterministic; None for fewer than two differences."""
    if len(differences) < 2:
        return None
    # Every resample would have the same mean.
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    # With a generator of its own, so that a report is reproducible.
    found = stats.bootstrap(
        (np.asarray(differences, dtype=float),), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


@dataclass(frozen=True)
class CellComparison:
    """The scores of two methods in one cell."""

    cell: str
    one: Summary  # over the seeds
    other: Summary
    differences: tuple[float, ...] = ()  # by seed; empty if the seeds of the two methods are unknown or differ

    @property
    def difference(self) -> float | None:
        """The difference of the means; None if one is missing."""
        return None if self.one.mean is None or self.other.mean is None else self.one.mean - self.other.mean


@dataclass(frozen=True)
class MethodComparison:
    """The scores of two methods, in percent, over a group of cells whose p-values are corrected together."""

    family: str  # name of the group, such as a data set
    one: str
    other: str
    pairs: tuple[CellComparison, ...]

    @property
    def mean_differences(self) -> list[float]:
        """The difference of the means in each cell."""
        return [pair.difference for pair in self.pairs if pair.difference is not None]

    @property
    def wins(self) -> int:
        """The number of cells in which the first method is ahead."""
        return sum(difference > 0 for difference in rounded(self.mean_differences))

    @property
    def mean_difference(self) -> float:
        """The mean over the cells."""
        return float(np.mean(self.mean_differences))

    def welch(self) -> list[float | None]:
        """The p-value of Welch's t-test in each cell."""
        return [welch(pair.one, pair.other) for pair in self.pairs]

    def paired(self) -> list[float | None]:
        """The p-value of the paired t-test in each cell."""
        return [paired(pair.differences) for pair in self.pairs]

    def wilcoxon(self) -> float | None:
        """The p-value of the signed-rank test over the cells."""
        return wilcoxon(self.mean_differences)

    def interval(self) -> tuple[float, float] | None:
        """The bootstrap interval of the mean difference over the cells, or over the seeds of a single cell."""
        return interval(self.mean_differences if len(self.mean_differences) > 1 else self.pairs[0].differences if self.pairs else ())


def rounded(values: Sequence[float]) -> list[float]:
    """Rounds to nine decimals: rounding errors of a subtraction would otherwise turn ties into different ranks."""
    return [round(value, 9) for value in values]


def p_text(p: float | None) -> str:
    """Formats a p-value: `p = .016`, `p < .001`."""
    if p is None:
        return "no p-value"
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")


def sentence(comparison: MethodComparison, seeds: str) -> str:
    """One sentence with the result of the test over the cells; `seeds` is such as "three seeds"."""
    one, other, cells, p = comparison.one, comparison.other, len(comparison.mean_differences), comparison.wilcoxon()
    # One cell has no test over cells, but may have one over its seeds.
    if cells < 2:
        return _one_cell(comparison, seeds)
    test = (
        f"Wilcoxon signed-rank test over {cells} cells, two-sided: {p_text(p)}; mean difference {comparison.mean_difference:+.2f} points; "
        f"{one} ahead in {comparison.wins} of {cells}"
    )
    if p is not None and p <= LEVEL:
        # The test is two-sided, so a small p-value may speak for either method.
        verb = "beats" if comparison.mean_difference > 0 else "is beaten by"
        return f"On {comparison.family}, {one} {verb} {other} over the cells ({test})."
    # The exact test's p-value if all differences have the same sign.
    least = 2.0 ** (1 - cells)
    few = f" The smallest value possible with {cells} cells is {p_text(least)}." if least > LEVEL else ""
    return f"On {comparison.family}, {one} and {other} do not differ significantly over the cells with {seeds} ({test}).{few}"


def _one_cell(comparison: MethodComparison, seeds: str) -> str:
    one, other = comparison.one, comparison.other
    if not comparison.mean_differences:
        return f"On {comparison.family}, {one} and {other} have no cell in common."
    # Pairing by seed removes the differences between baselines, where the seeds are known.
    p, name = comparison.paired()[0], "paired t-test over the seeds"
    if p is None:
        p, name = comparison.welch()[0], "Welch's t-test"
    test = f"{name}, two-sided: {p_text(p)}; mean difference {comparison.mean_difference:+.2f} points"
    if p is not None and p <= LEVEL:
        return f"On {comparison.family}, {one} {'beats' if comparison.mean_difference > 0 else 'is beaten by'} {other} ({test})."
    return f"On {comparison.family}, {one} and {other} do not differ significantly with {seeds} ({test})."


def _p(value: object) -> float | None:
    p = float(value)  # type: ignore[arg-type]
    return None if math.isnan(p) else p

"""Significance tests of one method against others, over the seeds of a cell and over cells, with Holm's correction.

The tests are scipy's. P-values are corrected for all tests of one kind in a table: opponents times cells over the seeds, opponents over the
cells. Verdicts rest on corrected p-values; `analysis.tables.verdicts` words them.

Cells that share a data set and seeds share images, splits and noise, and are not independent. The test over the cells treats them as if
they were, so its p-value is too small where their differences are correlated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.store.stats import Summary
from analysis.tuning.intervals import mean_interval

LEVEL = 0.05

_EXACT_WITH_TIES = 16
"""The most differences whose signs are enumerated where ties make scipy's exact distribution invalid."""


def welch(one: Summary, other: Summary) -> float | None:
    """Two-sided p-value of Welch's t-test from means, sample standard deviations and sizes; None if a standard deviation is missing."""
    # It takes longer to load than all the rest.
    from scipy import stats

    # Without any variance the statistic is undefined.
    if one.mean is None or other.mean is None or one.std is None or other.std is None or not any(rounded([one.std, other.std])):
        return None
    return _p(stats.ttest_ind_from_stats(one.mean, one.std, one.n, other.mean, other.std, other.n, equal_var=False).pvalue)


def paired(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the paired t-test; None for fewer than two differences or if all are equal."""
    # It takes longer to load than all the rest.
    from scipy import stats

    # Equal differences have no variance, so the statistic is undefined. Rounded, or rounding errors would be its variance.
    if len(set(rounded(differences))) < 2:
        return None
    return _p(stats.ttest_1samp(differences, 0.0).pvalue)


def wilcoxon(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test; exact for up to 50 differences without ties and up to 16 with ties.

    Zeros are dropped, as Wilcoxon does; None if no difference remains.
    """
    # It takes longer to load than all the rest.
    from scipy import stats

    found = nonzero(differences)
    if not found:
        return None
    tied = len(set(map(abs, found))) < len(found)
    # Scipy's default is a normal approximation for ties, which is wrong at the few cells of a table.
    method = stats.PermutationMethod(n_resamples=2**_EXACT_WITH_TIES) if tied and len(found) <= _EXACT_WITH_TIES else "auto"
    return _p(stats.wilcoxon(found, method=method).pvalue)


def smallest_wilcoxon(differences: Sequence[float]) -> float | None:
    """The smallest p-value that the exact test can give: all differences that are not zero have one sign; None without one."""
    count = len(nonzero(differences))
    return 2.0 ** (1 - count) if count else None


def nonzero(differences: Sequence[float]) -> list[float]:
    """The differences that are not zero up to rounding."""
    return [difference for difference in rounded(differences) if difference != 0]


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
    def losses(self) -> int:
        """The number of cells in which the second method is ahead."""
        return sum(difference < 0 for difference in rounded(self.mean_differences))

    @property
    def mean_difference(self) -> float:
        """The mean over the cells."""
        return float(np.mean(self.mean_differences))

    @property
    def over_cells(self) -> bool:
        """Whether the comparison is over several cells, and not over the seeds of one."""
        return len(self.mean_differences) > 1

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
        """The interval of the mean difference over the cells, or over the seeds of a single cell."""
        return mean_interval(self.mean_differences if self.over_cells else self.pairs[0].differences if self.pairs else ())


@dataclass(frozen=True)
class Verdict:
    """The test on which the comparison of two methods rests, corrected for all comparisons of its table."""

    comparison: MethodComparison
    test: str  # wilcoxon | paired | welch
    p: float | None
    corrected: float | None
    tests: int  # the number of tests that the correction is for

    @property
    def direction(self) -> int:
        """1 if the tested quantity speaks for the first method, -1 if for the second, 0 for neither."""
        # It takes longer to load than all the rest.
        from scipy import stats

        differences = nonzero(self.comparison.mean_differences)
        if self.test != "wilcoxon":
            return int(np.sign(sum(differences)))
        # The signed-rank test weighs ranks; the mean of the differences may have the other sign.
        return int(np.sign(np.sum(np.sign(differences) * stats.rankdata(np.abs(differences)))))

    @property
    def significant(self) -> bool:
        """Whether the methods differ significantly after the correction."""
        return self.corrected is not None and self.corrected <= LEVEL


@dataclass(frozen=True)
class CorrectedTests:
    """All tests of one table. The lists contain one entry per comparison, those of the tests over seeds one list of cells each."""

    welch: tuple[list[float | None], ...]
    welch_holm: tuple[list[float | None], ...]
    paired: tuple[list[float | None], ...]
    paired_holm: tuple[list[float | None], ...]
    wilcoxon: tuple[float | None, ...]
    wilcoxon_holm: tuple[float | None, ...]
    verdicts: tuple[Verdict, ...]


def corrected_tests(comparisons: Sequence[MethodComparison]) -> CorrectedTests:
    """Computes all tests of a table and corrects each kind for all tests of that kind in it."""
    over_seeds = [[comparison.welch() for comparison in comparisons], [comparison.paired() for comparison in comparisons]]
    (by_welch, welch_holm), (by_pairs, paired_holm) = ((found, _holm_over_all(found)) for found in over_seeds)
    # One cell has no test over cells.
    by_cells = [comparison.wilcoxon() if comparison.over_cells else None for comparison in comparisons]
    cells_holm = holm(by_cells)
    verdicts = []
    for number, comparison in enumerate(comparisons):
        if comparison.over_cells:
            test, p, corrected, family = "wilcoxon", by_cells[number], cells_holm[number], [by_cells]
        # Pairing by seed removes the differences between baselines, where the seeds are known.
        elif any(p is not None for p in by_pairs[number]):
            test, p, corrected, family = "paired", by_pairs[number][0], paired_holm[number][0], by_pairs
        else:
            first, first_holm = (found[number][0] if found[number] else None for found in (by_welch, welch_holm))
            test, p, corrected, family = "welch", first, first_holm, by_welch
        verdicts.append(Verdict(comparison, test, p, corrected, sum(p is not None for group in family for p in group)))
    return CorrectedTests(
        tuple(by_welch), tuple(welch_holm), tuple(by_pairs), tuple(paired_holm), tuple(by_cells), tuple(cells_holm), tuple(verdicts)
    )


def _holm_over_all(groups: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Corrects the p-values of all groups together and returns them by group."""
    corrected = iter(holm([p for group in groups for p in group]))
    return [[next(corrected) for _ in group] for group in groups]


def rounded(values: Sequence[float]) -> list[float]:
    """Rounds to nine decimals: rounding errors of a subtraction would otherwise turn ties into different ranks."""
    return [round(value, 9) for value in values]


def _p(value: object) -> float | None:
    p = float(value)  # type: ignore[arg-type]
    return None if math.isnan(p) else p

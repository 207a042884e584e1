"""Tests a claim: holds, fails, or undecided.

Let d be the difference of test accuracies and [a, b] its 95 % confidence interval. A claim allows a region of differences. It

    holds        if [a, b] lies inside the region,
    fails        if [a, b] lies outside the region,
    is undecided otherwise.

The interval is Student's: over the paired differences of the seeds in a store; from means and standard deviations, without pairing and by
Welch and Satterthwaite's degrees of freedom, in the published tables. For a claim on the size of a difference, the region is an interval,
and this is the test of equivalence by two one-sided tests (Schuirmann, 1987) at 2.5 % each.

A claim about every cell holds if it holds in each (an intersection-union test, which needs no correction: Berger, 1982), and fails if it
fails in one after Holm's correction over the cells. A claim that a value of a hyperparameter is near the best is about every other value in
every cell, so no best value is selected, and none is favoured by chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.claims.evidence import Difference, Sizes
from analysis.claims.spec import CELLS, EVERY, Claim, Region
from analysis.store.labels import method_label
from analysis.tuning.intervals import CONFIDENCE
from analysis.tuning.significance import LEVEL, holm

HOLDS, FAILS, UNDECIDED, NO_EVIDENCE = "holds", "fails", "undecided", "no evidence"

_EQUAL = 1e-9
"""Differences of accuracies below this many points are rounding errors of float64."""


@dataclass(frozen=True)
class Estimate:
    """A mean difference in points with its standard error; `error` is None if it is unknown, as for one seed."""

    mean: float
    error: float | None
    degrees: float
    n: int

    @property
    def is_zero(self) -> bool:
        """Whether the difference is zero on every one of several seeds: the two networks are equally good, which needs no test."""
        return self.n > 1 and self.error is not None and self.error <= _EQUAL and abs(self.mean) <= _EQUAL

    @property
    def tested(self) -> bool:
        """Whether a t-test is defined."""
        return self.error is not None and self.error > _EQUAL

    def interval(self) -> tuple[float, float] | None:
        """The confidence interval at level `CONFIDENCE`; None if it is undefined."""
        # It takes longer to load than all the rest.
        from scipy import stats

        if self.is_zero:
            return 0.0, 0.0
        if not self.tested or self.error is None:
            return None
        half = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees)) * self.error
        return self.mean - half, self.mean + half

    def p(self, bound: float) -> float | None:
        """The two-sided p-value of the t-test of the mean against `bound`; None if it is undefined."""
        # It takes longer to load than all the rest.
        from scipy import stats

        if not self.tested or self.error is None:
            return None
        return float(2 * stats.t.sf(abs(self.mean - bound) / self.error, self.degrees))

    def power(self, region: Region, expected: float) -> float | None:
        """The probability that a claim is found to hold if the true difference is `expected`; None if it is undefined.

        For a region with two bounds by the shifted t-distribution, an approximation.
        """
        # It takes longer to load than all the rest.
        from scipy import stats

        if not self.tested or self.error is None:
            return None
        critical = float(stats.t.ppf((1 + CONFIDENCE) / 2, self.degrees))
        if math.isinf(region.high):
            return float(stats.nct.sf(critical, self.degrees, (expected - region.low) / self.error))
        above, below = ((region.high - expected) / self.error - critical, (expected - region.low) / self.error - critical)
        return max(0.0, float(stats.t.cdf(above, self.degrees) + stats.t.cdf(below, self.degrees) - 1))


@dataclass(frozen=True)
class Judgement:
    """The verdict on one claim on one kind of evidence, with the numbers behind it."""

    claim: Claim
    evidence: str  # published | store
    verdict: str
    estimate: Estimate | None = None  # average: of the mean; every: of the cell that is nearest to the bound, or beyond it
    p: float | None = None
    power: float | None = None
    cells: int = 0
    inside: int | None = None  # every: the number of cells whose mean difference lies in the region
    statistic: str = ""  # every: the cell of the estimate; sizes: the counts; no evidence: the reason
    notes: tuple[str, ...] = ()


def judge(claim: Claim, differences: Sequence[Difference], evidence: str) -> Judgement:
    """Judges a claim on the difference of two methods."""
    if not differences:
        return Judgement(claim, evidence, NO_EVIDENCE, statistic="no cell has both methods")
    notes = () if all(one.complete for one in differences) else (f"{claim.label} ({evidence}): some seeds or settings have no row.",)
    if claim.cells == EVERY:
        return _every(claim, differences, evidence, notes)
    estimate = _over_cells(differences) if claim.sample == CELLS else _over_seeds(differences)
    verdict = verdict_of(estimate, claim.region)
    return Judgement(
        claim, evidence, verdict, estimate, _p(estimate, claim.region), estimate.power(claim.region, claim.expected),
        len(differences), notes=notes,
    )  # fmt: skip


def judge_sizes(claim: Claim, found: Sizes, evidence: str) -> Judgement:
    """Judges a claim on the numbers of settings, which is a matter of counting."""
    missing = [method for method, sizes in found.sizes.items() if not sizes]
    if missing:
        return Judgement(claim, evidence, NO_EVIDENCE, statistic=f"no search of {', '.join(map(method_label, missing))}")
    counts = "; ".join(", ".join(map(str, sizes)) for sizes in found.sizes.values())
    holds = all(sizes == (claim.settings[method],) for method, sizes in found.sizes.items())
    return Judgement(claim, evidence, HOLDS if holds else FAILS, cells=found.cells, statistic=counts)


def verdict_of(estimate: Estimate, region: Region) -> str:
    """The verdict on one mean difference."""
    interval = estimate.interval()
    if interval is None:
        return UNDECIDED
    low, high = interval
    if region.contains(low) and region.contains(high):
        return HOLDS
    # A difference of exactly zero is not more than zero.
    outside = high < region.low or low > region.high or (estimate.is_zero and not region.contains(0.0))
    return FAILS if outside else UNDECIDED


def in_cell(difference: Difference) -> Estimate:
    """The mean difference of one cell: paired by seed where the seeds are known, by Welch's formula otherwise."""
    if difference.by_seed:
        return _student(list(difference.by_seed.values()))
    variances = _variances(difference)
    return _satterthwaite(difference.mean, variances, difference.n)


def _every(claim: Claim, differences: Sequence[Difference], evidence: str, notes: tuple[str, ...]) -> Judgement:
    region, estimates = claim.region, [in_cell(one) for one in differences]
    inside = [region.contains(one.mean) and not (one.is_zero and not region.contains(0.0)) for one in estimates]
    p_values = [_p(one, region) for one in estimates]
    # A cell refutes the claim by a test of its own, so the cells' p-values are corrected for their number.
    against = holm([None if good else p for good, p in zip(inside, p_values, strict=True)])
    refuted = [
        (p is not None and p <= LEVEL) or (one.is_zero and not region.contains(0.0)) for p, one in zip(against, estimates, strict=True)
    ]
    holds = all(verdict_of(one, region) == HOLDS for one in estimates)
    verdict = FAILS if any(refuted) else HOLDS if holds else UNDECIDED
    # The cell that decides: the one that refutes the claim most clearly, otherwise the one with the weakest support.
    order = sorted(range(len(estimates)), key=lambda index: _support(estimates[index], region, p_values[index], inside[index]))
    weakest = order[0]
    powers = [power for one in estimates if (power := one.power(region, claim.expected)) is not None]
    p = p_values[weakest] if inside[weakest] else against[weakest]
    # With `every_other` a cell has several differences.
    by_cell: dict[str, bool] = {}
    for one, good in zip(differences, inside, strict=True):
        by_cell[one.cell] = by_cell.get(one.cell, True) and good
    least = ", ".join(part for part in (differences[weakest].cell, differences[weakest].other) if part)
    power, met = min(powers, default=None), sum(by_cell.values())
    return Judgement(claim, evidence, verdict, estimates[weakest], p, power, len(by_cell), met, least, notes)


def _support(estimate: Estimate, region: Region, p: float | None, inside: bool) -> float:
    """A number that grows with the support for a claim in one cell: -1 (refuted) to 1 (shown)."""
    certainty = 1 - p if p is not None else float(estimate.is_zero)
    return certainty if inside else -certainty


def _p(estimate: Estimate, region: Region) -> float | None:
    """The p-value against the bounds: the larger one inside a region, that of the violated bound outside."""
    low, high = (None if math.isinf(bound) else estimate.p(bound) for bound in (region.low, region.high))
    if low is None or high is None:
        return low if high is None else high
    if region.low <= estimate.mean <= region.high:
        return max(low, high)
    return low if estimate.mean < region.low else high


def _over_seeds(differences: Sequence[Difference]) -> Estimate:
    """The mean over the cells, with the variation of the seeds in these cells."""
    seeds = set(differences[0].by_seed)
    # Cells with the same seeds share training samples and label noise, so each seed's mean over the cells is one observation.
    if seeds and all(set(one.by_seed) == seeds for one in differences):
        return _student([float(np.mean([one.by_seed[seed] for one in differences])) for seed in differences[0].by_seed])
    mean = float(np.mean([one.mean for one in differences]))
    variances = [(variance / len(differences) ** 2, degrees) for one in differences for variance, degrees in _variances(one)]
    return _satterthwaite(mean, variances, min(one.n for one in differences))


def _over_cells(differences: Sequence[Difference]) -> Estimate:
    """The mean over the cells, with the variation between cells: it generalises to other cells of the kind."""
    return _student([one.mean for one in differences])


def _student(values: Sequence[float]) -> Estimate:
    n = len(values)
    error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else None
    return Estimate(float(np.mean(values)), error, n - 1, n)


def _variances(difference: Difference) -> list[tuple[float, float]]:
    """The squared standard errors of the parts of a difference, with their degrees of freedom; NaN where they are unknown."""
    if difference.by_seed:
        own = in_cell(difference)
        return [(math.nan if own.error is None else own.error**2, own.degrees)]
    return [(math.nan if one.std is None else one.std**2 / one.n, one.n - 1) for one in (difference.of, difference.against)]


def _satterthwaite(mean: float, variances: Sequence[tuple[float, float]], n: int) -> Estimate:
    total = sum(variance for variance, _ in variances)
    if math.isnan(total):
        return Estimate(mean, None, 0, n)
    weights = sum(variance**2 / degrees for variance, degrees in variances if variance > 0)
    return Estimate(mean, math.sqrt(total), total**2 / weights if weights > 0 else 0, n)

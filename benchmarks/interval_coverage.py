"""Coverage of the intervals that reports print, and of the percentile bootstrap, by simulation.

`python -m benchmarks.interval_coverage [--repeats 10000] [--quick]`; a quarter of a minute. It prints the table of docs/tuning_cost.md.

Differences of two methods are normal, or differences of counts of right predictions on 400 test images. Ratios of costs are lognormal, or,
as a case in which the assumption does not hold, ratios of gamma variables (shape 2).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.tuning.intervals import Bounds, mean_interval, ratio_interval, std_interval

SEEDS = (3, 4, 5, 8, 20)
REPEATS = 10_000
IMAGES = 400
_RESAMPLES = 999


@dataclass(frozen=True)
class Case:
    """One kind of interval on one kind of data."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    truth: float
    covers: Callable[[np.ndarray, float], bool]  # (values of one sample, truth)


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(0.01, 0.02, shape)


def _counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    # The methods' accuracies differ by a point; each seed shifts both.
    level = rng.normal(0.85, 0.02, shape)
    return np.asarray((rng.binomial(IMAGES, level + 0.01) - rng.binomial(IMAGES, level)) / IMAGES)


def _gamma_ratio(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(5 * rng.gamma(2.0, size=shape) / rng.gamma(2.0, size=shape))


def _mean_covers(values: np.ndarray, truth: float) -> bool:
    found = mean_interval(values.tolist())
    # Without an interval nothing is claimed; a sample of equal counts is rare, and counts as a miss.
    return found is not None and found[0] <= truth <= found[1]


def _ratio_covers(values: np.ndarray, truth: float) -> bool:
    found = ratio_interval([Bounds(value, value) for value in values.tolist()])
    return found is not None and found.low <= truth <= found.high


def _std_covers(values: np.ndarray, truth: float) -> bool:
    found = std_interval(float(values.std(ddof=1)), len(values))
    return found is not None and found[0] <= truth <= found[1]


CASES = (
    Case("t, mean of normal differences", _normal, 0.01, _mean_covers),
    Case(f"t, mean of differences of counts over {IMAGES} images", _counts, 0.01, _mean_covers),
    Case("t on logarithms, lognormal ratios of costs", lambda rng, shape: rng.lognormal(np.log(5), 0.5, shape), 5.0, _ratio_covers),
    Case("t on logarithms, ratios of gamma variables", _gamma_ratio, 5.0, _ratio_covers),
    Case("chi-square, standard deviation of normal differences", _normal, 0.02, _std_covers),
)


def coverage(case: Case, n: int, repeats: int = REPEATS) -> float:
    """The share of samples of n values whose interval contains the true value."""
    # One stream per case and n, so that a number does not depend on which others are simulated.
    samples = case.draw(np.random.default_rng([CASES.index(case), n]), (repeats, n))
    return sum(case.covers(sample, case.truth) for sample in samples) / repeats


def bootstrap_coverage(n: int, repeats: int = REPEATS) -> float:
    """The same for the percentile bootstrap of the mean of normal differences, which reports do not use."""
    rng = np.random.default_rng([99, n])
    hits = 0
    for sample in _normal(rng, (repeats, n)):
        low, high = np.quantile(sample[rng.integers(n, size=(_RESAMPLES, n))].mean(axis=1), (0.025, 0.975))
        hits += int(low <= 0.01 <= high)
    return hits / repeats


def table(repeats: int = REPEATS) -> str:
    """The table as Markdown, in percent."""
    lines = [f"| interval | {' | '.join(f'n = {n}' for n in SEEDS)} |", f"| :--- | {' | '.join('---:' for _ in SEEDS)} |"]
    rows = [(case.name, [coverage(case, n, repeats) for n in SEEDS]) for case in CASES]
    # Far slower, and its error need not be small beside what it misses.
    rows.append(
        ("percentile bootstrap, mean of normal differences (not used)", [bootstrap_coverage(n, max(1, repeats // 10)) for n in SEEDS])
    )
    # No finer than the Monte-Carlo error, of at most half a percent.
    lines += [f"| {name} | {' | '.join(f'{100 * share:.0f}' for share in shares)} |" for name, shares in rows]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--quick", action="store_true", help="few repetitions, to see that it runs")
    options = parser.parse_args(arguments)
    print(table(200 if options.quick else options.repeats))


if __name__ == "__main__":
    main()

"""Mean and sample standard deviation (divisor n - 1) over seeds, and the comparison of scores that are equal up to rounding."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

TOLERANCE = 1e-9
"""Scores that differ by at most this are equal.

Accuracies are counts over N images, so two of them that differ do so by at least 1/N, and means over S seeds by at least 1/(S N): the
tolerance is below half of that for every N S below 5e8. The rounding errors of float64 in means and expectations of numbers in [0, 1] are
below 1e-12.
"""


@dataclass(frozen=True)
class Summary:
    """The mean and standard deviation of n numbers; `mean` is None if n is 0, `std` is None if n is less than 2."""

    mean: float | None
    std: float | None
    n: int
    values: tuple[float, ...] = field(default=(), compare=False)  # the n numbers; empty if only mean and deviation are known

    def times(self, factor: float) -> Summary:
        """The summary of all numbers multiplied by `factor`, for a change of unit."""
        return Summary(
            None if self.mean is None else self.mean * factor,
            None if self.std is None else self.std * factor,
            self.n,
            tuple(value * factor for value in self.values),
        )


def summarise(values: Iterable[float | None]) -> Summary:
    """Computes mean and sample standard deviation; None and NaN are ignored."""
    # fmean and stdev of the standard library sum exactly (stdev in fractions), so a summary does not depend on the order of the seeds.
    numbers = tuple(float(value) for value in values if value is not None and not math.isnan(value))
    mean = statistics.fmean(numbers) if numbers else None
    return Summary(mean, statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers), numbers)


def difference(one: float, other: float) -> float:
    """`one` minus `other`; exactly 0 if they are equal up to `TOLERANCE`."""
    found = one - other
    return 0.0 if abs(found) <= TOLERANCE else found


def number_of(value: Any) -> float | None:
    """Converts a stored value to a float; None if it is missing, NaN or not numeric."""
    try:
        # Rows from Parquet contain None, NaN and pandas' NA for a missing value.
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def score_difference(one: Any, other: Any, column: str) -> float | None:
    """The score of one row (a mapping or a Series of pandas) minus that of another one; None if a score is missing."""
    first, second = number_of(one[column]), number_of(other[column])
    return None if first is None or second is None else difference(first, second)

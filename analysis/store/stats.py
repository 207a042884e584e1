"""Mean and sample standard deviation (divisor n - 1) over seeds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """The mean and standard deviation of n numbers; `mean` is None if n is 0, `std` is None if n is less than 2."""

    mean: float | None
    std: float | None
    n: int

    def times(self, factor: float) -> Summary:
        """The summary of all numbers multiplied by `factor`, for a change of unit."""
        return Summary(
            None if self.mean is None else self.mean * factor,
            None if self.std is None else self.std * factor,
            self.n,
        )


def summarise(values: Iterable[float | None]) -> Summary:
    """Computes mean and sample standard deviation; None and NaN are ignored."""
    # fmean and stdev of the standard library sum exactly (stdev in fractions), so a summary does not depend on the order of the seeds.
    numbers = [float(value) for value in values if value is not None and not math.isnan(value)]
    mean = statistics.fmean(numbers) if numbers else None
    return Summary(mean, statistics.stdev(numbers) if len(numbers) > 1 else None, len(numbers))

"""Mean and spread over seeds. The sample standard deviation (divisor n - 1) everywhere."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """What is known of some numbers: mean None when there is none, std None when there are fewer than two."""

    mean: float | None
    std: float | None
    n: int

    def times(self, factor: float) -> Summary:
        """The same in another unit."""
        return Summary(
            None if self.mean is None else self.mean * factor,
            None if self.std is None else self.std * factor,
            self.n,
        )


def summarise(values: Iterable[float | None]) -> Summary:
    """Mean and sample standard deviation of the values that are there; None and NaN count as not there."""
    there = [float(value) for value in values if value is not None and not math.isnan(value)]
    mean = statistics.fmean(there) if there else None
    return Summary(mean, statistics.stdev(there) if len(there) > 1 else None, len(there))

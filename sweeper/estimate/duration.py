"""The runtime estimator: predicts the seconds of jobs from the seconds per FLOP of similar jobs. Standard library only.

The rate is the median of the most similar finished jobs: the same method on the same network and data set, or else any method on them.
Without such jobs it is a calibration of the network, or else the rate of jobs on other networks, or else an assumed speed. The 80 %
interval is a factor in both directions: the factor within which 80 % of the similar jobs lie, but at least the typical error of the basis
(docs/log.md). No estimate enters an id.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

COVERAGE = 0.8
"""Nominal coverage of the intervals."""

# The factors grow from the most to the least similar jobs; docs/log.md has the share of jobs that lay inside the intervals.
BASES = {"same method": 1.6, "same network": 1.7, "calibrated": 2.0, "other jobs": 3.0, "assumed": 5.0}
"""Basis of an estimate, best first -> the smallest factor of its interval, fitted in docs/log.md."""

_RECENT = 64
"""Finished jobs per pool; older ones are dropped, so that an estimate follows the machine's load."""


class Conditions(IntEnum):
    """The conditions of a measurement. Within a pool, only the jobs with the best conditions count."""

    # Same type of device, but another number of threads or another load.
    DIFFERENT = 0
    # Same number of threads and same load, in an earlier sweep.
    SAME = 1
    THIS_RUN = 2


@dataclass(frozen=True)
class Workload:
    """A class of jobs that take about the same seconds per FLOP."""

    method: str  # job type, method (of a baseline: its trainer) and search
    network: str
    dataset: str

    @classmethod
    def of(cls, job_type: str, labels: Mapping[str, Any]) -> Workload:
        """The workload of a job with these labels, or of a row of the plan."""
        # Baselines all have the method vanilla; what distinguishes their speed is the trainer.
        method = labels["trainer"] if job_type == "train" else labels["method"]
        return cls(f"{job_type} {method} {labels.get('search') or 'grid'}", labels["network"], labels["dataset"])


@dataclass(frozen=True)
class Estimate:
    """Seconds of one job, or of several run sequentially, with an 80 % interval."""

    seconds: float
    low: float
    high: float
    basis: str  # a key of BASES

    @classmethod
    def sum(cls, estimates: Iterable[Estimate]) -> Estimate:
        """The sum of estimates, with the weakest basis. Bounds are added, because the errors of one sweep's jobs are correlated."""
        found = list(estimates)
        # A sum is as uncertain as its weakest part. Jobs without work do not count.
        basis = max((one.basis for one in found if one.seconds), key=list(BASES).index, default="same method")
        # Errors that are independent would partly cancel; those of one sweep share the machine's speed, so bounds add up.
        return cls(sum(one.seconds for one in found), sum(one.low for one in found), sum(one.high for one in found), basis)


class RuntimeEstimator:
    """Records the run times of finished jobs and estimates those of others.

    Args:
        calibrated: (network, data set) -> seconds per FLOP of a few training steps.
        assumed: seconds per FLOP in the absence of any measurement; None: no estimate in that case.
    """

    def __init__(self, calibrated: Mapping[tuple[str, str], float] | None = None, assumed: float | None = None) -> None:
        self.calibrated = dict(calibrated or {})
        self.assumed = assumed
        self._pools: dict[tuple[str, ...], dict[Conditions, deque[float]]] = defaultdict(dict)

    def record(self, workload: Workload, flops: float | None, seconds: float, conditions: Conditions = Conditions.THIS_RUN) -> None:
        """Adds a finished job. Jobs without FLOPs (a checkpoint was loaded), with unknown FLOPs or without seconds are ignored."""
        if flops is not None and flops > 0 and seconds > 0:
            # Each rate enters all three pools: same method, same network, all jobs.
            for key in _pool_keys(workload).values():
                # A bounded deque drops the oldest rate by itself.
                self._pools[key].setdefault(conditions, deque(maxlen=_RECENT)).append(seconds / flops)

    def has_measured(self, network: str, dataset: str) -> bool:
        """Whether any job on this network and data set was recorded."""
        return (network, dataset) in self._pools

    def estimate(self, workload: Workload, flops: float | None) -> Estimate | None:
        """The estimate for a job with these forecast FLOPs: 0 seconds without FLOPs, None for unknown FLOPs or without any basis."""
        if flops is None:
            return None
        if flops <= 0:
            return Estimate(0.0, 0.0, 0.0, "assumed")
        # Best basis first: the first one with any rate decides, and worse ones are not mixed in.
        for basis, least in BASES.items():
            if rates := self._rates(basis, workload):
                # The median: single jobs are slowed down by other programs, and first jobs by warm-up.
                rate = statistics.median(rates)
                # Few rates may agree by chance; the minimum is the typical error of this basis.
                factor = max(least, _factor_within(rates, rate))
                # A factor in both directions, because run times are ratios: half and twice as long are equally far away.
                return Estimate(flops * rate, flops * rate / factor, flops * rate * factor, basis)
        return None

    def remaining_seconds(self, work: Mapping[Workload, float | None], workers: float = 1) -> float | None:
        """Seconds that `workers` busy workers need for these FLOPs by workload; None if a workload has no estimate."""
        estimates = [self.estimate(workload, flops) for workload, flops in work.items()]
        known = [one.seconds for one in estimates if one is not None]
        # One unknown workload makes the sum unknown; leaving it out would announce an end that is too early.
        return sum(known) / workers if len(known) == len(estimates) and workers > 0 else None

    def _rates(self, basis: str, workload: Workload) -> Sequence[float]:
        """The known seconds per FLOP on this basis."""
        # Calibration and assumption are single rates without spread; their interval is the minimum of `BASES`.
        if basis == "calibrated":
            rate = self.calibrated.get((workload.network, workload.dataset))
            return () if rate is None else (rate,)
        if basis == "assumed":
            return () if self.assumed is None else (self.assumed,)
        pool = self._pools.get(_pool_keys(workload)[basis])
        # The best conditions alone: a rate under another load would shift the median, however many jobs have it.
        return pool[max(pool)] if pool else ()


def flops_by_workload(jobs: Iterable[tuple[Workload, float | None]]) -> dict[Workload, float | None]:
    """Sums the FLOPs of jobs by workload, for `RuntimeEstimator.remaining_seconds`. The sum is unknown (None) if a term is."""
    flops: dict[Workload, float | None] = {}
    for workload, one in jobs:
        before = flops.get(workload, 0.0)
        flops[workload] = None if one is None or before is None else before + one
    return flops


def _pool_keys(workload: Workload) -> dict[str, tuple[str, ...]]:
    """Basis -> key of the pool of measurements that it uses."""
    network = (workload.network, workload.dataset)
    # Tuples of different lengths share one dictionary without colliding.
    return {"same method": (*network, workload.method), "same network": network, "other jobs": ()}


def _factor_within(rates: Sequence[float], middle: float) -> float:
    """The factor around `middle` within which COVERAGE of the rates lie."""
    factors = sorted(max(rate / middle, middle / rate) for rate in rates)
    # The smallest observed factor that covers the share; no distribution is assumed.
    return factors[math.ceil(COVERAGE * len(factors)) - 1]

"""The runtime estimator: seconds of jobs from the seconds per FLOP that similar jobs took. Standard library only.

A job takes the median rate of the most similar jobs that have finished: the same method on this network and data set, else any method on
them. Without such jobs it takes a calibration of the network, else jobs on other networks, else an assumed speed. The 80 % interval is a
factor in both directions: the one that held for 80 % of the similar jobs, and never less than the basis is known to be off by
(docs/log.md). Nothing here enters an id.
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
"""Share of the jobs whose seconds should lie in their interval."""

BASES = {"same method": 1.6, "same network": 1.7, "calibrated": 2.0, "other jobs": 3.0, "assumed": 5.0}
"""What an estimate is based on, best first -> the smallest factor of its interval, fitted in docs/log.md."""

_RECENT = 64
"""Finished jobs per pool; older ones are dropped, so that an estimate follows the machine's load."""


class Conditions(IntEnum):
    """Under which conditions a job was measured. Within a pool, only the jobs under the best conditions count."""

    DIFFERENT = 0  # other threads or another load, same type of device
    SAME = 1  # same threads and load, in an earlier sweep
    THIS_RUN = 2


@dataclass(frozen=True)
class Workload:
    """Jobs with one workload take about the same seconds per FLOP."""

    method: str  # with the type of job and of search; a baseline's is its trainer
    network: str
    dataset: str

    @classmethod
    def of(cls, job_type: str, labels: Mapping[str, Any]) -> Workload:
        """Of a job with these labels, or of a plan's row."""
        method = labels["trainer"] if job_type == "train" else labels["method"]
        return cls(f"{job_type} {method} {labels.get('search') or 'grid'}", labels["network"], labels["dataset"])


@dataclass(frozen=True)
class Estimate:
    """Seconds of one job, or of several one after the other."""

    seconds: float
    low: float
    high: float
    basis: str  # a key of BASES

    @classmethod
    def sum(cls, estimates: Iterable[Estimate]) -> Estimate:
        """The sum, with the weakest basis. Ends are added: what slows one job of a sweep down slows the others down too."""
        found = list(estimates)
        basis = max((one.basis for one in found if one.seconds), key=list(BASES).index, default="same method")
        return cls(sum(one.seconds for one in found), sum(one.low for one in found), sum(one.high for one in found), basis)


class RuntimeEstimator:
    """Collects what finished jobs took, and estimates those to come.

    Args:
        calibrated: (network, data set) -> seconds per FLOP of a few training steps.
        assumed: seconds per FLOP where nothing is known; None: there is no estimate then.
    """

    def __init__(self, calibrated: Mapping[tuple[str, str], float] | None = None, assumed: float | None = None) -> None:
        self.calibrated = dict(calibrated or {})
        self.assumed = assumed
        self._pools: dict[tuple[str, ...], dict[Conditions, deque[float]]] = defaultdict(dict)

    def record(self, workload: Workload, flops: float, seconds: float, conditions: Conditions = Conditions.THIS_RUN) -> None:
        """Adds a finished job; one without FLOPs (a checkpoint was loaded) or without seconds gives no rate and is ignored."""
        if flops > 0 and seconds > 0:
            for key in _pool_keys(workload).values():
                self._pools[key].setdefault(conditions, deque(maxlen=_RECENT)).append(seconds / flops)

    def has_measured(self, network: str, dataset: str) -> bool:
        """Was any job on this network and data set recorded?"""
        return (network, dataset) in self._pools

    def estimate(self, workload: Workload, flops: float) -> Estimate | None:
        """Of a job with these forecast FLOPs; 0 seconds without FLOPs, None where nothing is known."""
        if flops <= 0:
            return Estimate(0.0, 0.0, 0.0, "assumed")
        for basis, least in BASES.items():
            if rates := self._rates(basis, workload):
                rate = statistics.median(rates)
                factor = max(least, _factor_within(rates, rate))
                return Estimate(flops * rate, flops * rate / factor, flops * rate * factor, basis)
        return None

    def remaining_seconds(self, work: Mapping[Workload, float], workers: float = 1) -> float | None:
        """How long `workers` take for these FLOPs by workload, all of them busy; None where something is left of which nothing is known."""
        estimates = [self.estimate(workload, flops) for workload, flops in work.items()]
        known = [one.seconds for one in estimates if one is not None]
        return sum(known) / workers if len(known) == len(estimates) and workers > 0 else None

    def _rates(self, basis: str, workload: Workload) -> Sequence[float]:
        """Seconds per FLOP on this basis; empty where there are none."""
        if basis == "calibrated":
            rate = self.calibrated.get((workload.network, workload.dataset))
            return () if rate is None else (rate,)
        if basis == "assumed":
            return () if self.assumed is None else (self.assumed,)
        pool = self._pools.get(_pool_keys(workload)[basis])
        return pool[max(pool)] if pool else ()


def flops_by_workload(jobs: Iterable[tuple[Workload, float]]) -> dict[Workload, float]:
    """Adds up the FLOPs of jobs, for `RuntimeEstimator.remaining_seconds`."""
    flops: dict[Workload, float] = defaultdict(float)
    for workload, one in jobs:
        flops[workload] += one
    return dict(flops)


def _pool_keys(workload: Workload) -> dict[str, tuple[str, ...]]:
    network = (workload.network, workload.dataset)
    return {"same method": (*network, workload.method), "same network": network, "other jobs": ()}


def _factor_within(rates: Sequence[float], middle: float) -> float:
    """The factor around `middle` within which COVERAGE of the rates lie."""
    factors = sorted(max(rate / middle, middle / rate) for rate in rates)
    return factors[math.ceil(COVERAGE * len(factors)) - 1]

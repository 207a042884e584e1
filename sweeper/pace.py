"""How long jobs will take: from what earlier sweeps have measured, else from FLOPs and a short calibration, with an 80 % interval.

A job's seconds are those that its rows book: tuning (`shared_seconds`) and the platform's scoring (`report_seconds`), added over its rows.
Starting workers and loading data are in neither; per worker that is some ten seconds.

A measured job gives seconds per forecast FLOP. A new job takes the median of the most similar measured ones: the same settings on another
seed, else the same search, else the same method on this network, else this network. Where the network was never measured, a few training
steps of it are timed here. The interval comes from how much the similar ones differ, and, while these are few, from how far such
forecasts were off when this was written (docs/log.md). Nothing here enters an id.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyarrow import ArrowException

from sap_core.records import Planned
from sweeper.cells import Cell
from sweeper.speeds import Kind, Measured, calibrate, kinds_of, measured_in

Z = 1.2816
"""Of a normal distribution, 80 % lie within so many standard deviations."""

LEVELS = ("same settings", "same search", "same method and network", "same network", "calibrated", "same method", "other jobs", "assumed")
"""Where a forecast comes from, best first."""

_SPREAD = (0.12, 0.15, 0.3, 0.35, 0.45, 0.7, 0.9, 1.2)
"""What the standard deviation of log(actual / forecast) is taken to be at each level, before anything is known."""

_WEIGHT = 4.0
"""The above counts as so many measured jobs."""

_COMMON = 0.2
"""Standard deviation of log(actual / forecast) that all jobs of a sweep share, whatever is known: other days, other neighbours."""


@dataclass(frozen=True)
class Estimate:
    """Seconds of one job."""

    seconds: float
    low: float
    high: float
    basis: str  # one of LEVELS

    @classmethod
    def of(cls, seconds: float, spread: float, basis: str) -> Estimate:
        return cls(seconds, seconds * math.exp(-Z * spread), seconds * math.exp(Z * spread), basis)

    @classmethod
    def new_day(cls, seconds: float, spread: float, basis: str) -> Estimate:
        """With what all jobs of a sweep share on top."""
        return cls.of(seconds, math.hypot(spread, _COMMON), basis)

    @property
    def spread(self) -> float:
        """Standard deviation of log(actual / forecast)."""
        return math.log(self.high / self.low) / (2 * Z) if self.low > 0 else 0.0


@dataclass(frozen=True)
class Circumstances:
    """Where the jobs will run."""

    on_cpu: bool = True
    alone: bool = True
    threads: int = 1


@dataclass
class Pace:
    """Seconds per forecast FLOP, pooled by likeness."""

    rates: dict[tuple[Any, ...], list[float]] = field(default_factory=dict)
    calibrated: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (network, data set) -> seconds per FLOP
    assumed: float = 1.0e-10

    @classmethod
    def of(cls, measured: Iterable[Measured], where: Circumstances, calibrated: Mapping[tuple[str, str], float], assumed: float) -> Pace:
        """Jobs on the other kind of device do not count; those under other threads or loads only where there are no better ones."""
        pools: dict[tuple[Any, ...], list[tuple[bool, float]]] = defaultdict(list)
        for one in measured:
            if one.on_cpu == where.on_cpu and one.flops > 0 and one.seconds > 0:
                fits = (one.alone, one.threads) == (where.alone, where.threads)
                for key in one.kind.levels():
                    pools[key].append((fits, one.seconds / one.flops))
        rates = {key: [rate for fits, rate in pool if fits] or [rate for _, rate in pool] for key, pool in pools.items()}
        return cls(rates, calibrated, assumed)

    def knows(self, network: str, dataset: str) -> bool:
        """Has any job on this network and data set been measured?"""
        return (3, network, dataset) in self.rates

    def estimate(self, kind: Kind, flops: float) -> Estimate:
        """Of a job with so many forecast FLOPs; without any (a checkpoint is loaded), nothing."""
        if flops <= 0:
            return Estimate(0.0, 0.0, 0.0, LEVELS[-1])
        for key in kind.levels():
            if key[0] > 4 and (kind.network, kind.dataset) in self.calibrated:
                return Estimate.new_day(flops * self.calibrated[kind.network, kind.dataset], _SPREAD[4], LEVELS[4])
            if key in self.rates:
                rates = self.rates[key]
                return Estimate.new_day(flops * statistics.median(rates), spread_of(rates, _SPREAD[key[0]]), LEVELS[key[0]])
        if (kind.network, kind.dataset) in self.calibrated:
            return Estimate.new_day(flops * self.calibrated[kind.network, kind.dataset], _SPREAD[4], LEVELS[4])
        return Estimate.new_day(flops * self.assumed, _SPREAD[-1], LEVELS[-1])


def spread_of(rates: Sequence[float], prior: float) -> float:
    """Standard deviation of the log of a further rate about the median of these, drawn towards `prior` while they are few."""
    logs = [math.log(rate) for rate in rates]
    middle = math.log(statistics.median(rates))
    variance = (_WEIGHT * prior**2 + sum((value - middle) ** 2 for value in logs)) / (_WEIGHT + len(logs) - 1)
    return math.sqrt(variance * (1 + 1 / len(logs)))


def total_of(estimates: Iterable[tuple[Kind, Estimate]]) -> Estimate:
    """The sum. Jobs of one search err together, searches by themselves if they were measured, and all share the machine's part."""
    seconds: dict[Any, float] = defaultdict(float)
    errors: dict[Any, float] = defaultdict(float)
    worst = 0
    for kind, one in estimates:
        of_network = LEVELS.index(one.basis) >= 3  # its speed is wrong for all jobs at once
        key = one.basis if of_network else (kind.kind, kind.method, kind.space, kind.trainer, kind.network, kind.dataset)
        seconds[key] += one.seconds
        errors[key] += one.seconds * math.sqrt(max(0.0, one.spread**2 - _COMMON**2))
        worst = max(worst, LEVELS.index(one.basis)) if one.seconds else worst
    total = sum(seconds.values())
    if not total:
        return Estimate(0.0, 0.0, 0.0, LEVELS[0])
    spread = math.sqrt(_COMMON**2 + sum((error / total) ** 2 for error in errors.values()))
    return Estimate.of(total, spread, LEVELS[worst])


def pace_for(config: Any, cells: Sequence[Cell], results: Iterable[Path], workers: int, cores: int) -> Pace:
    """The pace on this machine under a sweep's backend settings: what the stores among `results` measured, calibration for the rest."""
    backend = config.backend
    on_cpu = backend.device == "cpu"
    alone = workers * backend.threads <= cores if on_cpu else backend.gpus_per_job in (0.0, 1.0)
    measured = list(measured_in(results))
    where = Circumstances(on_cpu, alone, backend.threads)
    known = Pace.of(measured, where, {}, 1 / backend.flops_per_second)
    new = [cell for cell in cells if not known.knows(cell.model.name, cell.dataset.name)]
    return replace(known, calibrated=calibrate(new, backend.device, backend.threads))


Parts = tuple[float | None, float | None, float | None, str | None]
"""A planned row's part of its job's forecast: seconds, low, high, basis."""


def with_seconds(rows: Sequence[Planned], pace: Pace, earlier: Mapping[str, Parts], done: Collection[str]) -> list[Planned]:
    """The plan's lines with their parts of the jobs' forecasts. What was forecast before its job ran stands.

    Args:
        rows: the plan.
        pace: what is known now.
        earlier: the parts in the stored plan, by run id.
        done: jobs that have ended: a forecast made now would know their result.
    """
    counts = Counter(row.job_id for row in rows)
    found: dict[str, Parts] = {}
    for job_id, (kind, flops) in kinds_of(rows).items():
        if job_id not in done:
            one, n = pace.estimate(kind, flops), counts[job_id]
            found[job_id] = one.seconds / n, one.low / n, one.high / n, one.basis
    filled = []
    for row in rows:
        parts = earlier.get(row.run_id, _UNKNOWN)
        seconds, low, high, basis = found.get(row.job_id, _UNKNOWN) if parts[0] is None else parts
        filled.append(replace(row, forecast_seconds=seconds, forecast_low_seconds=low, forecast_high_seconds=high, forecast_basis=basis))
    return filled


_UNKNOWN: Parts = (None, None, None, None)


def earlier_forecasts(plan: Path) -> dict[str, Parts]:
    """What the plan at this path forecast; {} where there is none or it cannot be read."""
    from analysis.files import read_file

    names = ("forecast_seconds", "forecast_low_seconds", "forecast_high_seconds", "forecast_basis")
    with suppress(OSError, ArrowException, ValueError):  # a damaged plan is written anew
        lines = read_file(plan, Planned, frozenset({"run_id", *names})).to_pylist()
        return {line["run_id"]: (line[names[0]], line[names[1]], line[names[2]], line[names[3]]) for line in lines}
    return {}


def seconds_by_job(rows: Iterable[Planned]) -> dict[str, float]:
    """Job id -> forecast seconds, of jobs that have a forecast."""
    found: dict[str, float] = defaultdict(float)
    for row in rows:
        if row.forecast_seconds is not None:
            found[row.job_id] += row.forecast_seconds
    return dict(found)


def describe_seconds(rows: Sequence[Planned], pace: Pace, workers: int) -> str:
    """The dry run's lines: seconds by kind and search, the sum, and how long so many workers take."""
    kinds = kinds_of(rows)
    estimates = {job_id: (kind, pace.estimate(kind, flops)) for job_id, (kind, flops) in kinds.items()}
    groups: dict[str, list[str]] = defaultdict(list)
    for job_id, (kind, _) in kinds.items():
        groups[f"{kind.kind} {kind.method}{'@' + kind.space if kind.space else ''}"].append(job_id)
    lines = [f"{'seconds of workers':<32} {'jobs':>7} {'forecast':>10}   {'80 % interval':<22} from"]
    for name, members in groups.items():
        one = total_of(estimates[job_id] for job_id in members)
        lines.append(f"{name:<32} {len(members):>7} {one.seconds:>10.3g}   {_interval(one):<22} {one.basis}")
    whole = total_of(estimates.values())
    lines.append(f"{'all':<32} {len(kinds):>7} {whole.seconds:>10.3g}   {_interval(whole):<22}")
    chain = longest_chain(rows, {job_id: one.seconds for job_id, (_, one) in estimates.items()})
    wall = max(whole.seconds / workers, chain)
    lines.append(f"about {spoken(wall)} on {workers} worker{'s' if workers > 1 else ''}, and a start of some ten seconds")
    return "\n".join(lines)


def _interval(one: Estimate) -> str:
    return f"{one.low:.3g} to {one.high:.3g}"


def longest_chain(rows: Iterable[Planned], seconds: Mapping[str, float]) -> float:
    """Of a job and its parents one after the other; parents stand first in a plan."""
    ends: dict[str, float] = {}
    for row in rows:
        if row.job_id not in ends:
            before = max((ends.get(parent, 0.0) for parent in row.parents.split(",") if parent), default=0.0)
            ends[row.job_id] = before + seconds.get(row.job_id, 0.0)
    return max(ends.values(), default=0.0)


def spoken(seconds: float) -> str:
    """A length of time in the unit that suits it."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} seconds"

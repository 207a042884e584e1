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
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from sap_core.construct import build_network
from sap_core.identity import content_id
from sap_core.records import Planned, Row
from sweeper.cells import Cell
from sweeper.forecast import flops_of

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

_CALIBRATION_SECONDS = 0.25
_STEP_FLOPS = 2.0e9
_MOST_NETWORKS = 8
_MOST_FILES = 300
_MOST_STORES = 12
_PER_GROUP = 3


@dataclass(frozen=True)
class Kind:
    """What a job is compared by."""

    kind: str
    method: str
    space: str | None
    how: str  # evaluation and search
    settings: str  # of all its rows, as a hash
    trainer: str
    network: str
    dataset: str

    def levels(self) -> tuple[tuple[Any, ...], ...]:
        """Keys under which measured jobs are pooled, by the places of `LEVELS` that hold measured ones."""
        here = (self.network, self.dataset)
        method = (self.kind, self.method, self.how)
        return (
            (0, *method, self.space, self.settings, self.trainer, *here),
            (1, *method, self.space, self.trainer, *here),
            (2, *method, *here),
            (3, *here),
            (5, *method),
            (6,),
        )


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
class Measured:
    """What one finished job took."""

    kind: Kind
    flops: float  # forecast
    seconds: float
    on_cpu: bool
    alone: bool  # it had cores, or a card, of its own
    threads: int


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


def kinds_of(rows: Iterable[Planned | Mapping[str, Any]]) -> dict[str, tuple[Kind, float]]:
    """Job id -> what it is compared by, and its forecast FLOPs, from lines of a plan."""
    first: dict[str, Mapping[str, Any]] = {}
    settings: dict[str, list[str]] = defaultdict(list)
    flops: dict[str, float] = defaultdict(float)
    for row in rows:
        line = vars(row) if isinstance(row, Planned) else row
        job_id = line["job_id"]
        first.setdefault(job_id, line)
        settings[job_id].append(line["settings"])
        flops[job_id] += line["forecast_flops"] or 0.0
    found = {}
    for job_id, line in first.items():
        how = f"{line['evaluation']} {line['search'] or 'grid'} {line['search_budget'] or ''}"
        told = content_id({"settings": sorted(settings[job_id])})
        names = (line["kind"], line["method"], line["space"], how, told, line["trainer"], line["network"], line["dataset"])
        found[job_id] = Kind(*names), flops[job_id]
    return found


_PLAN_COLUMNS = frozenset(
    {"job_id", "kind", "method", "space", "evaluation", "search", "search_budget", "settings", "trainer", "network", "dataset"}
    | {"forecast_flops"}
)
_ROW_COLUMNS = frozenset(
    {"job_id", "status", "error_kind", "shared_seconds", "report_seconds", "device", "device_share", "device_jobs", "cores", "threads"}
)


def measured_in(stores: Iterable[Path]) -> Iterator[Measured]:
    """What finished jobs of stores took: of each kind a few, so that large stores are not read whole. What is damaged is passed over."""
    budget = _MOST_FILES
    for store in sorted((path for path in stores if (path / "plan.parquet").is_file()), key=_changed, reverse=True)[:_MOST_STORES]:
        if budget > 0:
            with suppress(Exception):  # a store that cannot be read tells nothing; its own readers say what is wrong with it
                found, files = _measured(store, budget)
                budget -= files
                yield from found


def _changed(store: Path) -> float:
    return (store / "plan.parquet").stat().st_mtime


def _measured(store: Path, budget: int) -> tuple[list[Measured], int]:
    from analysis.files import read_file

    kinds = kinds_of(read_file(store / "plan.parquet", Planned, _PLAN_COLUMNS).to_pylist())
    per_group: dict[Kind, int] = defaultdict(int)
    names = sorted(path.name for path in (store / "rows").glob("[!.]*.parquet"))
    chosen = [name for name in names if name.split(".")[0] not in kinds][:20]  # files of many jobs
    for name in names:
        kind = kinds.get(name.split(".")[0])
        if kind and name.endswith(".ok.parquet") and per_group[kind[0]] < _PER_GROUP and len(chosen) < budget:
            per_group[kind[0]] += 1
            chosen.append(name)
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name in chosen:
        for row in read_file(store / "rows" / name, Row, _ROW_COLUMNS).to_pylist():
            rows[row["job_id"]].append(row)
    return [one for job_id, mine in rows.items() if job_id in kinds and (one := _of_rows(*kinds[job_id], mine))], len(chosen)


def _of_rows(kind: Kind, flops: float, rows: Sequence[Mapping[str, Any]]) -> Measured | None:
    if any(row["shared_seconds"] is None or (row["status"] == "failed" and row["error_kind"] != "diverged") for row in rows):
        return None
    seconds = sum(row["shared_seconds"] + (row["report_seconds"] or 0.0) for row in rows)
    first = rows[0]
    on_cpu, jobs, threads = first["device"] == "cpu", first["device_jobs"], first["threads"]
    alone = (jobs or 1) * threads <= (first["cores"] or 1) if on_cpu else (jobs or 1) == 1 and first["device_share"] == 1.0
    return Measured(kind, flops, seconds, on_cpu, alone, threads)


def calibrate(cells: Iterable[Cell], device: str, threads: int) -> dict[tuple[str, str], float]:
    """(network, data set) -> seconds per FLOP of a few training steps here; {} where the device is not. At most some two seconds."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return {}
    found: dict[tuple[str, str], float] = {}
    for cell in cells:
        key = (cell.model.name, cell.dataset.name)
        if key not in found and len(found) < _MOST_NETWORKS:
            with suppress(Exception), _settled(threads):  # a network that cannot be stepped here is told by its job
                found[key] = _timed(cell, torch.device(device))
    return found


@contextmanager
def _settled(threads: int) -> Iterator[None]:
    """The jobs' thread count; torch's random state is left alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(before)


def _timed(cell: Cell, device: torch.device) -> float:
    """Seconds per FLOP."""
    data, flops = cell.dataset.instance, flops_of(cell.model, cell.dataset)
    per_sample = flops.forward + flops.backward
    most = max(2, int(_STEP_FLOPS / max(per_sample, 1.0)))  # a step of a second at the most
    asked = cell.trainer.settings.get("batch_size")
    size = asked if isinstance(asked, int) and device.type != "cpu" else min(asked if isinstance(asked, int) else 64, most)
    settings = {key: None if key == "weights" else value for key, value in cell.model.settings.items()}
    network = build_network(cell.model.entry | {"settings": settings}, data.classes.num, data.shape).to(device).train()
    inputs = torch.randn(max(2, size), *data.shape, device=device)
    step = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)

    def once() -> None:
        step.zero_grad()
        network(inputs).square().mean().backward()
        step.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()
    clock = time.thread_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter  # not what others take
    begun, start, steps = time.perf_counter(), clock(), 0
    while steps < 3 or time.perf_counter() - begun < _CALIBRATION_SECONDS:
        once()
        steps += 1
    return (clock() - start) / (steps * len(inputs) * per_sample)


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
    with suppress(Exception):  # a damaged plan is written anew
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

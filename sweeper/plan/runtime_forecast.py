"""Forecasts the run time of a plan: the estimator for this machine, the plan's forecast columns, and the text of a dry run.

A job's seconds are those of its rows: tuning (`tuning_seconds`) and scoring (`report_seconds`). The start of a worker and the loading of
data are not included; they take about ten seconds per worker.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyarrow import ArrowException

from analysis.store.parquet import read_file
from sap_core.records import Planned
from sweeper.estimate.duration import COVERAGE, Conditions, Estimate, RuntimeEstimator
from sweeper.estimate.measurements import read_measurements, workloads_by_job

# `calibrate` loads torch and is imported where it is called, so that this module also serves programs without torch.
if TYPE_CHECKING:
    from sweeper.plan.cell import Cell

Forecast = tuple[float | None, float | None, float | None, str | None]
"""A planned row's part of its job's forecast: seconds, low, high, basis."""

_COLUMNS = ("forecast_seconds", "forecast_low_seconds", "forecast_high_seconds", "forecast_basis")
_NO_FORECAST: Forecast = (None, None, None, None)


def make_estimator(config: Any, cells: Sequence[Cell], stores: Iterable[Path], workers: int, cores: int) -> RuntimeEstimator:
    """The estimator for this machine and a sweep's backend settings.

    Uses the measurements in `stores`, and calibration for networks without any. Jobs on another type of device are ignored; those with
    another number of threads or co-located jobs are used only where there are no better measurements.
    """
    from sweeper.plan.calibration import calibrate

    backend = config.backend
    on_cpu = backend.device == "cpu"
    # Jobs that share cores or a GPU slow one another down, so only measurements under the same load are comparable.
    alone = workers * backend.threads <= cores if on_cpu else backend.gpus_per_job in (0.0, 1.0)
    # The last resort, for networks that were neither measured nor timed here.
    estimator = RuntimeEstimator(assumed=1 / backend.flops_per_second)
    # Seconds of a GPU and of a CPU have no common scale, so measurements of the other type are dropped.
    for one in read_measurements(stores):
        if one.on_cpu == on_cpu:
            same = (one.alone, one.threads) == (alone, backend.threads)
            estimator.record(one.workload, one.flops, one.seconds, Conditions.SAME if same else Conditions.DIFFERENT)
    # Only networks that no stored job has measured are timed here.
    new = [cell for cell in cells if not estimator.has_measured(cell.model.name, cell.dataset.name)]
    estimator.calibrated = calibrate(new, backend.device, backend.threads)
    return estimator


def with_forecasts(
    rows: Sequence[Planned], estimator: RuntimeEstimator, earlier: Mapping[str, Forecast], ended: Collection[str]
) -> list[Planned]:
    """The plan's rows with forecast columns. A forecast that was stored before its job ran is kept.

    Args:
        rows: of the plan.
        estimator: for this machine.
        earlier: the forecasts in the stored plan, by run id.
        ended: jobs that have ended. They get no new forecast, because it would be made from their own measurement.
    """
    # A stored forecast is kept, so that `sap-report STORE forecast` compares run times with what was forecast before the run.
    counts = Counter(row.job_id for row in rows)
    new: dict[str, Forecast] = {}
    for job_id, (workload, flops) in workloads_by_job(rows).items():
        if job_id not in ended and (one := estimator.estimate(workload, flops)) is not None:
            # A job is one computation, so its forecast is divided among its rows and sums over rows stay right.
            new[job_id] = one.seconds / counts[job_id], one.low / counts[job_id], one.high / counts[job_id], one.basis
    filled = []
    for row in rows:
        kept = earlier.get(row.run_id, _NO_FORECAST)
        # Earlier first: a forecast that is made again after its job has run would be a hindsight.
        seconds, low, high, basis = new.get(row.job_id, _NO_FORECAST) if kept[0] is None else kept
        filled.append(replace(row, forecast_seconds=seconds, forecast_low_seconds=low, forecast_high_seconds=high, forecast_basis=basis))
    return filled


def earlier_forecasts(plan: Path) -> dict[str, Forecast]:
    """Run id -> forecast in the plan at this path; {} if it does not exist or cannot be read, because it is about to be rewritten."""
    with suppress(OSError, ArrowException, ValueError):
        rows = read_file(plan, Planned, frozenset({"run_id", *_COLUMNS})).to_pylist()
        seconds, low, high, basis = _COLUMNS
        return {row["run_id"]: (row[seconds], row[low], row[high], row[basis]) for row in rows}
    return {}


def describe_seconds(rows: Sequence[Planned], estimator: RuntimeEstimator, workers: int) -> str:
    """The dry run's table: worker seconds by job type and search, their sum, and the wall time."""
    # Reversed, so that the first row of each job remains.
    first = {row.job_id: row for row in reversed(rows)}
    estimates = {
        job_id: one
        for job_id, (workload, flops) in workloads_by_job(rows).items()
        if (one := estimator.estimate(workload, flops)) is not None
    }
    groups: dict[str, list[Estimate | None]] = defaultdict(list)
    for job_id in dict.fromkeys(row.job_id for row in rows):
        row = first[job_id]
        groups[f"{row.job_type} {row.method}{'@' + row.space if row.space else ''}"].append(estimates.get(job_id))
    lines = [f"{'seconds of workers':<32} {'jobs':>7} {'forecast':>10}   {f'{COVERAGE:.0%} interval':<22} from"]
    lines += [_line(name, members) for name, members in groups.items()]
    lines.append(_line("all", [one for members in groups.values() for one in members]))
    if len(estimates) < len(first):
        return "\n".join([*lines, "the run time is unknown, because the FLOPs of some jobs are"])
    seconds = {job_id: one.seconds for job_id, one in estimates.items()}
    # Workers are never idle except along the critical path: a lower bound that real schedules come close to.
    wall = max(sum(seconds.values()) / workers, longest_chain(rows, seconds))
    lines.append(f"about {duration_text(wall)} on {workers} worker{'s' if workers > 1 else ''}, plus about ten seconds to start")
    return "\n".join(lines)


def _line(name: str, estimates: Sequence[Estimate | None]) -> str:
    known = [one for one in estimates if one is not None]
    if len(known) < len(estimates):
        return f"{name:<32} {len(estimates):>7} {'unknown':>10}"
    one = Estimate.sum(known)
    interval = f"{one.low:.3g} to {one.high:.3g}"
    return f"{name:<32} {len(estimates):>7} {one.seconds:>10.3g}   {interval:<22} {one.basis}"


def longest_chain(rows: Iterable[Planned], seconds: Mapping[str, float]) -> float:
    """Seconds of the critical path. Requires that parents precede their children, as in a plan."""
    ends: dict[str, float] = {}
    for row in rows:
        if row.job_id not in ends:
            before = max((ends.get(parent, 0.0) for parent in row.parents.split(",") if parent), default=0.0)
            ends[row.job_id] = before + seconds.get(row.job_id, 0.0)
    return max(ends.values(), default=0.0)


def duration_text(seconds: float) -> str:
    """A duration with its unit, such as 2.5 hours."""
    for unit, size in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} seconds"

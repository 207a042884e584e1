"""timing=exclusive: repeats a few jobs of every search one at a time, and stores both run times in STORE/timing/JOB.parquet.

Concurrent workers share caches and memory bandwidth even when each has its own cores. The ratio of the two run times is the slowdown by
concurrency. Stored rows are not changed, and a job is measured once.

Each job runs completely, as in the sweep, in one fresh worker process with a temporary store and temporary artifacts; its parents'
artifacts are symbolic links.
"""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from sap_core.cost import TUNING
from sap_core.files import storing
from sap_core.records import Timing
from sweeper.backends.local_backend import LocalBackend
from sweeper.jobs.cost_columns import COST_PREFIX
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.stored_artifacts import is_complete
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import Store

# A few jobs per search suffice for the ratio of the two run times; all of them would double the sweep.
JOBS_PER_SEARCH = 3
"""Maximum number of measured jobs of each search, and of baselines; at least one of each is measured."""

MAX_FLOPS_SHARE = 0.25
"""Further jobs are measured while their forecast FLOPs stay below this share of the plan's."""

_SCRATCH = ".timing-"


def measure(jobs: Sequence[Job], paths: SweepPaths, device: str) -> None:
    """Measures the chosen jobs that are done and not measured yet. The caller has to own the store's lock.

    Jobs whose parents' artifacts are missing and jobs that fail are skipped with a message on standard error.

    Raises:
        StorageError: a measurement cannot be stored.
    """
    store = Store(paths.store)
    by_id = {job.job_id: job for job in jobs}
    todo = {job.job_id: job for job in choose_jobs(jobs) if store.is_done(job.job_id) and not store.has_timing(job.job_id)}
    # A parent that is itself measured is rerun and writes its own artifact in the temporary folder, so it must not be linked.
    ancestors = {name for job in todo.values() for name in _ancestors(job, by_id)} - set(todo)
    # Parents are not rerun for a measurement: training a baseline may cost more than everything that is measured.
    lost = {name for name in ancestors if not is_complete(paths.artifacts, name)}
    for job in list(todo.values()):
        missing = sorted(lost & set(_ancestors(job, by_id)))
        if missing:
            _log(f"{job.job_id} is not measured exclusively: the artifact of its parent {missing[0]} is missing or damaged")
            del todo[job.job_id]
    if not todo:
        _log(f"{store.root}: all chosen jobs have been measured exclusively")
        return
    _log(f"measuring {len(todo)} jobs exclusively")
    # Left by a killed process, because this one owns the store's lock.
    for stale in store.root.glob(f"{_SCRATCH}*"):
        shutil.rmtree(stale, ignore_errors=True)
    # Below the store, whose file system has to be writable anyway; the dot keeps the folder out of every listing of the store.
    with storing(store.root), tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=store.root) as name:
        scratch = SweepPaths(paths.data, Path(name) / "store", Path(name) / "artifacts")
        scratch.artifacts.mkdir()
        for parent in ancestors - lost:
            # Links, because checkpoints are large and a measured job only reads them.
            (scratch.artifacts / parent).symlink_to(paths.artifacts / parent)

        def report(job: Job, result: Result) -> None:
            # A failure here says nothing about the stored result, so it is a message and no row.
            if result.status != "ok":
                _log(f"{job.job_id} failed during its exclusive measurement, {result.error_type}: {result.error}")
                return
            timings = _timings(job, store, Store(scratch.store))
            store.write_timings(timings)
            exclusive, in_sweep = timings[0].exclusive_seconds, timings[0].seconds
            _log(f"{job.job_id} {_name(job)} seed {job.labels['seed']}: {exclusive:.2f} s exclusively, {in_sweep:.2f} s in the sweep")

        # Parents count as done, and one worker runs the jobs one after another.
        schedule = Schedule.of(todo.values(), dict.fromkeys(ancestors, "ok"), scratch.artifacts)
        LocalBackend(scratch, 1, device).run(schedule, report)


def choose_jobs(jobs: Sequence[Job]) -> list[Job]:
    """At most `JOBS_PER_SEARCH` jobs of each search, spread evenly over its jobs, in the plan's order."""
    searches: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        searches[_name(job)].append(job)
    limit = MAX_FLOPS_SHARE * sum(job.forecast_flops or 0.0 for job in jobs)
    flops, selected = 0.0, set()
    # Searches take turns, so that the limit cuts the second and third jobs of all of them rather than all jobs of the last ones.
    for turn in range(JOBS_PER_SEARCH):
        for members in searches.values():
            count = min(JOBS_PER_SEARCH, len(members))
            if turn >= count:
                continue
            # Evenly spread, including the first and the last job: settings of a space are ordered, and run times may grow along it.
            job = members[turn * (len(members) - 1) // max(1, count - 1)]
            # The first job of each search is exempt from the limit, because a search without a measurement has no ratio at all.
            # Unknown FLOPs may exceed any limit.
            more = math.inf if job.forecast_flops is None else job.forecast_flops
            if turn == 0 or flops + more <= limit:
                flops += job.forecast_flops or 0.0
                selected.add(job.job_id)
    return [job for job in jobs if job.job_id in selected]


def _name(job: Job) -> str:
    return f"{job.labels['method']}{'@' + job.labels['space'] if job.labels['space'] else ''}"


def _ancestors(job: Job, jobs: Mapping[str, Job]) -> list[str]:
    """The jobs that `job` depends on, directly or indirectly."""
    # The list grows while it is read, which visits ancestors level by level.
    found = list(job.parents)
    for name in found:
        found += [parent for parent in jobs[name].parents if parent not in found] if name in jobs else []
    return found


def _timings(job: Job, store: Store, rerun: Store) -> list[Timing]:
    """Both run times of a job: of all tuning phases together, then of each phase that both stores contain."""
    row = rerun.read_rows(job.job_id)[0]
    # Circumstances of the sweep come from the stored row, those of the measurement from the new one.
    then = next(iter(store.read_rows(job.job_id)))
    seconds, exclusive = _seconds_by_phase(job, store), _seconds_by_phase(job, rerun)
    return [
        Timing(
            job_id=job.job_id, job_type=job.job_type, method=row.method, space=row.space, seed=row.seed, phase=phase,
            seconds=seconds[phase], exclusive_seconds=exclusive[phase], jobs_on_device=then.jobs_on_device, device=row.device,
            threads=row.threads, started_at=row.started_at, commit=row.commit,
        )
        for phase in ("all", *TUNING, "report") if phase in seconds and phase in exclusive
    ]  # fmt: skip


def _seconds_by_phase(job: Job, store: Store) -> dict[str, float]:
    """Seconds of a job by phase, and of all tuning phases together (`all`). Work shared by settings counts once."""
    # Rows divide shared work among settings, so their sum counts it once; the series have it by phase.
    found = {"all": sum(row.tuning_seconds or 0.0 for row in store.read_rows(job.job_id))}
    for point in store.read_series(job.job_id):
        if point.name.startswith(COST_PREFIX) and point.name.endswith("/seconds"):
            phase = point.name.split("/")[1]
            found[phase] = found.get(phase, 0.0) + point.value
    return found


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""timing=exclusive: a few jobs of every search are measured again, one at a time with nothing else of the sweep running.

Workers that run side by side share caches and memory bandwidth even when each has cores of its own. How much that cost shows in the factor
between both measurements. The rows stay as they are; what was measured goes to STORE/timing/JOB.parquet, and is not measured again.

Each job runs whole, as it did in the sweep, in one fresh worker process, into a store and artifacts that are thrown away; it reads its
parents' artifacts through links.
"""

from __future__ import annotations

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
from sweeper.jobs.cost_columns import PREFIX
from sweeper.jobs.job import Job, Result, SweepPaths, artifact
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import Store

PER_SEARCH = 3
"""Jobs of each search, and baselines, at most; one of each is always measured."""

SHARE = 0.25
"""Further ones are taken while their forecasts add up to at most this part of the whole plan's."""

_SCRATCH = ".timing-"


def measure(jobs: Sequence[Job], folders: SweepPaths, device: str) -> None:
    """Measures those of the chosen jobs that are done and were not measured. Call it under the store's lock.

    A job whose parents' artifacts are gone is left out with a line on standard error, and so is one that fails now.

    Raises:
        StorageError: the disk refused.
    """
    store = Store(folders.store)
    by_id = {job.job_id: job for job in jobs}
    todo = {job.job_id: job for job in chosen(jobs) if store.holds(job.job_id) and not store.timed(job.job_id)}
    ancestors = {name for job in todo.values() for name in _above(job, by_id)} - set(todo)
    lost = {name for name in ancestors if not artifact(folders.artifacts, name).exists()}
    for job in list(todo.values()):
        gone = sorted(lost & set(_above(job, by_id)))
        if gone:
            _say(f"{job.job_id} is not measured alone: the artifact of {gone[0]} is gone")
            del todo[job.job_id]
    if not todo:
        _say(f"{store.root}: every job that was to be measured alone has been")
        return
    _say(f"measuring {len(todo)} jobs alone")
    for left in store.root.glob(f"{_SCRATCH}*"):  # of a start that was killed; the store's lock is ours
        shutil.rmtree(left, ignore_errors=True)
    with storing(store.root), tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=store.root) as name:
        scratch = SweepPaths(folders.data, Path(name) / "store", Path(name) / "artifacts")
        scratch.artifacts.mkdir()
        for parent in ancestors - lost:
            (scratch.artifacts / parent).symlink_to(folders.artifacts / parent)

        def report(job: Job, result: Result) -> None:
            if result.status != "ok":
                _say(f"{job.job_id} failed when it was measured alone, {result.error_type}: {result.error}")
                return
            timings = _compared(job, store, Store(scratch.store))
            store.write_timings(timings)
            now, then = timings[0].exclusive_seconds, timings[0].seconds
            _say(f"{job.job_id} {_name(job)} seed {job.labels['seed']}: {now:.2f} s alone, {then:.2f} s in the sweep")

        schedule = Schedule.of(todo.values(), dict.fromkeys(ancestors, "ok"), scratch.artifacts)
        LocalBackend(scratch, 1, device).run(schedule, report)


def chosen(jobs: Sequence[Job]) -> list[Job]:
    """At most `PER_SEARCH` jobs of each search, spread evenly over its jobs, in the plan's order."""
    searches: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        searches[_name(job)].append(job)
    limit = SHARE * sum(job.forecast_flops for job in jobs)
    spent, taken = 0.0, set()
    for turn in range(PER_SEARCH):
        for mine in searches.values():
            count = min(PER_SEARCH, len(mine))
            if turn >= count:
                continue
            job = mine[turn * (len(mine) - 1) // max(1, count - 1)]
            if turn == 0 or spent + job.forecast_flops <= limit:
                spent += job.forecast_flops
                taken.add(job.job_id)
    return [job for job in jobs if job.job_id in taken]


def _name(job: Job) -> str:
    return f"{job.labels['method']}{'@' + job.labels['space'] if job.labels['space'] else ''}"


def _above(job: Job, jobs: Mapping[str, Job]) -> list[str]:
    """The jobs that `job` stands on, directly or not."""
    found = list(job.parents)
    for name in found:
        found += [parent for parent in jobs[name].parents if parent not in found] if name in jobs else []
    return found


def _compared(job: Job, store: Store, again: Store) -> list[Timing]:
    """Both measurements of one job: of all that tuning needs, then of each phase that both know."""
    row = again.read_rows(job.job_id)[0]
    then = next(iter(store.read_rows(job.job_id)))
    seconds, exclusive = _spent(job, store), _spent(job, again)
    return [
        Timing(
            job_id=job.job_id, job_type=job.job_type, method=row.method, space=row.space, seed=row.seed, phase=phase,
            seconds=seconds[phase], exclusive_seconds=exclusive[phase], jobs_on_device=then.jobs_on_device, device=row.device, threads=row.threads,
            started_at=row.started_at, commit=row.commit,
        )
        for phase in ("all", *TUNING, "report") if phase in seconds and phase in exclusive
    ]  # fmt: skip


def _spent(job: Job, store: Store) -> dict[str, float]:
    """Seconds of the whole job, common work once: by phase, and of all that tuning needs."""
    found = {"all": sum(row.tuning_seconds or 0.0 for row in store.read_rows(job.job_id))}
    for point in store.read_series(job.job_id):
        if point.name.startswith(PREFIX) and point.name.endswith("/seconds"):
            phase = point.name.split("/")[1]
            found[phase] = found.get(phase, 0.0) + point.value
    return found


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

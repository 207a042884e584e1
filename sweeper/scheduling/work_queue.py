"""Work distribution among workers that share a file of jobs: each runs its own shard first, then steals unfinished jobs of the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sap_core.errors import UserError
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.results import store_failure
from sweeper.jobs.stored_artifacts import is_complete
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import Store

_MAX_RETRIES = 50
"""Number of leased jobs that a worker tries to acquire per refresh, so that hundreds of idle workers do not all probe every lease."""


class WorkQueue:
    """The queue of a worker: its own shard, followed by the shards that it may steal from.

    Shards consist of complete chains of jobs, so no shard waits for another. A job that another process has leased is deferred; `refresh`
    finds out which deferred jobs have ended, and offers the others again, because their owner may be dead.

    Args:
        jobs: all jobs of the file.
        shard: N/M, the shard of this worker.
        paths: the sweep's paths.
        order: see `sweeper.scheduling.schedule`.
        steal: whether to run jobs of other shards.

    Raises:
        UserError: `shard` is not N/M.
    """

    def __init__(self, jobs: Sequence[Job], shard: str, paths: SweepPaths, order: str, steal: bool = True) -> None:
        number, count = _parse_shard(shard)
        shards = _split(jobs, count)
        self._store, self._artifacts = Store(paths.store), paths.artifacts
        finished, self._problems = self._store.finished()
        # Read once, at the start: a failure that another worker adds later is newer than this plan, and its job is left alone until the
        # next start.
        self.known_failures = self._store.failed_attempts()
        own = shards[number - 1]
        # Every worker steals from its right neighbour first, so that idle workers spread over the shards.
        others = [job for index in range(number, number + count - 1) for job in shards[index % count]] if steal else []
        self.jobs = [*own, *others]
        # Two schedules: the own shard keeps its order, and stolen jobs are only asked for when it has none to start.
        self._own, self._others = (Schedule.of(some, finished, self._artifacts, order) for some in (own, others))
        self._stolen: set[str] = set()
        self._retries = 0
        # At once, because a parent may have failed for good in an earlier start.
        self._fail_orphans()

    def report_problems(self, log: Callable[[str], None]) -> None:
        """Logs damaged files of the store, and checkpoints that have to be recomputed."""
        for problem in self._problems:
            log(problem)
        if line := retraining_message(self._own.recomputed | self._others.recomputed):
            log(line)

    @property
    def all_ended(self) -> bool:
        """Whether every job has ended, in this process or another one."""
        return self._own.empty and self._others.empty

    @property
    def failed(self) -> bool:
        """Whether a job of the own shard or a stolen one failed."""
        return bool(self._own.failed) or any(job_id in self._others.failed for job_id in self._stolen)

    def next(self) -> Job | None:
        """The next job to try; None when the remaining jobs are leased by other processes or depend on such jobs."""
        # Deferred jobs come last and in limited number: trying one costs a look at its lease file.
        job = self._own.next(deferred=False) or self._others.next(deferred=False)
        while job is None and self._retries > 0 and (self._own.deferred or self._others.deferred):
            self._retries -= 1
            job = self._own.next() or self._others.next()
        return job

    def record(self, job: Job, result: Result) -> None:
        """Records the result of a job that `next` returned."""
        schedule = self._own if job.job_id in self._own.running else self._others
        if result.status == "stopped":
            schedule.requeue(job.job_id)
        elif result.status == "leased_elsewhere":
            schedule.defer(job.job_id)
        else:
            if schedule is self._others:
                # Remembered for the exit code: a worker reports the failures of jobs that it ran, not those of other workers.
                self._stolen.add(job.job_id)
            schedule.finish(job.job_id, result.status == "ok", result.error)
            self._fail_orphans()

    def refresh(self) -> None:
        """Marks jobs that other processes have finished, and allows the remaining deferred jobs to be tried again."""
        # One listing of the folder, instead of a look at each job: stores may be on NFS, and many workers poll.
        statuses = self._store.statuses()
        for schedule in (self._own, self._others):
            for job in [*schedule.deferred.values(), *schedule.waiting.values()]:
                status = statuses.get(job.job_id)
                # The artifact is checked, too: a stored job may be recomputed by its owner because its checkpoint was deleted.
                if status == "ok" and (job.job_type in ("tune", "search") or is_complete(self._artifacts, job.job_id)):
                    schedule.finish(job.job_id, True)
                elif status == "failed" and self._store.attempts(job.job_id) > self.known_failures.get(job.job_id, 0):
                    schedule.finish(job.job_id, False, "failed in another process")
        self._fail_orphans()
        self._retries = min(_MAX_RETRIES, len(self._own.deferred) + len(self._others.deferred))

    def poll_interval(self, waited: float, lease: float) -> float:
        """Seconds until the next refresh: grows with the time `waited` without work, up to an eighth of a lease."""
        # Short at first, because a parent may be about to end; then ever longer, so that idle workers on a network file system do not poll
        # it. An eighth of a lease is the rate at which owners renew.
        return max(0.1, min(waited, lease / 8))

    def remaining_ids(self) -> list[str]:
        """Ids of the jobs that have not ended, as of the last `refresh`."""
        return [job_id for schedule in (self._own, self._others) for some in (schedule.deferred, schedule.waiting) for job_id in some]

    def remaining_text(self) -> str:
        """The number of remaining jobs, as text."""
        running = len(self._own.deferred) + len(self._others.deferred)
        waiting = len(self._own.waiting) + len(self._others.waiting)
        leased = f" ({running} leased by other processes, {waiting} waiting for them)" if running else ""
        return f"{running + waiting} jobs remaining{leased}"

    def _fail_orphans(self) -> None:
        for schedule in (self._own, self._others):
            for orphan, why in schedule.orphans():
                store_failure(orphan, self._store, "parent", why)


def shard_of(jobs: Sequence[Job], shard: str) -> list[Job]:
    """The N-th of M shards of the jobs. A chain of jobs is never split, so that no shard waits for another.

    Raises:
        UserError: `shard` is not N/M.
    """
    number, count = _parse_shard(shard)
    return _split(jobs, count)[number - 1]


def retraining_message(job_ids: frozenset[str]) -> str | None:
    """A message about stored jobs that are rerun because their artifacts are missing or damaged and a remaining job reads them."""
    if not job_ids:
        return None
    names = ", ".join(sorted(job_ids)[:3]) + (", ..." if len(job_ids) > 3 else "")
    what, them = ("the checkpoint of 1 job is", "it") if len(job_ids) == 1 else (f"the checkpoints of {len(job_ids)} jobs are", "them")
    return (
        f"{what} missing or damaged and will be recomputed first, because remaining jobs read {them} ({names}); stored rows are not changed"
    )


def _parse_shard(shard: str) -> tuple[int, int]:
    """(number of the shard, number of shards)"""
    try:
        number, count = (int(part) for part in shard.split("/"))
        if not 1 <= number <= count:
            raise ValueError(shard)
    except ValueError as error:
        raise UserError(f"--shard {shard} is invalid; give N/M with 1 <= N <= M, as in --shard 1/4") from error
    return number, count


def _split(jobs: Sequence[Job], count: int) -> list[list[Job]]:
    """Deals the jobs out by the root of their chain, round robin."""
    root: dict[str, str] = {}
    # Parents come before their children, so the first parent's root is already known.
    for job in jobs:
        # A job belongs to the chain of its first parent.
        root[job.job_id] = root.get(job.parents[0], job.parents[0]) if job.parents else job.job_id
    # Round robin in the plan's order, so that neighbours, which are the chains of one seed or cell, go to different shards.
    order = {job_id: index for index, job_id in enumerate(dict.fromkeys(root.values()))}
    shards: list[list[Job]] = [[] for _ in range(count)]
    for job in jobs:
        shards[order[root[job.job_id]] % count].append(job)
    return shards

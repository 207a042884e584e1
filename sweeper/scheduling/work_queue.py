"""What one of several workers on a file of jobs does next: its own part, then what others have left and nobody alive has claimed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sap_core.errors import UserError
from sweeper.jobs.job import Job, Result, SweepPaths, artifact
from sweeper.jobs.run_job import fail
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import Store

_MOST_LOOKS = 50
"""Jobs of others that are asked for again at one go: with hundreds of workers each looks at other ones first."""


class Parts:
    """The schedules of a worker's own part and of the others', and the books of both.

    Parts are chains dealt out whole, so neither waits for the other. A job that another process has is put aside; `look_again` finds by
    names what has ended, and offers the rest again, because its owner may be dead.
    """

    def __init__(self, jobs: Sequence[Job], only: str, folders: SweepPaths, order: str, steal: bool = True) -> None:
        number, parts = _number(only)
        dealt = _deal(jobs, parts)
        self._store, self._artifacts = Store(folders.store), folders.artifacts
        finished, self._problems = self._store.finished()
        self.tried = self._store.tried()
        own = dealt[number - 1]
        others = [job for place in range(number, number + parts - 1) for job in dealt[place % parts]] if steal else []
        self.jobs = [*own, *others]
        self._own, self._others = (Schedule.of(some, finished, self._artifacts, order) for some in (own, others))
        self._stolen: set[str] = set()
        self._looks = 0
        self._fail_orphans()

    def say(self, tell: Callable[[str], None]) -> None:
        """What a user should know before anything runs."""
        for problem in self._problems:
            tell(problem)
        if line := retrained(self._own.again | self._others.again):
            tell(line)

    @property
    def over(self) -> bool:
        """Has every job ended, here or elsewhere?"""
        return self._own.empty and self._others.empty

    @property
    def failed(self) -> bool:
        """Did a job of the own part fail, or one that was taken from others?"""
        return bool(self._own.failed) or any(job_id in self._others.failed for job_id in self._stolen)

    def next(self) -> Job | None:
        """A job to try; None: all that are left are other processes', or wait for those."""
        job = self._own.next(deferred=False) or self._others.next(deferred=False)
        while job is None and self._looks > 0 and (self._own.deferred or self._others.deferred):
            self._looks -= 1
            job = self._own.next() or self._others.next()
        return job

    def book(self, job: Job, result: Result) -> None:
        """What came of a job that `next` gave."""
        schedule = self._own if job.job_id in self._own.running else self._others
        if result.status == "stopped":
            schedule.put_back(job.job_id)
        elif result.status == "elsewhere":
            schedule.defer(job.job_id)
        else:
            if schedule is self._others:
                self._stolen.add(job.job_id)
            schedule.finish(job.job_id, result.status == "ok", result.error)
            self._fail_orphans()

    def look_again(self) -> None:
        """Finds what has ended elsewhere; the rest may be asked for once more."""
        statuses = self._store.statuses()
        for schedule in (self._own, self._others):
            for job in [*schedule.deferred.values(), *schedule.waiting.values()]:
                status = statuses.get(job.job_id)
                if status == "ok" and (job.job_type in ("tune", "search") or artifact(self._artifacts, job.job_id).exists()):
                    schedule.finish(job.job_id, True)
                elif status == "failed" and self._store.attempts(job.job_id) > self.tried.get(job.job_id, 0):
                    schedule.finish(job.job_id, False, "failed in another process")
        self._fail_orphans()
        self._looks = min(_MOST_LOOKS, len(self._own.deferred) + len(self._others.deferred))

    def pause(self, waited: float, lease: float) -> float:
        """How long to wait before looking again, after so many seconds without work: at first soon, then a fraction of a lease."""
        return max(0.1, min(waited, lease / 8))

    def to_go(self) -> list[str]:
        """The ids of jobs that have not ended, as far as this worker knows: it looks at what others did when it has nothing to do."""
        return [job_id for schedule in (self._own, self._others) for some in (schedule.deferred, schedule.waiting) for job_id in some]

    def left(self) -> str:
        """What has not ended, in words."""
        running = len(self._own.deferred) + len(self._others.deferred)
        waiting = len(self._own.waiting) + len(self._others.waiting)
        whose = f" ({running} jobs are other processes', {waiting} wait for them)" if running else ""
        return f"{running + waiting} jobs to go{whose}"

    def _fail_orphans(self) -> None:
        for schedule in (self._own, self._others):
            for orphan, why in schedule.orphans():
                fail(orphan, self._store, "parent", why)


def part_of(jobs: Sequence[Job], only: str) -> list[Job]:
    """The N-th of M parts of the jobs: chains are dealt out whole, so that no part waits for another.

    Raises:
        UserError: `only` is not N/M.
    """
    number, parts = _number(only)
    return _deal(jobs, parts)[number - 1]


def retrained(job_ids: frozenset[str]) -> str | None:
    """A sentence about held jobs that run again because their artifacts are gone and a job that is still to run reads them."""
    if not job_ids:
        return None
    names = ", ".join(sorted(job_ids)[:3]) + (", ..." if len(job_ids) > 3 else "")
    what, them = ("the checkpoint of 1 job is", "it") if len(job_ids) == 1 else (f"the checkpoints of {len(job_ids)} jobs are", "them")
    return f"{what} gone and made again first, because jobs that are still to run read {them} ({names}); stored rows stay as they are"


def _number(only: str) -> tuple[int, int]:
    try:
        number, parts = (int(word) for word in only.split("/"))
        if not 1 <= number <= parts:
            raise ValueError(only)
    except ValueError as error:
        raise UserError(f"--only {only} is no part; give N/M with 1 <= N <= M, for example 1/4") from error
    return number, parts


def _deal(jobs: Sequence[Job], parts: int) -> list[list[Job]]:
    root: dict[str, str] = {}
    for job in jobs:
        root[job.job_id] = root.get(job.parents[0], job.parents[0]) if job.parents else job.job_id
    order = {name: place for place, name in enumerate(dict.fromkeys(root.values()))}
    dealt: list[list[Job]] = [[] for _ in range(parts)]
    for job in jobs:
        dealt[order[root[job.job_id]] % parts].append(job)
    return dealt

"""Which job next: planned order, parents first, no barrier between kinds. Shared by all backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from sweeper.execute import Result
from sweeper.jobs import Job, artifact

Report = Callable[[Job, Result], None]


class Backend(Protocol):
    """Runs jobs somewhere."""

    def run(self, schedule: Schedule, report: Report) -> None:
        """Runs until nothing can start any more; `report` is called after each job.

        Raises:
            UserError: results could not be stored.
            KeyboardInterrupt: passed on, after the workers have stored what they can.
        """


@dataclass
class Schedule:
    """Hands out jobs whose parents are done; jobs below a failed one are handed to `orphans` instead."""

    waiting: dict[str, Job]
    done: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)  # job id -> why
    running: dict[str, Job] = field(default_factory=dict)

    @classmethod
    def of(cls, jobs: Iterable[Job], finished: Mapping[str, str], artifacts: Path) -> Schedule:
        """`finished`: jobs that are not to be run, with their status; one whose artifact is needed and gone runs again all the same."""
        mine = {job.job_id: job for job in jobs}  # the store may hold other jobs, too
        lost = _lost(mine, finished, artifacts)
        finished = {job_id: status for job_id, status in finished.items() if job_id not in lost}
        waiting = {job_id: job for job_id, job in mine.items() if job_id not in finished}
        done = {job_id for job_id, status in finished.items() if status == "ok"}
        failed = {job_id: "failed in earlier starts" for job_id, status in finished.items() if status != "ok" and job_id in mine}
        return cls(waiting, done, failed)

    def next(self) -> Job | None:
        """The first job that can start now; None when all wait or none is left."""
        for job in self.waiting.values():
            if all(parent in self.done for parent in job.parents):
                self.running[job.job_id] = self.waiting.pop(job.job_id)
                return job
        return None

    def finish(self, job_id: str, ok: bool, error: str | None = None) -> None:
        self.running.pop(job_id, None)
        if ok:
            self.done.add(job_id)
        else:
            self.failed[job_id] = error or "failed"

    def put_back(self, job_id: str) -> None:
        """A job that was stopped before it ended waits again, first in line."""
        if job_id in self.running:
            self.waiting = {job_id: self.running.pop(job_id), **self.waiting}

    def orphans(self) -> list[tuple[Job, str]]:
        """Takes out the jobs that can never start, each with a sentence naming the parent that failed or is not there."""
        lost: list[tuple[Job, str]] = []
        for job in list(self.waiting.values()):
            for parent in job.parents:
                if parent in self.failed:
                    lost.append((self.waiting.pop(job.job_id), f"its parent {parent} failed: {self.failed[parent]}"))
                    self.failed[job.job_id] = f"its parent {parent} failed"
                    break
                if not (parent in self.done or parent in self.running or parent in self.waiting):
                    lost.append((self.waiting.pop(job.job_id), f"its parent {parent} is neither done nor among the jobs"))
                    self.failed[job.job_id] = f"its parent {parent} is missing"
                    break
        return lost

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.running


def _lost(jobs: Mapping[str, Job], finished: Mapping[str, str], artifacts: Path) -> set[str]:
    """Jobs whose rows are held but whose artifact is gone (deleted, or on another disk) although a job that is still to run reads it."""
    lost: set[str] = set()
    needed: set[str] = set()
    for job in reversed(list(jobs.values())):  # children stand after their parents
        gone = finished.get(job.job_id) == "ok" and not artifact(artifacts, job.job_id).exists()
        if job.job_id in needed and gone:
            lost.add(job.job_id)
        if job.job_id in lost or job.job_id not in finished:
            needed.update(job.parents)
    return lost

"""Which job next: parents first, then by one of three orders; no barrier between kinds. Shared by all backends.

`cells` keeps to the plan, and a cell's seed begins when every job of its seed before has ended, failed ones included: a first whole result
of each cell comes as soon as it can. Workers that find nothing to do in one cell take another cell's jobs.
`depth` is `cells`, but all seeds of a cell come before the next cell: for limited time, where whole cells count.
`longest` starts the job with the most arithmetic on it and below it, whatever its seed: no worker idles at the end over one long job.
"""

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
    seeds: dict[int, int] = field(default_factory=dict)  # seed -> its place in the plan
    chains: dict[str, float] | None = None  # job id -> FLOPs of the longest chain that begins with it; None: the order is `cells`

    @classmethod
    def of(cls, jobs: Iterable[Job], finished: Mapping[str, str], artifacts: Path, order: str = "cells") -> Schedule:
        """`finished`: jobs that are not to be run, with their status; one whose artifact is needed and gone runs again all the same."""
        mine = {job.job_id: job for job in jobs}  # the store may hold other jobs, too
        lost = _lost(mine, finished, artifacts)
        finished = {job_id: status for job_id, status in finished.items() if job_id not in lost}
        waiting = {job_id: job for job_id, job in mine.items() if job_id not in finished}
        if order == "depth":
            waiting = _deep(waiting, mine.values())
        done = {job_id for job_id, status in finished.items() if status == "ok"}
        failed = {job_id: "failed in earlier starts" for job_id, status in finished.items() if status != "ok" and job_id in mine}
        seeds: dict[int, int] = {}
        for job in mine.values():
            seeds.setdefault(job.labels["seed"], len(seeds))
        return cls(waiting, done, failed, seeds=seeds, chains=_chains(waiting.values()) if order == "longest" else None)

    def next(self) -> Job | None:
        """The job that is to start now; None when all wait or none is left."""
        ready = (job for job in self.waiting.values() if all(parent in self.done for parent in job.parents))
        chains = self.chains
        if chains is not None:
            job = max(ready, key=lambda job: chains[job.job_id], default=None)
        else:
            turn = self._turns()
            job = next((job for job in ready if all(self._place(job) == turn[cell] for cell in job.cells)), None)
        if job is not None:
            self.running[job.job_id] = self.waiting.pop(job.job_id)
        return job

    def _turns(self) -> dict[int, int]:
        """For each cell the place of the seed whose turn it is: the first that has not ended."""
        turn: dict[int, int] = {}
        for job in (*self.running.values(), *self.waiting.values()):
            for cell in job.cells:
                turn[cell] = min(turn.get(cell, self._place(job)), self._place(job))
        return turn

    def _place(self, job: Job) -> int:
        return self.seeds[job.labels["seed"]]

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


def _deep(waiting: Mapping[str, Job], jobs: Iterable[Job]) -> dict[str, Job]:
    """Cell by cell, and in a cell seed by seed. A parent's cells hold its children's, so it stays before them."""
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(job.labels["seed"] for job in jobs))}
    first = sorted(waiting.values(), key=lambda job: (min(job.cells, default=0), seeds[job.labels["seed"]]))
    return {job.job_id: job for job in first}


def _chains(jobs: Iterable[Job]) -> dict[str, float]:
    """For each job its forecast and that of the longest chain of jobs below it. Children stand after their parents."""
    below: dict[str, float] = {}
    chains: dict[str, float] = {}
    for job in reversed(list(jobs)):
        chains[job.job_id] = job.forecast_flops + below.get(job.job_id, 0.0)
        for parent in job.parents:
            below[parent] = max(below.get(parent, 0.0), chains[job.job_id])
    return chains


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

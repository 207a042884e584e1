"""Which job next: parents first, then by one of three orders; no barrier between kinds. Shared by all backends.

`cells` keeps to the plan, and a cell's seed begins when every job of its seed before has ended, failed ones included: a first whole result
of each cell comes as soon as it can. Workers that find nothing to do in one cell take another cell's jobs.
`depth` is `cells`, but all seeds of a cell come before the next cell: for limited time, where whole cells count.
`longest` starts the job with the most arithmetic on it and below it, whatever its seed: no worker idles at the end over one long job.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from sweeper.jobs.job import Job, Result, artifact

Report = Callable[[Job, Result], None]


class Backend(Protocol):
    """Runs jobs somewhere."""

    def run(self, schedule: Schedule, report: Report) -> None:
        """Runs until nothing can start any more; `report` is called after each job.

        Raises:
            UserError: results could not be stored.
            KeyboardInterrupt: passed on, after the workers have stored what they can.
        """


class Schedule:
    """Hands out jobs whose parents are done; jobs below a failed one are handed to `orphans` instead.

    Each call costs what changed since the one before, not the number of jobs (a test holds it against the plain rule).
    """

    def __init__(
        self, waiting: Mapping[str, Job], done: Iterable[str] = (), failed: Mapping[str, str] | None = None, longest: bool = False,
        seeds: Mapping[int, int] | None = None, again: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """`failed`: job id -> why. `seeds`: their places in the plan; None: as they come. `again`: see `of`."""
        self.waiting = dict(waiting)
        self.done = set(done)
        self.failed = dict(failed or {})
        self.running: dict[str, Job] = {}
        self.deferred: dict[str, Job] = {}  # another process has them; they wait, too, behind those that nobody has
        self.again = frozenset(again)
        self._rank = {job_id: place for place, job_id in enumerate(self.waiting)}
        self._first = 0  # ranks below it are of jobs that were put back
        self._seeds = dict(seeds) if seeds is not None else _places(self.waiting.values())
        self._chains = _chains(self.waiting.values()) if longest else None
        self._children: dict[str, list[str]] = defaultdict(list)
        self._missing: dict[str, int] = {}  # of each waiting job, the parents that are not done
        self._ready: list[tuple[float, int, str]] = []  # a heap of those that can start; what left `waiting` since is passed over
        self._suspects: list[tuple[int, str]] = []  # a heap of those that may have become orphans
        self._turns = _Turns(self.waiting.values(), self._place) if not longest else None
        for job in self.waiting.values():
            parents = set(job.parents)
            self._missing[job.job_id] = len(parents - self.done)
            for parent in parents:
                self._children[parent].append(job.job_id)
            if any(parent not in self.done and parent not in self.waiting for parent in parents):
                heapq.heappush(self._suspects, (self._rank[job.job_id], job.job_id))
        for job_id in self.waiting:
            self.offer(job_id)

    @classmethod
    def of(cls, jobs: Iterable[Job], finished: Mapping[str, str], artifacts: Path, order: str = "cells") -> Schedule:
        """`finished`: jobs that are not to be run, with their status; one whose artifact is needed and gone (`again`) runs all the same."""
        mine = {job.job_id: job for job in jobs}  # the store may hold other jobs, too
        lost = _lost(mine, finished, artifacts)
        finished = {job_id: status for job_id, status in finished.items() if job_id not in lost}
        waiting = {job_id: job for job_id, job in mine.items() if job_id not in finished}
        if order == "depth":
            waiting = _deep(waiting, mine.values())
        done = {job_id for job_id, status in finished.items() if status == "ok"}
        failed = {job_id: "failed in earlier starts" for job_id, status in finished.items() if status != "ok" and job_id in mine}
        return cls(waiting, done, failed, order == "longest", _places(mine.values()), lost)

    def next(self, deferred: bool = True) -> Job | None:
        """The job that is to start now; None when all wait or none is left.

        When nothing else can start it is a job that another process had (the one that was asked for longest ago), unless `deferred` is
        False: that process may be dead by now, or done.
        """
        while self._ready:
            _, rank, job_id = heapq.heappop(self._ready)
            if job_id in self.waiting and self._rank[job_id] == rank:
                self.running[job_id] = self.waiting.pop(job_id)
                return self.running[job_id]
        if deferred and self.deferred:
            job_id = next(iter(self.deferred))
            self.running[job_id] = self.deferred.pop(job_id)
            return self.running[job_id]
        return None

    def finish(self, job_id: str, ok: bool, error: str | None = None) -> None:
        """A job has ended, here or in another process."""
        job = self.running.pop(job_id, None) or self.deferred.pop(job_id, None) or self.waiting.pop(job_id, None)
        if ok:
            self.done.add(job_id)
        else:
            self.failed[job_id] = error or "failed"
        for child in self._children.pop(job_id, ()):
            self._missing[child] -= ok
            if not ok and child in self.waiting:
                heapq.heappush(self._suspects, (self._rank[child], child))
            self.offer(child)
        if job is not None:
            self._leave(job)

    def put_back(self, job_id: str) -> None:
        """A job that was stopped before it ended waits again, first in line."""
        if job_id in self.running:
            self._first -= 1
            self._rank[job_id] = self._first
            self.waiting = {job_id: self.running.pop(job_id), **self.waiting}
            self.offer(job_id)

    def defer(self, job_id: str) -> None:
        """Another process has this job."""
        if job_id in self.running:
            self.deferred[job_id] = self.running.pop(job_id)

    def orphans(self) -> list[tuple[Job, str]]:
        """Takes out the jobs that can never start, each with a sentence naming the parent that failed or is not there."""
        lost: list[tuple[Job, str]] = []
        while self._suspects:
            _, job_id = heapq.heappop(self._suspects)
            why = self._why_lost(self.waiting[job_id]) if job_id in self.waiting else None
            if why is None:
                continue
            job = self.waiting.pop(job_id)
            lost.append((job, why[0]))
            self.failed[job_id] = why[1]
            for child in self._children.pop(job_id, ()):
                if child in self.waiting:
                    heapq.heappush(self._suspects, (self._rank[child], child))
            self._leave(job)
        return lost

    def _why_lost(self, job: Job) -> tuple[str, str] | None:
        """(what its rows say, what its children's say of it) of a job that can never start."""
        for parent in job.parents:
            if parent in self.failed:
                return f"its parent {parent} failed: {self.failed[parent]}", f"its parent {parent} failed"
            if not any(parent in known for known in (self.done, self.running, self.waiting, self.deferred)):
                return f"its parent {parent} is neither done nor among the jobs", f"its parent {parent} is missing"
        return None

    @property
    def empty(self) -> bool:
        return not self.waiting and not self.running and not self.deferred

    def offer(self, job_id: str) -> None:
        """Puts a job among those that can start, if it can. No job that could stops being able to: turns only go on."""
        if job_id in self.waiting and not self._missing[job_id] and (self._turns is None or self._turns.has(self.waiting[job_id])):
            length = self._chains[job_id] if self._chains is not None else 0.0
            heapq.heappush(self._ready, (-length, self._rank[job_id], job_id))

    def _leave(self, job: Job) -> None:
        """A job has ended: other seeds' turns may have come."""
        for job_id in self._turns.end(job) if self._turns is not None else ():
            self.offer(job_id)

    def _place(self, job: Job) -> int:
        return self._seeds[job.labels["seed"]]


class _Turns:
    """For each cell the seed whose turn it is: the first, by its place in the plan, of which a job has not ended."""

    def __init__(self, jobs: Iterable[Job], place: Callable[[Job], int]) -> None:
        self._place = place
        self._left: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # cell -> place -> jobs that have not ended
        self._members: dict[tuple[int, int], list[str]] = defaultdict(list)
        for job in jobs:
            for cell in job.cells:
                self._left[cell][place(job)] += 1
                self._members[cell, place(job)].append(job.job_id)
        self._turn = {cell: min(places) for cell, places in self._left.items()}

    def has(self, job: Job) -> bool:
        return all(self._turn[cell] == self._place(job) for cell in job.cells)

    def end(self, job: Job) -> list[str]:
        """Books the end of a job; the jobs of the seeds whose turn comes by it."""
        found: list[str] = []
        for cell in job.cells:
            places = self._left[cell]
            places[self._place(job)] -= 1
            if not places[self._place(job)]:
                del places[self._place(job)]
                turn = min(places, default=self._turn[cell])
                if turn != self._turn[cell]:
                    self._turn[cell] = turn
                    found += self._members[cell, turn]
        return found


def _places(jobs: Iterable[Job]) -> dict[int, int]:
    """Seed -> its place in the plan"""
    seeds: dict[int, int] = {}
    for job in jobs:
        seeds.setdefault(job.labels["seed"], len(seeds))
    return seeds


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

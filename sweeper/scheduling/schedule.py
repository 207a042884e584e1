"""The schedule of jobs: parents first, then one of three orders, without a barrier between job types. All backends use it.

`cells` follows the plan, and a cell's next seed starts when every job of its previous seed has ended, failed ones included: each cell has
complete results of one seed as early as possible. Workers without a ready job in one cell run jobs of other cells.
`depth` is `cells` with all seeds of a cell before the next cell: for limited time, where complete cells count.
`longest` starts the job with the most FLOPs on its longest chain of descendants, whatever its seed, so that no worker idles at the end
while one long job runs.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from sweeper.jobs.job import Job, Result
from sweeper.jobs.stored_artifacts import is_complete

Report = Callable[[Job, Result], None]


class Backend(Protocol):
    """Executes the jobs of a schedule."""

    def run(self, schedule: Schedule, report: Report) -> None:
        """Runs until no job can start any more; `report` is called after each job.

        Raises:
            UserError: results could not be stored.
            KeyboardInterrupt: re-raised after the workers have stored their state.
        """


class Schedule:
    """Returns jobs whose parents are done; descendants of a failed job are returned by `orphans` instead.

    The cost of a call is proportional to what changed since the previous one, not to the number of jobs: sweeps have 100,000 of them.
    """

    def __init__(
        self, waiting: Mapping[str, Job], done: Iterable[str] = (), failed: Mapping[str, str] | None = None, longest: bool = False,
        seeds: Mapping[int, int] | None = None, recomputed: Iterable[str] = (),
    ) -> None:  # fmt: skip
        """
        Args:
            waiting: jobs to run, by id, parents before children.
            done: ids of the jobs that succeeded in earlier starts.
            failed: job id -> reason, of the jobs that are not retried.
            longest: use the order `longest` instead of `cells`.
            seeds: seed -> its index in the plan; None: by first occurrence in `waiting`.
            recomputed: ids of the jobs in `waiting` whose rows are stored but whose artifact is missing.
        """
        # Copies, because entries move between these collections as jobs start and end.
        self.waiting = dict(waiting)
        self.done = set(done)
        self.failed = dict(failed or {})
        self.running: dict[str, Job] = {}
        self.deferred: dict[str, Job] = {}  # leased by another process; tried after all others
        self.recomputed = frozenset(recomputed)
        self._rank = {job_id: index for index, job_id in enumerate(self.waiting)}
        # The lowest rank; requeued jobs get lower ones.
        self._first = 0
        self._seeds = dict(seeds) if seeds is not None else _seed_indices(self.waiting.values())
        self._chains = _longest_chains(self.waiting.values()) if longest else None
        self._children: dict[str, list[str]] = defaultdict(list)
        self._missing: dict[str, int] = {}  # number of parents of each waiting job that are not done
        # Both heaps are cleaned lazily: entries of jobs that are no longer in `waiting` are skipped when they are popped.
        self._ready: list[tuple[float, int, str]] = []  # jobs that can start
        self._suspects: list[tuple[int, str]] = []  # jobs that may have become orphans
        self._turns = _SeedTurns(self.waiting.values(), self._seed_index) if not longest else None
        for job in self.waiting.values():
            parents = set(job.parents)
            # A count, decremented when a parent is done, so that no call has to look at all parents of all jobs.
            self._missing[job.job_id] = len(parents - self.done)
            for parent in parents:
                self._children[parent].append(job.job_id)
            # A parent that is neither done nor planned, as in a filtered file of jobs: reported as an orphan.
            if any(parent not in self.done and parent not in self.waiting for parent in parents):
                heapq.heappush(self._suspects, (self._rank[job.job_id], job.job_id))
        for job_id in self.waiting:
            self.offer(job_id)

    @classmethod
    def of(cls, jobs: Iterable[Job], finished: Mapping[str, str], artifacts: Path, order: str = "cells") -> Schedule:
        """The schedule of the jobs that a store does not contain.

        Args:
            jobs: the sweep's jobs, parents before children.
            finished: job id -> status, of the jobs that are not run again. A finished job whose artifact is missing is recomputed if a
                remaining job reads it.
            artifacts: folder of the artifacts.
            order: `cells`, `depth` or `longest`.
        """
        # The store may contain other jobs, too.
        planned = {job.job_id: job for job in jobs}
        lost = _missing_artifacts(planned, finished, artifacts)
        # A stored job whose checkpoint is needed again is planned like a new one; `execute` restores the artifact and leaves the rows
        # alone.
        finished = {job_id: status for job_id, status in finished.items() if job_id not in lost}
        waiting = {job_id: job for job_id, job in planned.items() if job_id not in finished}
        if order == "depth":
            waiting = _depth_first(waiting, planned.values())
        done = {job_id for job_id, status in finished.items() if status == "ok"}
        # Only planned jobs: a failed job of another plan must not turn into a failure of this one.
        failed = {job_id: "failed in earlier starts" for job_id, status in finished.items() if status != "ok" and job_id in planned}
        # The turns of seeds follow the whole plan, not the remaining jobs, so that a resumed sweep keeps its order.
        return cls(waiting, done, failed, order == "longest", _seed_indices(planned.values()), lost)

    def next(self, deferred: bool = True) -> Job | None:
        """The job to start now; None when no job can start.

        When no other job can start, it is the job that was deferred first, because the process that had leased it may have ended by now.

        Args:
            deferred: whether to return deferred jobs.
        """
        while self._ready:
            _, rank, job_id = heapq.heappop(self._ready)
            # A requeued job has a new entry of lower rank; its old entry is stale.
            if job_id in self.waiting and self._rank[job_id] == rank:
                self.running[job_id] = self.waiting.pop(job_id)
                return self.running[job_id]
        if deferred and self.deferred:
            job_id = next(iter(self.deferred))
            self.running[job_id] = self.deferred.pop(job_id)
            return self.running[job_id]
        return None

    def finish(self, job_id: str, ok: bool, error: str | None = None) -> None:
        """Records that a job has ended, in this process or another one."""
        # From all three, because a job may have been finished by another process while it waited here.
        job = self.running.pop(job_id, None) or self.deferred.pop(job_id, None) or self.waiting.pop(job_id, None)
        if ok:
            self.done.add(job_id)
        else:
            self.failed[job_id] = error or "failed"
        for child in self._children.pop(job_id, ()):
            # Only success makes a parent done; children of a failed job keep it missing and become orphans.
            self._missing[child] -= ok
            if not ok and child in self.waiting:
                heapq.heappush(self._suspects, (self._rank[child], child))
            self.offer(child)
        if job is not None:
            self._leave(job)

    def requeue(self, job_id: str) -> None:
        """Puts a job that was stopped before it ended at the head of the queue."""
        if job_id in self.running:
            self._first -= 1
            self._rank[job_id] = self._first
            # At the head of the mapping as well, so that its order agrees with the ranks.
            self.waiting = {job_id: self.running.pop(job_id), **self.waiting}
            self.offer(job_id)

    def defer(self, job_id: str) -> None:
        """Sets aside a running job that another process has leased."""
        if job_id in self.running:
            self.deferred[job_id] = self.running.pop(job_id)

    def orphans(self) -> list[tuple[Job, str]]:
        """Removes the jobs that can never start; returns each with a sentence that names the failed or missing parent."""
        lost: list[tuple[Job, str]] = []
        # Only descendants of jobs that failed are looked at; they are collected when the failure is recorded.
        while self._suspects:
            _, job_id = heapq.heappop(self._suspects)
            why = self._why_orphaned(self.waiting[job_id]) if job_id in self.waiting else None
            if why is None:
                continue
            job = self.waiting.pop(job_id)
            lost.append((job, why[0]))
            # The short reason: a chain of orphans would otherwise repeat the first error in every link.
            self.failed[job_id] = why[1]
            for child in self._children.pop(job_id, ()):
                if child in self.waiting:
                    heapq.heappush(self._suspects, (self._rank[child], child))
            self._leave(job)
        return lost

    def _why_orphaned(self, job: Job) -> tuple[str, str] | None:
        """(message for the job's rows, short reason for its children's rows); None when the job can still start."""
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
        """Adds a job to the ready heap if it can start. A ready job stays ready, because the turns of seeds only advance."""
        if job_id in self.waiting and not self._missing[job_id] and (self._turns is None or self._turns.has(self.waiting[job_id])):
            length = self._chains[job_id] if self._chains is not None else 0.0
            # The heap returns the smallest entry: the longest chain first, and among equal ones (all, in the order `cells`) the plan's
            # order.
            heapq.heappush(self._ready, (-length, self._rank[job_id], job_id))

    def _leave(self, job: Job) -> None:
        """Offers the jobs of the seeds whose turn begins because a job has ended."""
        for job_id in self._turns.end(job) if self._turns is not None else ():
            self.offer(job_id)

    def _seed_index(self, job: Job) -> int:
        return self._seeds[job.labels["seed"]]


class _SeedTurns:
    """The current seed of each cell: the first in the plan that still has remaining jobs. Seeds are given by their index in the plan."""

    def __init__(self, jobs: Iterable[Job], seed_index: Callable[[Job], int]) -> None:
        self._seed_index = seed_index
        self._remaining: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))  # cell -> seed index -> number of jobs
        self._members: dict[tuple[int, int], list[str]] = defaultdict(list)
        for job in jobs:
            for cell in job.cells:
                self._remaining[cell][seed_index(job)] += 1
                self._members[cell, seed_index(job)].append(job.job_id)
        # By index, not by value: seeds run in the order in which the experiment lists them.
        self._turn = {cell: min(counts) for cell, counts in self._remaining.items()}

    def has(self, job: Job) -> bool:
        """Whether the job belongs to the current seed of all its cells."""
        # A job that several cells share waits for its turn in all of them; a cell that is ahead must not start another's later seed.
        return all(self._turn[cell] == self._seed_index(job) for cell in job.cells)

    def end(self, job: Job) -> list[str]:
        """Records the end of a job; returns the ids of the jobs of seeds whose turn begins by it."""
        found: list[str] = []
        for cell in job.cells:
            counts, index = self._remaining[cell], self._seed_index(job)
            counts[index] -= 1
            if not counts[index]:
                # Deleted, so that `min` below sees only seeds with remaining jobs.
                del counts[index]
                # The smallest remaining index rather than the next one: all jobs of a later seed may be stored or orphaned.
                turn = min(counts, default=self._turn[cell])
                if turn != self._turn[cell]:
                    self._turn[cell] = turn
                    found += self._members[cell, turn]
        return found


def _seed_indices(jobs: Iterable[Job]) -> dict[int, int]:
    """Seed -> its index in the plan."""
    seeds: dict[int, int] = {}
    for job in jobs:
        seeds.setdefault(job.labels["seed"], len(seeds))
    return seeds


def _depth_first(waiting: Mapping[str, Job], jobs: Iterable[Job]) -> dict[str, Job]:
    """The jobs ordered by cell, then by seed. A parent's cells include its children's, so it stays before them."""
    seeds = _seed_indices(jobs)
    # `sorted` is stable, so within a cell's seed the order of the plan decides.
    first = sorted(waiting.values(), key=lambda job: (min(job.cells, default=0), seeds[job.labels["seed"]]))
    return {job.job_id: job for job in first}


def _longest_chains(jobs: Iterable[Job]) -> dict[str, float]:
    """Job id -> forecast FLOPs of the job and its longest chain of descendants. Parents come before children in `jobs`."""
    jobs = list(jobs)
    known = [job.forecast_flops for job in jobs if job.forecast_flops is not None]
    # A job of unknown length counts as an average one: as 0 it would always come last.
    average = sum(known) / max(1, len(known))
    below: dict[str, float] = {}
    chains: dict[str, float] = {}
    # From the leaves upwards: a chain is known when those of all children are, so one pass is enough.
    for job in reversed(jobs):
        chains[job.job_id] = (average if job.forecast_flops is None else job.forecast_flops) + below.get(job.job_id, 0.0)
        for parent in job.parents:
            below[parent] = max(below.get(parent, 0.0), chains[job.job_id])
    return chains


def _missing_artifacts(jobs: Mapping[str, Job], finished: Mapping[str, str], artifacts: Path) -> set[str]:
    """Stored jobs whose artifact is missing (deleted, or on another disk) or damaged although a remaining job reads it."""
    lost: set[str] = set()
    needed: set[str] = set()
    # Children before parents: a recomputed job needs its own parents' artifacts, too.
    for job in reversed(list(jobs.values())):
        # Looked at only if needed, because the complete file is read.
        if job.job_id in needed and finished.get(job.job_id) == "ok" and not is_complete(artifacts, job.job_id):
            lost.add(job.job_id)
        if job.job_id in lost or job.job_id not in finished:
            needed.update(job.parents)
    return lost

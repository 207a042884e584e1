"""The driver between Ray Tune and the schedule: chooses the next trial by free resources, records results, and stops gracefully.

Imports no Ray, so that its decisions are tested without a cluster.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sap_core.errors import UserError
from sap_core.machine import ending_signals
from sweeper.backends.local_backend import GRACE_SECONDS, fail_lost_worker, settle_result
from sweeper.jobs.job import Job, Result
from sweeper.scheduling.gpu_sharing import GpuSharing, jobs_per_device
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.store import MAX_ATTEMPTS, Store

STOP_PREFIX = ".stop"
"""Prefix of the file in the store that asks a driver's running jobs to store their state and end; every driver has its own file."""

WAIT_SECONDS = 300.0
"""Timeout: the sweep is aborted if no job fits the cluster for this long. It covers the restart of a node."""

MAX_NODE_LOSSES = 5
"""Number of lost nodes after which a job fails, because it may be what brings the nodes down."""

MAX_FAILED_LAUNCHES = 6
"""Number of consecutive workers that may end before they begin a job; then the sweep ends, because no job is the cause."""


class RayUnavailable(UserError):
    """Ray did not start, or gave no worker in time; no job has run."""


Capacity = Callable[[], Mapping[str, float]]
"""Returns the cluster's resources, in use or not, in the form of `capacity_of`."""

START_SECONDS = 180.0
"""Default time that Ray has for giving the first worker; a busy machine takes a minute to start Ray and to import torch in a worker."""

CPUS_WITH_GPU = "CPU of nodes with GPUs"


def capacity_of(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sums the resources of a cluster's nodes: CPU, GPU, and the CPUs of nodes with GPUs."""
    nodes = list(nodes)
    sums = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    return {**sums, CPUS_WITH_GPU: sum(node.get("CPU", 0.0) for node in nodes if node.get("GPU"))}


class Driver:
    """State shared by Tune's searcher and callback: the schedule, the resources in use, and the results.

    Jobs with and without a GPU wait in separate queues. The head of a queue waits until there is room for it: a job that needs a full GPU
    is not overtaken forever by small ones, and no job waits for a resource that it does not need.
    """

    def __init__(
        self,
        schedule: Schedule,
        store: Store,
        report: Report,
        gpu_sharing: GpuSharing,
        capacity: Capacity,
        workers: int | None,
        shared: bool = False,
        start_seconds: float = START_SECONDS,
    ) -> None:
        """
        Args:
            schedule: the jobs.
            store: the sweep's store.
            report: called after every job.
            gpu_sharing: the GPU shares of jobs.
            capacity: called for every suggestion, because nodes come and go.
            workers: maximum number of concurrent jobs; None: limited by resources alone.
            shared: the cluster is shared. A job whose worker died is then retried at once, because the job is seldom the cause.
            start_seconds: time limit for the first worker, counted from here.
        """  # fmt: skip
        self.schedule, self.store, self.report, self.gpu_sharing, self.workers = schedule, store, report, gpu_sharing, workers
        self.jobs = dict(schedule.waiting)
        # Read once, so that failures of other processes after this moment are recognised as newer than the plan.
        self.known_failures = store.failed_attempts()
        self.fatal: str | None = None
        self.stopping = False
        self.unavailable: RayUnavailable | None = None
        self._start_seconds, self._since, self._has_worker = start_seconds, time.monotonic(), False
        self._capacity, self._shared = capacity, shared
        self._attempts: dict[str, int] = {}
        self._allocated: dict[str, Mapping[str, float]] = {}  # resources of each running job
        self._shared_gpu_ooms: dict[str, int] = {}  # number of times that a job ran out of memory on a shared GPU
        self._failed_launches = 0  # consecutive workers that ended before they began their job
        self._log_sizes: dict[str, int] = {}  # bytes of each running job's log when it was given out
        self._node_losses: dict[str, int] = {}  # number of times that a job's node was lost
        self._queues: dict[bool, deque[Job]] = {bool(gpu_sharing.share(job)): deque() for job in self.jobs.values()}  # by "needs a GPU"
        # Last time that a job was running or could be started.
        self._last_fit = time.monotonic()
        # A name of its own, because several drivers may work on one store and one must not stop the others' jobs.
        self._stop_file = store.root / f"{STOP_PREFIX}-{secrets.token_hex(4)}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles the searcher and the callback, for a restore that is never used; this object becomes None in those snapshots.
        return (type(None), ())

    def suggest(self) -> dict[str, Any] | str | None:
        """The configuration of the next trial; None while no job fits or is ready, "" when no further job will start."""
        ending = self.fatal or self.stopping
        capacity = {} if ending else dict(self._capacity())
        # No new jobs after a fatal error or a stop request; running ones are still waited for.
        job = None if ending else self._next(capacity)
        if job is None:
            # `self.fatal` is read again: `_next` sets it when the cluster had no room for too long
            return None if not (self.fatal or self.stopping) and (self.schedule.running or self._has_queued()) else ""
        self._last_fit = time.monotonic()
        # Before the trial, to tell afterwards whether the worker stored failed rows before it died.
        self._attempts[job.job_id] = self.store.attempts(job.job_id)
        self._log_sizes[job.job_id] = self._log_size(job.job_id)
        self._allocated[job.job_id] = needs = self._needs(job)
        share = needs["GPU"]
        # An upper bound from the cluster's resources: where Ray places the other jobs is not known. Rows record it, so that tables can tell
        # which seconds were measured on a shared device.
        jobs_on_device = max(1, int(capacity.get(CPUS_WITH_GPU if share else "CPU", 1.0) / max(needs["CPU"], 1e-9)))
        jobs_on_device = min(jobs_on_device, jobs_per_device(share)) if share else jobs_on_device
        return {
            "job_id": job.job_id, "cpus": needs["CPU"], "gpus": share, "device": self.gpu_sharing.device(job),
            "jobs_on_device": min(jobs_on_device, self.workers or jobs_on_device), "known_failures": self.known_failures.get(job.job_id, 0),
            "oom_retries": self._shared_gpu_ooms.get(job.job_id, 0), "stop": self._stop_file.name,
        }  # fmt: skip

    def _next(self, capacity: Mapping[str, float]) -> Job | None:
        """The first job, over all queues, that fits the free resources."""
        # Checked before a job is taken from the schedule, because a taken job would have to wait in a queue.
        if self.workers is not None and len(self._allocated) >= self.workers:
            return None
        # Waiting heads first: they have been passed over for lack of room.
        for queue in self._queues.values():
            if queue and self._fits(queue[0], capacity):
                return queue.popleft()
        # Jobs are taken from the schedule until every queue has a head that does not fit; more would change the order of the schedule.
        while not all(self._queues.values()) and (job := self.schedule.next()) is not None:
            queue = self._queues.setdefault(bool(self.gpu_sharing.share(job)), deque())
            if not queue and self._fits(job, capacity):
                return job
            queue.append(job)
        self._abort_if_nothing_fits(capacity)
        return None

    def _needs(self, job: Job) -> dict[str, float]:
        cpus, share = job.resources["cpus"], self.gpu_sharing.share(job)
        return {"CPU": cpus, "GPU": share, CPUS_WITH_GPU: cpus if share else 0.0}

    # Sums over the cluster, not per node: Ray places the trial, and one that fits no single node waits in Ray's queue.
    def _fits(self, job: Job, capacity: Mapping[str, float]) -> bool:
        needs = self._needs(job)
        used = {name: sum(amounts[name] for amounts in self._allocated.values()) for name in needs}
        # 1e-6, because shares of a GPU such as 1/3 do not add up to 1 exactly. A resource that the job does not need is not compared: it
        # may be overbooked by a node that was lost.
        return all(not need or used[name] + need <= capacity.get(name, 0.0) + 1e-6 for name, need in needs.items())

    def _has_queued(self) -> bool:
        return any(self._queues.values())

    def _abort_if_nothing_fits(self, capacity: Mapping[str, float]) -> None:
        """Ends the sweep when nothing is running and no job has fitted the cluster for `WAIT_SECONDS`."""
        if self._allocated or not self._has_queued():
            self._last_fit = time.monotonic()
        elif time.monotonic() - self._last_fit > WAIT_SECONDS:
            job = next(queue[0] for queue in self._queues.values() if queue)
            needed, available = (_format_resources(amounts) for amounts in (self._needs(job), capacity))
            self.fatal = (
                f"the next job needs {needed}, but for {WAIT_SECONDS:g} s the Ray cluster had only {available or 'no resources'}; "
                "add nodes that fit it, or request less (backend.threads, backend.gpus_per_job)"
            )

    def worker_started(self) -> None:
        """Records that Ray has given a worker."""
        self._has_worker = True

    @property
    def start_seconds_left(self) -> float:
        """Time that remains for the first worker."""
        return self._since + self._start_seconds - time.monotonic()

    def check_start(self) -> None:
        """Checks that Ray has given a worker within the time limit. It would otherwise start workers that end at once, again and again.

        Raises:
            RayUnavailable: it has not.
        """
        if not self._has_worker and self._allocated and not self.stopping and self.start_seconds_left < 0:
            self.unavailable = RayUnavailable(
                f"Ray gave no worker within {self._start_seconds:g} s (backend.start_seconds); {self.store.logs / 'ray.log'} may tell "
                "why; raise backend.start_seconds if the machine or the cluster is busy, or use backend=local"
            )
            raise self.unavailable

    def give_back(self) -> None:
        """Returns all jobs that have not ended to the schedule, for another backend."""
        self._allocated.clear()
        for queue in self._queues.values():
            queue.clear()
        # In reverse, because each is put at the head.
        for job_id in reversed(list(self.schedule.running)):
            self.schedule.requeue(job_id)

    def _requeue(self, job_id: str) -> None:
        """Puts a job at the head of its queue, because it has waited before."""
        job = self.jobs[job_id]
        self._queues[bool(self.gpu_sharing.share(job))].appendleft(job)

    def result(self, job_id: str, answer: dict[str, Any]) -> None:
        """Records the answer of a trial."""
        # Released first, so that the resources are free for the next suggestion whatever the answer was.
        share = self._allocated.pop(job_id, {}).get("GPU", 0.0)
        self._failed_launches, self._has_worker = 0, True
        if "fatal" in answer:
            self.fatal = answer["fatal"]
            self._request_stop()
        elif answer["status"] == "oom_on_shared_gpu":
            self._shared_gpu_ooms[job_id] = self._shared_gpu_ooms.get(job_id, 0) + 1
            self.gpu_sharing.raise_share(self.jobs[job_id], share)
            self._requeue(job_id)
        else:
            settle_result(self.schedule, self.store, self.jobs[job_id], Result(**answer), self.report)

    def has_begun(self, job_id: str) -> bool:
        """Whether a worker has begun the job since it was given out: it writes the job's log first of all."""
        return self._log_size(job_id) != self._log_sizes.get(job_id, 0)

    def _log_size(self, job_id: str) -> int:
        # Opened, because a network file system may answer `stat` from its cache, but asks the server for a file that is opened.
        with contextlib.suppress(OSError), (self.store.logs / f"{job_id}.log").open("rb") as log:
            return log.seek(0, os.SEEK_END)
        return 0

    def died(self, job_id: str, node_lost: bool = False, why: str = "its Ray actor died", begun: bool = True) -> None:
        """Records a trial whose process ended without an answer.

        The job is rerun without counting as an attempt if its node was lost, or if its worker ended before it began the job (`begun`): Ray
        or the environment is the cause then. If that happens again and again, the sweep ends.
        """
        self._allocated.pop(job_id, None)
        if not (begun or node_lost):
            self._failed_launches += 1
            if self._failed_launches >= MAX_FAILED_LAUNCHES and self.fatal is None:
                self.fatal = (
                    f"{self._failed_launches} workers ended before they began a job ({why}); no job is counted as failed: read "
                    f"{self.store.logs / 'ray.log'} and the log of the batch job, remove the cause and start the sweep again"
                )
                self._request_stop()
            self._requeue(job_id)
            return
        job = self.jobs[job_id]
        self._node_losses[job_id] = self._node_losses.get(job_id, 0) + node_lost
        # A lost node is not the job's fault, unless it happens to the same job several times.
        if node_lost and self._node_losses[job_id] < MAX_NODE_LOSSES:
            self._requeue(job_id)
            return
        before = self._attempts[job_id]
        # A worker beyond its time limit stores the failed rows itself.
        timed_out = self.store.attempts(job_id) > before
        result = fail_lost_worker(self.gpu_sharing.with_share(job), self.store, before, why)
        # A job that timed out has shown that it does not end; on a local Ray a dead worker waits for the next start, as in the local
        # backend.
        if self._shared and result.status == "failed" and not timed_out and self.store.attempts(job_id) < MAX_ATTEMPTS:
            # Failed rows newer than `known_failures` mean that another process tried the job; these are this driver's own.
            self.known_failures[job_id] = self.store.attempts(job_id)
            self._requeue(job_id)
            return
        settle_result(self.schedule, self.store, job, result, self.report)

    @contextlib.contextmanager
    def stoppable(self, grace: float = GRACE_SECONDS) -> Iterator[None]:
        """Context manager for a graceful stop.

        The first Ctrl-C, SIGTERM or SIGHUP starts no more jobs and gives the running ones `grace` seconds; a second one interrupts at once.
        """

        def interrupt(number: int, _: object) -> None:
            # A shell whose terminal is closed may send a second SIGHUP, which must not cut the time for storing short.
            if number == getattr(signal, "SIGHUP", None):
                signal.signal(number, signal.SIG_IGN)
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True
            self._request_stop()
            # The alarm arrives as a second request and interrupts Tune, which otherwise waits for its trials without limit. A timer of 0
            # would be none.
            signal.setitimer(signal.ITIMER_REAL, max(grace, 0.1))

        self._stop_file.unlink(missing_ok=True)
        # Tune's own SIGINT handler is disabled by TUNE_DISABLE_SIGINT_HANDLER.
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, *ending_signals(), signal.SIGALRM)}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._stop_file.unlink(missing_ok=True)

    def _request_stop(self) -> None:
        # A file, because actors on other nodes share nothing but the folders with the driver.
        with contextlib.suppress(OSError):
            self._stop_file.touch()


def _format_resources(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name))

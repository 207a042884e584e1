"""What stands between Ray Tune and the schedule: which trial next, where there is room for it, what became of it, and stopping in good
order. Knows no Ray.
"""

from __future__ import annotations

import contextlib
import secrets
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sweeper.backends.local_backend import GRACE_SECONDS, fail_lost_worker, settle_result
from sweeper.jobs.job import Job, Result
from sweeper.scheduling.gpu_sharing import GpuSharing, jobs_per_device
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.store import MAX_ATTEMPTS, Store

STOP = ".stop"
"""How the file in the store begins that asks a driver's running jobs to store their state and end; each driver has its own."""

WAIT_SECONDS = 300.0
"""So long a cluster without room for any job may stay so (a node that comes back); then the sweep ends and says it."""

MAX_LOSSES = 5
"""A job whose node was lost so often may be what brings nodes down."""

Capacity = Callable[[], Mapping[str, float]]
"""What there is, in use or not, as `capacity_of` says it."""

CPUS_WITH_GPU = "CPU of nodes with GPUs"


def capacity_of(nodes: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The sums of what a cluster's nodes have: CPU, GPU, and the CPUs that can serve a GPU."""
    nodes = list(nodes)
    sums = {name: sum(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")}
    return {**sums, CPUS_WITH_GPU: sum(node.get("CPU", 0.0) for node in nodes if node.get("GPU"))}


class Driver:
    """What the searcher and the callback share: the schedule and its books. Tune stores copies of both for a restore that is never used;
    this object goes into them as nothing.

    Jobs that need a GPU and those that do not wait in lines of their own: the first of a line waits until there is room for it, so that one
    which needs a whole card is not overtaken for ever by small ones, and nobody waits for what it does not need.
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
    ) -> None:
        """
        Args:
            schedule: the jobs.
            store: where rows go.
            report: told of every job that ended.
            gpu_sharing: says the share of a GPU.
            capacity: asked again and again, because nodes come and go.
            workers: jobs at a time at most; None: as many as there is room for.
            shared: on a cluster: a job whose worker died is tried again at once, because there it is seldom the job's doing.
        """  # fmt: skip
        self.schedule, self.store, self.report, self.gpu_sharing, self.workers = schedule, store, report, gpu_sharing, workers
        self.jobs = dict(schedule.waiting)
        self.tried = store.tried()
        self.fatal: str | None = None
        self.stopping = False
        self._capacity, self._shared = capacity, shared
        self._attempts: dict[str, int] = {}
        self._given: dict[str, Mapping[str, float]] = {}  # by running job
        self._crowded: dict[str, int] = {}  # how often a job found no room on a shared GPU
        self._losses: dict[str, int] = {}  # how often its node was lost
        self._lines: dict[bool, deque[Job]] = {bool(gpu_sharing.share(job)): deque() for job in self.jobs.values()}
        self._since = time.monotonic()  # when a job could last be handed out or was running
        self._stop_file = store.root / f"{STOP}-{secrets.token_hex(4)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(None), ())

    def suggest(self) -> dict[str, Any] | str | None:
        """What a trial is to do; "" when none ever will, None when all wait."""
        ending = self.fatal or self.stopping
        room = {} if ending else dict(self._capacity())
        job = None if ending else self._next(room)
        if job is None:
            return None if not (self.fatal or self.stopping) and (self.schedule.running or self._lined_up()) else ""
        self._since = time.monotonic()
        self._attempts[job.job_id] = self.store.attempts(job.job_id)
        self._given[job.job_id] = needs = self._needs(job)
        share = needs["GPU"]
        beside = max(1, int(room.get(CPUS_WITH_GPU if share else "CPU", 1.0) / max(needs["CPU"], 1e-9)))
        beside = min(beside, jobs_per_device(share)) if share else beside
        return {
            "job_id": job.job_id, "cpus": needs["CPU"], "gpus": share, "device": self.gpu_sharing.device(job),
            "jobs_on_device": min(beside, self.workers or beside), "tried": self.tried.get(job.job_id, 0),
            "crowded": self._crowded.get(job.job_id, 0), "stop": self._stop_file.name,
        }  # fmt: skip

    def _next(self, room: Mapping[str, float]) -> Job | None:
        """The first job of some line that fits."""
        if self.workers is not None and len(self._given) >= self.workers:
            return None
        for line in self._lines.values():
            if line and self._fits(line[0], room):
                return line.popleft()
        while not all(self._lines.values()) and (job := self.schedule.next()) is not None:
            line = self._lines.setdefault(bool(self.gpu_sharing.share(job)), deque())
            if not line and self._fits(job, room):
                return job
            line.append(job)
        self._give_up_waiting(room)
        return None

    def _needs(self, job: Job) -> dict[str, float]:
        cpus, share = job.resources["cpus"], self.gpu_sharing.share(job)
        return {"CPU": cpus, "GPU": share, CPUS_WITH_GPU: cpus if share else 0.0}

    def _fits(self, job: Job, room: Mapping[str, float]) -> bool:
        needs = self._needs(job)
        used = {name: sum(given[name] for given in self._given.values()) for name in needs}
        return all(not need or used[name] + need <= room.get(name, 0.0) + 1e-6 for name, need in needs.items())

    def _lined_up(self) -> bool:
        return any(self._lines.values())

    def _give_up_waiting(self, room: Mapping[str, float]) -> None:
        """Ends the sweep when nothing runs and nothing has fitted for long."""
        if self._given or not self._lined_up():
            self._since = time.monotonic()
        elif time.monotonic() - self._since > WAIT_SECONDS:
            job = next(line[0] for line in self._lines.values() if line)
            wanted, there = (_in_words(amounts) for amounts in (self._needs(job), room))
            self.fatal = (
                f"the next job needs {wanted}, and for {WAIT_SECONDS:g} s the Ray cluster has had only {there or 'nothing'}; "
                "start it with such nodes, or ask for less (backend.threads, backend.gpus_per_job)"
            )

    def _line_up_again(self, job_id: str) -> None:
        """First in its line: it has waited before."""
        job = self.jobs[job_id]
        self._lines[bool(self.gpu_sharing.share(job))].appendleft(job)

    def result(self, job_id: str, answer: dict[str, Any]) -> None:
        """Books what a trial answered."""
        share = self._given.pop(job_id, {}).get("GPU", 0.0)
        if "fatal" in answer:
            self.fatal = answer["fatal"]
            self._ask_to_end()
        elif answer["status"] == "crowded":
            self._crowded[job_id] = self._crowded.get(job_id, 0) + 1
            self.gpu_sharing.raise_share(self.jobs[job_id], share)
            self._line_up_again(job_id)
        else:
            settle_result(self.schedule, self.store, self.jobs[job_id], Result(**answer), self.report)

    def died(self, job_id: str, node_lost: bool = False, why: str = "its Ray actor died") -> None:
        """Books a trial whose process ended without an answer. One whose node was lost runs again, without counting as a try."""
        self._given.pop(job_id, None)
        job = self.jobs[job_id]
        self._losses[job_id] = self._losses.get(job_id, 0) + node_lost
        if node_lost and self._losses[job_id] < MAX_LOSSES:
            self._line_up_again(job_id)
            return
        before = self._attempts[job_id]
        ran_out = self.store.attempts(job_id) > before  # past its time: it stored its rows itself
        result = fail_lost_worker(self.gpu_sharing.with_share(job), self.store, before, why)
        if self._shared and result.status == "failed" and not ran_out and self.store.attempts(job_id) < MAX_ATTEMPTS:
            self.tried[job_id] = self.store.attempts(job_id)  # its failed rows are ours, and no reason to leave it alone
            self._line_up_again(job_id)
            return
        settle_result(self.schedule, self.store, job, result, self.report)

    @contextlib.contextmanager
    def stoppable(self, grace: float = GRACE_SECONDS) -> Iterator[None]:
        """Inside, the first Ctrl-C or SIGTERM starts no more jobs and gives the running ones `grace` seconds; a second one ends at once."""

        def interrupt(*_: object) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True
            self._ask_to_end()
            signal.setitimer(signal.ITIMER_REAL, max(grace, 0.1))

        self._stop_file.unlink(missing_ok=True)
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._stop_file.unlink(missing_ok=True)

    def _ask_to_end(self) -> None:
        with contextlib.suppress(OSError):
            self._stop_file.touch()


def _in_words(amounts: Mapping[str, float]) -> str:
    return ", ".join(f"{amounts[name]:g} {name}" for name in ("CPU", "GPU") if amounts.get(name))

"""Runs jobs in worker processes on this machine; a worker that dies takes one job with it, never the sweep."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.location import CODE
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.run_job import fail, summary
from sweeper.scheduling.gpu_sharing import FULL_GPU, GpuSharing, jobs_per_device
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

GRACE_SECONDS = 20.0
"""How long a worker that was asked to stop may take to store its state."""


class LocalBackend:
    """`workers` processes, one job each at a time; those whose jobs ask for a share of a GPU are placed where there is room for it.

    Args:
        folders: where jobs find and leave things.
        workers: processes at a time.
        device: where jobs run that `cpu_jobs` does not name; `cuda` means all cards of this machine.
        cpu_jobs: kinds of jobs or methods that need no GPU and get none.
        cards: the devices that `device` stands for; None: looked up.
    """

    def __init__(
        self, folders: SweepPaths, workers: int, device: str = "cpu", cpu_jobs: Sequence[str] = (), cards: Sequence[str] | None = None
    ) -> None:
        self.folders = folders
        self.workers = workers
        self.device = device
        self.store = Store(folders.store)
        self.gpu_sharing = GpuSharing(self.store.packing, device, cpu_jobs)
        self._cards = tuple(cards or _cards(device))
        self._selector = selectors.DefaultSelector()
        self._tried = self.store.tried()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._first: Job | None = None  # of the line, while there is no room for it: nobody overtakes it
        self._crowded: dict[str, int] = {}  # how often a job found no room on a shared card

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.scheduling.schedule.Backend`."""
        try:
            while not schedule.empty:
                while len(self._busy) < self.workers and self._start_next(schedule):
                    pass
                if not self._busy:
                    break
                for key, _ in self._selector.select():
                    self._collect(key.data, schedule, report)
        finally:
            self._close()

    def _start_next(self, schedule: Schedule) -> bool:
        """Starts the job whose turn it is, if there is one and there is room for it."""
        job, self._first = self._first or schedule.next(), None
        if job is None:
            return False
        job = self.gpu_sharing.with_share(job)
        share = job.resources["gpus"]
        device = self._card_for(share) if share else self.gpu_sharing.device(job)
        if device is None:
            self._first = job
            return False
        self._start(job, device)
        return True

    def _card_for(self, share: float) -> str | None:
        """The fullest card with room for `share`; jobs that want more than one get the first when nothing else runs."""
        used = {card: sum(worker.job.resources["gpus"] for worker in self._busy if worker.device == card) for card in self._cards}
        free = [card for card in self._cards if used[card] + min(share, FULL_GPU) <= FULL_GPU + 1e-6]
        return max(free, key=lambda card: used[card], default=None)

    def _start(self, job: Job, device: str) -> None:
        share, crowded = job.resources["gpus"], self._crowded.get(job.job_id, 0)
        if crowded and share >= FULL_GPU:
            self._end_idle()  # they hold memory of the card that is to be this job's alone
        worker = next((worker for worker in self._idle if worker.device == device), None)
        if worker is None:
            if len(self._idle) + len(self._busy) >= self.workers:
                self._end_idle()
            worker = _Worker(self.folders, device)
            self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        else:
            self._idle.remove(worker)
        self._busy.append(worker)
        beside = min(self.workers, jobs_per_device(share)) if share else self.workers
        worker.send(job, self.store.attempts(job.job_id), self._tried.get(job.job_id, 0), crowded, beside)

    def _collect(self, worker: _Worker, schedule: Schedule, report: Report) -> None:
        line = worker.answers.readline()
        job = worker.job
        self._busy.remove(worker)
        if line:
            answer = json.loads(line)
            if "fatal" in answer:
                raise UserError(answer["fatal"])
            result = Result(**answer)
            self._idle.append(worker)
        else:
            self._selector.unregister(worker.answers)
            result = fail_lost_worker(job, self.store, worker.attempts, _how(worker.process.wait()) + worker.overdue())
        if result.status == "crowded":
            self._crowded[job.job_id] = self._crowded.get(job.job_id, 0) + 1
            self.gpu_sharing.raise_share(job, job.resources["gpus"])
        settle_result(schedule, self.store, job, result, report)

    def _end_idle(self) -> None:
        for worker in self._idle:
            self._selector.unregister(worker.answers)
            worker.stop()
        for worker in self._idle:
            worker.end(GRACE_SECONDS)
        self._idle = []

    def _close(self) -> None:
        for worker in [*self._busy, *self._idle]:
            worker.stop()
        for worker in [*self._busy, *self._idle]:
            worker.end(GRACE_SECONDS)
        self._selector.close()


def _cards(device: str) -> tuple[str, ...]:
    """The devices that a name stands for: `cuda` is every card that there is."""
    if device != "cuda":
        return (device,)
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or (device,)


class _Worker:
    """One `python -m sweeper.execute --serve` and the job it has."""

    job: Job
    attempts: int

    def __init__(self, folders: SweepPaths, device: str) -> None:
        self.device = device
        log = folders.store / "logs" / "workers.log"
        command = [sys.executable, "-m", "sweeper.execute", "--serve", str(os.getpid()), "--device", device]
        for name in ("data", "store", "artifacts"):
            command += [f"--{name}", str(Path(getattr(folders, name)).resolve())]
        with storing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            errors = log.open("a")
        with errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=HOME, env=worker_environment()
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs, self.answers = self.process.stdin, self.process.stdout

    def send(self, job: Job, attempts: int, tried: int, crowded: int, jobs_on_device: int) -> None:
        self.job, self.attempts, self._since = job, attempts, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it died: its closed answers say so
            told = {"job": job.to_json(), "tried": tried, "crowded": crowded, "jobs_on_device": jobs_on_device}
            self._jobs.write(json.dumps(told) + "\n")
            self._jobs.flush()

    def overdue(self) -> str:
        """Why a worker may have ended itself: its job was past its time and hung."""
        limit = self.job.timeout_seconds
        if limit is None or time.monotonic() - self._since < limit:
            return ""
        return f"; it had hung past its time of {limit:g} s (backend.timeout_seconds), its stacks are in logs/workers.log"

    def stop(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._jobs.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float) -> None:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.answers.close()


def worker_environment() -> dict[str, str]:
    """One computing thread per library unless the job sets more; these packages first on the path."""
    path = os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "PYTHONPATH": path}


def fail_lost_worker(job: Job, store: Store, attempts: int, how: str) -> Result:
    """The result of a job whose process ended without an answer; `attempts` had been made before.

    A worker whose time runs out stores its failed rows itself before it ends; those stand.
    """
    if store.attempts(job.job_id) > attempts:
        return summary(job, store.read_rows(job.job_id), 0.0)
    return fail(job, store, "killed", f"the worker process ended in the middle of the job ({how})")


def _how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + (", which the kernel sends when memory runs out" if code == -signal.SIGKILL else "")


def settle_result(schedule: Schedule, store: Store, job: Job, result: Result, report: Report) -> None:
    """Books an ended job in the schedule; jobs that stand on a failed one become failed rows that name it."""
    if result.status in ("stopped", "crowded"):
        schedule.requeue(job.job_id)
        return
    if result.status == "elsewhere":
        schedule.defer(job.job_id)
        return
    schedule.finish(job.job_id, result.status == "ok", result.error)
    report(job, result)
    for orphan, why in schedule.orphans():
        report(orphan, fail(orphan, store, "parent", why))

"""Runs jobs in worker processes on this machine. A worker that dies fails the job that it was running, never the sweep."""

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

from sap_core.errors import StorageError
from sap_core.files import check_log, storing
from sap_core.location import child_environment
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.results import store_failure, summarise
from sweeper.scheduling.gpu_sharing import FULL_GPU, GpuSharing, jobs_per_device
from sweeper.scheduling.schedule import Report, Schedule
from sweeper.store.provenance import HOME
from sweeper.store.store import Store

# Workers stop at the end of an epoch or of a setting; a longer one is lost, because Ctrl-C must end the sweep within a known time.
GRACE_SECONDS = 20.0
"""Seconds that a worker has for storing its state after SIGTERM; then it is killed."""


class LocalBackend:
    """A pool of worker processes that run one job each; jobs with a GPU share are placed on a GPU with enough free capacity.

    Args:
        paths: the sweep's paths.
        workers: number of processes.
        device: device of the jobs that `cpu_jobs` does not name; `cuda` means all CUDA GPUs of this machine.
        cpu_jobs: job types or methods that run on CPUs.
        devices: the devices that `device` comprises; None: detected.
    """

    def __init__(
        self, paths: SweepPaths, workers: int, device: str = "cpu", cpu_jobs: Sequence[str] = (), devices: Sequence[str] | None = None
    ) -> None:
        self.paths = paths
        self.workers = workers
        self.device = device
        self.store = Store(paths.store)
        self.gpu_sharing = GpuSharing(self.store.packing, device, cpu_jobs)
        self._devices = tuple(devices or _detected_devices(device))
        # One thread waits for all workers, so schedule and store need no locks.
        self._selector = selectors.DefaultSelector()
        self._known_failures = self.store.failed_attempts()
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []
        self._blocked: Job | None = None  # the next job, while no GPU has room for it; no other job overtakes it
        self._shared_gpu_ooms: dict[str, int] = {}  # number of times that a job ran out of memory on a shared GPU

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.scheduling.schedule.Backend`."""
        try:
            while not schedule.empty:
                while len(self._busy) < self.workers and self._start_next(schedule):
                    pass
                if not self._busy:
                    break
                # Blocks until a worker answers or dies; a dead worker's pipe is readable and returns end of file.
                for key, _ in self._selector.select():
                    self._collect(key.data, schedule, report)
        finally:
            # In every case, also after an error: workers that survived their driver would go on writing to the store.
            self._close()

    def _start_next(self, schedule: Schedule) -> bool:
        """Starts the next job, if there is one and a device has room for it; returns whether it did."""
        # A blocked job keeps its turn: small jobs that overtake it could keep a job that needs a full GPU waiting forever.
        job, self._blocked = self._blocked or schedule.next(), None
        if job is None:
            return False
        # Only now, because an out-of-memory error of a running job may have raised the share since the job was planned.
        job = self.gpu_sharing.with_share(job)
        share = job.resources["gpus"]
        device = self._device_for(share) if share else self.gpu_sharing.device(job)
        if device is None:
            self._blocked = job
            return False
        self._start(job, device)
        return True

    def _device_for(self, share: float) -> str | None:
        """The fullest GPU with room for `share`, so that full ones stay free for large jobs; None when none has room.

        A job that requests more than one GPU gets an unused one.
        """
        used = {device: sum(worker.job.resources["gpus"] for worker in self._busy if worker.device == device) for device in self._devices}
        # 1e-6, because shares such as 1/3 do not add up to 1 exactly.
        free = [device for device in self._devices if used[device] + min(share, FULL_GPU) <= FULL_GPU + 1e-6]
        return max(free, key=lambda device: used[device], default=None)

    def _start(self, job: Job, device: str) -> None:
        share, ooms = job.resources["gpus"], self._shared_gpu_ooms.get(job.job_id, 0)
        if ooms and share >= FULL_GPU:
            # Idle workers keep GPU memory allocated, and this job needs all of it.
            self._end_idle()
        # Workers are reused, because a start imports torch, which takes seconds. A worker is bound to its device, whose context stays
        # allocated.
        worker = next((worker for worker in self._idle if worker.device == device), None)
        if worker is None:
            # All idle workers belong to other devices here; they make room for the new one.
            if len(self._idle) + len(self._busy) >= self.workers:
                self._end_idle()
            worker = _Worker(self.paths, device)
            self._selector.register(worker.answers, selectors.EVENT_READ, worker)
        else:
            self._idle.remove(worker)
        self._busy.append(worker)
        jobs_on_device = min(self.workers, jobs_per_device(share)) if share else self.workers
        # The number of attempts before this one tells a worker that stored failed rows itself from one that died without a trace.
        worker.send(job, self.store.attempts(job.job_id), self._known_failures.get(job.job_id, 0), ooms, jobs_on_device)

    def _collect(self, worker: _Worker, schedule: Schedule, report: Report) -> None:
        line = worker.answers.readline()
        job = worker.job
        self._busy.remove(worker)
        if line:
            answer = json.loads(line)
            if "fatal" in answer:
                # The disk refuses to store results: no further job could succeed.
                raise StorageError(answer["fatal"])
            result = Result(**answer)
            self._idle.append(worker)
        else:
            self._selector.unregister(worker.answers)
            result = fail_lost_worker(job, self.store, worker.attempts, _exit_text(worker.process.wait()) + worker.timeout_text())
        if result.status == "oom_on_shared_gpu":
            self._shared_gpu_ooms[job.job_id] = self._shared_gpu_ooms.get(job.job_id, 0) + 1
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
        # All workers are asked to stop before the first is waited for, so that they store their state in parallel.
        for worker in [*self._busy, *self._idle]:
            worker.stop()
        for worker in [*self._busy, *self._idle]:
            worker.end(GRACE_SECONDS)
        self._selector.close()


def _detected_devices(device: str) -> tuple[str, ...]:
    """All GPUs for `cuda`; any other device by itself."""
    if device != "cuda":
        return (device,)
    # Imported here, so that drivers of sweeps on CPUs start without torch.
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count())) or (device,)


class _Worker:
    """One process `python -m sweeper.execute --serve`, and the job that it runs."""

    job: Job
    attempts: int

    def __init__(self, paths: SweepPaths, device: str) -> None:
        self.device = device
        log = paths.store / "logs" / "workers.log"
        # The driver's process number is an argument: a worker that is still importing torch when its driver is killed would see another
        # parent.
        # -P: a module in the user's folder must not hide one of the environment or of Python.
        command = [sys.executable, "-P", "-m", "sweeper.execute", "--serve", str(os.getpid()), "--device", device, *paths.arguments()]
        with storing(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            # A file rather than a pipe: nobody would read a pipe while the driver waits for answers, and a full one blocks its writer.
            check_log(log)
            errors = log.open("a", encoding="utf-8")
        with errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8", cwd=HOME, env=worker_environment()
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._jobs, self.answers = self.process.stdin, self.process.stdout

    def send(self, job: Job, attempts: int, known_failures: int, oom_retries: int, jobs_on_device: int) -> None:
        self.job, self.attempts, self._since = job, attempts, time.monotonic()
        # A broken pipe: the worker died, and the end of file on its answers reports it.
        with contextlib.suppress(BrokenPipeError):
            message = {"job": job.to_json(), "known_failures": known_failures, "oom_retries": oom_retries, "jobs_on_device": jobs_on_device}
            # One line per message, because the worker reads line by line; without the flush the line would wait in the buffer.
            self._jobs.write(json.dumps(message) + "\n")
            self._jobs.flush()

    def timeout_text(self) -> str:
        """The reason why a worker ended itself, if its job exceeded its time limit and did not respond; else ""."""
        limit = self.job.timeout_seconds
        # A worker that stored its own failed rows is recognised by them; this text concerns one that could not.
        if limit is None or time.monotonic() - self._since < limit:
            return ""
        return f"; the job hung beyond its limit of {limit:g} s (backend.timeout_seconds), stack traces are in logs/workers.log"

    def stop(self) -> None:
        """Asks the worker to store the state of its job and to end."""
        with contextlib.suppress(BrokenPipeError):
            self._jobs.close()
        # A process that has ended may have passed its number on to another one.
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self, seconds: float) -> None:
        """Waits for the worker's end; kills it after `seconds`."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            # SIGKILL, because a worker that hangs in C code does not react to anything else; its lease ends with the process.
            self.process.kill()
            self.process.wait()
        self.answers.close()


def worker_environment() -> dict[str, str]:
    """The environment of a worker: one thread per library unless the job sets more; this copy's packages and folder."""
    # Ray's actors start in another working directory; they must not import another installed copy.
    return {**child_environment(), "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def fail_lost_worker(job: Job, store: Store, attempts: int, how: str) -> Result:
    """Stores failed rows for a job whose process ended without an answer, and returns its result.

    Args:
        job: the job.
        store: the sweep's store.
        attempts: number of failed attempts before this one. If the store has more, the worker stored the failed rows itself (it does so
            when the time limit is exceeded), and they are kept.
        how: description of the process's end.
    """
    # A second failure for the same attempt would use up one of the job's attempts.
    if store.attempts(job.job_id) > attempts:
        return summarise(job, store.read_rows(job.job_id), 0.0)
    return store_failure(job, store, "killed", f"the worker process died while running the job ({how})")


def _exit_text(code: int) -> str:
    # A negative code is the number of the signal that ended the process (subprocess).
    if code >= 0:
        return f"exit code {code}"
    return f"signal {-code}" + (", probably from the kernel's out-of-memory killer" if code == -signal.SIGKILL else "")


def settle_result(schedule: Schedule, store: Store, job: Job, result: Result, report: Report) -> None:
    """Records an ended job in the schedule; descendants of a failed job get failed rows that name it."""
    # Neither is a result: the job keeps its place at the head of the queue.
    if result.status in ("stopped", "oom_on_shared_gpu"):
        schedule.requeue(job.job_id)
        return
    if result.status == "leased_elsewhere":
        schedule.defer(job.job_id)
        return
    schedule.finish(job.job_id, result.status == "ok", result.error)
    # The job before its orphans, so that the log shows the cause above its consequences.
    report(job, result)
    for orphan, why in schedule.orphans():
        report(orphan, store_failure(orphan, store, "parent", why))

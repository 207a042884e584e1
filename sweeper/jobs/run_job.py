"""Runs one job on this machine and stores its rows: the function `execute`, which every backend calls. Needs neither Ray nor Hydra.

A job is leased before it runs, so that several processes may work on one store. Whatever a method raises becomes failed rows of its job,
with one line in the row and the traceback in STORE/logs/JOB.log. Only a disk that cannot be written ends the sweep, because that is not a
method's failure. `python -m sweeper.execute` runs whole files of jobs with this function.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from sap_core.api import Stopped
from sap_core.cost import reset_peak_memory
from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.instruction_sets import check_reproducible
from sap_core.records import Row
from sweeper.config.target import check_components
from sweeper.jobs.context import AskTellFactory, Failure, JobContext, JobOutcome, free_memory
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.job_leases import lease_paths
from sweeper.jobs.job_types import run_job_type
from sweeper.jobs.results import job_log, store_failure, summarise
from sweeper.jobs.stored_artifacts import changed_since, is_complete
from sweeper.store.leases import Lease, Leases, acquire_all, process_leases
from sweeper.store.provenance import commit
from sweeper.store.store import Store

# 75 is EX_TEMPFAIL of sysexits.h: the attempt failed and may be repeated.
TIMED_OUT = 75
"""Exit code of a worker whose job exceeded its time limit."""

GRACE_SECONDS = 10.0
"""Time after the time limit at which faulthandler kills a process whose watchdog thread could not run (a C call holds the GIL)."""

_STANDARD_ERROR = 2

_POLL_SECONDS = 0.5
"""Polling interval for a job that is leased by another worker."""


def execute(
    job: Job,
    paths: SweepPaths,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    jobs_on_device: int = 1,
    ask_tell: AskTellFactory | None = None,
    leases: Leases | None = None,
    wait_seconds: float = 0.0,
    known_failures: int | None = None,
    oom_retries: int | None = None,
) -> Result:
    """Run `job` and store its rows, exactly once: the job is leased, and the store is checked for its rows before it starts.

    Errors inside a method never propagate: they become failed rows. If `stop` returns True, the job stores a checkpoint, but no rows, and
    the result has the status `stopped`. A process that was considered dead and lost its lease stops, stores nothing and returns
    `leased_elsewhere`. If the job's rows are stored but its artifact is missing, the artifact is computed again; the rows stay unchanged.

    Args:
        job: what to run.
        paths: the sweep's folders.
        device: `cpu`, `cuda`, `cuda:N` or `mps`.
        stop: returns True when the job is to stop.
        jobs_on_device: number of jobs that the caller runs concurrently on the device; stored with the measured seconds.
        ask_tell: makes the ask-and-tell interface of sampled searches; None: an Optuna study.
        leases: the leases of this process; None: the shared ones.
        wait_seconds: how long to wait for a job that another process has leased before returning `leased_elsewhere`.
        known_failures: number of failed attempts when the caller made its plan. If another process has failed the job since, it is not
            run. None: it is run in any case.
        oom_retries: for callers that give a job a larger share of a GPU (`resources["gpus"]`) after it ran out of memory next to other
            jobs: how often that has happened. Running out of memory on a shared GPU then stores nothing and returns `oom_on_shared_gpu`;
            with a complete GPU it is a failure as usual. None: always a failure.

    Raises:
        UserError: the job names a class that is no component.
        StorageError: nothing can be stored, for example because the disk is full or read-only.
        UserError: the job is to be reproducible, and this process or processor computes other bits.
    """
    # Imported here at the latest, and only if they are components: a worker gets its jobs from another process.
    check_components(job.spec, [run.entry for run in job.runs])
    if job.reproducible:
        check_reproducible()
    leases = leases or process_leases()
    # The wait serves jobs that two sweeps need at the same moment: a short one has ended before another job would have been found.
    until = time.monotonic() + wait_seconds
    while True:
        # Before leasing: reading names costs less, and most jobs of a resumed sweep are done.
        if (known := _known_result(job, paths, known_failures)) is not None:
            return known
        # Held until the rows are stored: releasing earlier would let another process start the same job in between.
        with acquire_all(leases, lease_paths(job, paths)) as acquired:
            if not isinstance(acquired, str):
                # Another process may have finished the job between the first check and the lease.
                known = _known_result(job, paths, known_failures)
                return known or _run(job, paths, device, _StopCheck(acquired, stop), jobs_on_device, ask_tell, oom_retries)
        # The caller decides what follows; a backend defers the job and runs another one meanwhile.
        if time.monotonic() >= until or stop():
            return Result(job.job_id, "leased_elsewhere", error=f"{acquired} is running it")
        time.sleep(min(_POLL_SECONDS, max(0.0, until - time.monotonic())))


def _known_result(job: Job, paths: SweepPaths, known_failures: int | None) -> Result | None:
    """The stored result of a job that need not be run; None if it is to be run."""
    store = Store(paths.store)
    done = store.is_done(job.job_id)
    # Rows alone do not suffice for a job that others read: its checkpoint may have been deleted since.
    complete = done and (job.job_type in ("tune", "search") or is_complete(paths.artifacts, job.job_id))
    # Several workers share a plan: a job that failed in one of them is not tried by each of the others in the same start.
    failed_since = not done and known_failures is not None and store.attempts(job.job_id) > known_failures
    return summarise(job, store.read_rows(job.job_id), 0.0) if complete or failed_since else None


class _LeaseLost(Stopped):
    """Another process has taken the job over."""


@dataclass(frozen=True)
class _StopCheck:
    """Tells a running job whether to stop: True if its caller asks for it; raises if another process has taken the job over."""

    leases: list[Lease]
    requested: Callable[[], bool]

    def __call__(self) -> bool:
        # `is_lost` looks at the disk at most once a second, so that methods may call this after every mini-batch.
        if any(lease.is_lost() for lease in self.leases):
            raise _LeaseLost(_LEASE_LOST)
        return self.requested()

    def owns_job(self) -> bool:
        """Whether this process still owns all leases, read from the disk."""
        # Read anew, unlike in `__call__`: this is the last look before the rows are written.
        return all(lease.is_valid() for lease in self.leases)


_LEASE_LOST = "another process has taken this job over, because this one did not renew its lease in time; it stores nothing more"


def _run(
    job: Job, paths: SweepPaths, device: str, stop: _StopCheck, jobs_on_device: int, ask_tell: AskTellFactory | None,
    oom_retries: int | None,
) -> Result:  # fmt: skip
    store = Store(paths.store)
    # Read before the run, because rows that exist are never rewritten when only a missing artifact is restored.
    done = store.is_done(job.job_id)
    # Reruns with a larger share of the GPU stored nothing, so the store does not know of them.
    attempt = store.attempts(job.job_id) + (oom_retries or 0) + 1
    start = time.monotonic()
    # At every job: a worker process is reused, and the previous job may have had another number of threads.
    configure_torch(job.threads)
    context = JobContext(paths.data, paths.artifacts, torch.device(device), stop, jobs_on_device, ask_tell)
    # The peak is the job's own, not that of an earlier job in the same worker.
    reset_peak_memory(context.device)
    with storing(store.root), job_log(store.logs / f"{job.job_id}.log") as log:
        log.info("%s starts, attempt %d: %s", job.job_type, attempt, _description(job, context.device))
        try:
            # Writing rows is outside the watchdog: a job that has finished its work in time must not be killed while it stores it.
            with watchdog(job, store, attempt), log_warnings(log):
                outcome = run_job_type(job, context, log.info)
        # Not a failure: the checkpoint is stored, and failed rows would count as an attempt.
        except Stopped as stopped:
            log.info("%s", stopped)
            return Result(job.job_id, "leased_elsewhere" if isinstance(stopped, _LeaseLost) else "stopped", error=str(stopped))
        circumstances = {
            "attempt": attempt, "threads": job.threads, "device": _device_name(context.device),
            # On a CPU the share is 1: jobs there have cores of their own, and `jobs_on_device` reports the others.
            "device_share": job.resources["gpus"] or 1.0, "commit": commit(), "started_at": outcome.started_at,
            **outcome.processor,
        }  # fmt: skip
        rows = _rows(job, outcome, circumstances)
        if not stop.owns_job():
            # If the process is suspended between this check and the rename, both owners write the same complete file: still one result.
            log.info("%s", _LEASE_LOST)
            return Result(job.job_id, "leased_elsewhere", error=_LEASE_LOST)
        if outcome.failure:
            log.error("%s: %s", outcome.failure.error_type, outcome.failure.error)
            # One record per line, so that every line of the file begins with a time.
            for line in outcome.failure.traceback.rstrip().splitlines():
                log.error("  %s", line)
        out_of_memory = next((row for row in rows if row.error_type == "oom"), None)
        if out_of_memory is not None:
            # Other jobs on the device need the memory before this one is tried again.
            free_memory(context.device)
            if oom_retries is not None and 0 < job.resources["gpus"] < 1:
                log.info("out of memory with %g of the device next to other jobs", job.resources["gpus"])
                return Result(job.job_id, "oom_on_shared_gpu", error=out_of_memory.error, error_type="oom")
        # A job that was done and only restored its artifact keeps its rows. The file of rows is written last: it is the record that the job
        # is done.
        if not done or outcome.failure:
            # The rows come after the series for the same reason: a kill in between leaves a job that is not done and is run again.
            store.write_series(job.job_id, outcome.points)
            store.write_rows(rows)
        result = summarise(job, rows, time.monotonic() - start)
        if done and not outcome.failure:
            result = replace(result, note=_difference(store.read_rows(job.job_id), rows, changed_since(paths.artifacts, job.job_id)))
            if result.note:
                log.warning("%s", result.note)
        log.info("%s: %d rows, %d failed, %.1f s", result.status, result.rows, result.failed, result.seconds)
    return result


_COMPARED = ("train_acc", "val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "val_clean_r2", "test_r2", "kept_noise_rate")
"""Columns in which a repeated job has to agree with its stored row."""


def _difference(stored: list[Row], repeated: list[Row], changed: bool) -> str | None:
    """What to tell about an artifact that was computed again and differs from the one before; None if nothing shows a difference.

    Args:
        stored: the rows of the job, which stay.
        repeated: the rows of the repetition.
        changed: whether the artifact's files differ from the former ones, as far as these are known.
    """
    # The same code, seed, device and number of threads give the same bits.
    before = {row.run_id: row for row in stored}
    columns = [
        name
        for row in repeated
        for name in _COMPARED
        if row.run_id in before and getattr(row, name) is not None and getattr(before[row.run_id], name) not in (None, getattr(row, name))
    ]
    if not columns and not changed:
        return None
    what = (
        f"its {columns[0]} is {getattr(repeated[0], columns[0])} and was {getattr(stored[0], columns[0])}" if columns else "its bits differ"
    )
    return (
        f"{repeated[0].job_id} was computed again and is not what it was "
        f"({what}; commit {stored[0].commit} then, {repeated[0].commit} now): rows that were computed from it before stay as they are and "
        "belong to the former network; to compute all of them from one network, run the sweep into a new folder with paths.results=DIR "
        "and paths.artifacts=DIR"
    )


def _description(job: Job, device: torch.device) -> str:
    """The first line of a job's log: what runs, and where."""
    labels = job.labels
    method = labels["method"] + (f"@{labels['space']}" if labels.get("space") else "")
    names = " ".join(str(labels[key]) for key in ("dataset", "noise", "network", "trainer"))
    return f"{method} on {names} seed {labels['seed']}, {len(job.runs)} settings, {device}, process {os.getpid()} on {socket.gethostname()}"


def check_device(name: str) -> None:
    """Check that torch has the device `name`.

    Raises:
        UserError: the name is not a device, or the machine does not have it.
    """
    # torch's own message for a wrong device would appear inside the first job, as a failure of its method.
    if not re.fullmatch(r"cpu|cuda(:\d+)?|mps", name):
        raise UserError(f"'{name}' is not a device; allowed: cpu, cuda, cuda:N, mps")
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise UserError(f"device mps is not available: torch {torch.__version__} finds no Apple GPU here; use cpu, or cuda")
        return
    available = torch.cuda.device_count()
    if name != "cpu" and int(name.partition(":")[2] or 0) >= available:
        raise UserError(
            f"device {name} is not available: torch {torch.__version__} finds {available} CUDA devices; use cpu, or check the driver and "
            "CUDA_VISIBLE_DEVICES"
        )


def configure_torch(threads: int) -> None:
    """Make arithmetic repeatable: a fixed number of threads, deterministic kernels, no TF32."""
    # Sums over two threads have other bits than sums over one, and cuDNN's benchmark chooses kernels by the load of the machine.
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    # TF32 rounds factors to 10 bits of mantissa. Only a trainer that asks for it (`trainer.precision=tf32`) may use it.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _rows(job: Job, outcome: JobOutcome, circumstances: dict[str, Any]) -> list[Row]:
    rows = []
    for index, run in enumerate(job.runs):
        columns = {**outcome.facts, **outcome.columns[index], **circumstances}
        # A setting that was scored before its family failed keeps its scores; the failure belongs to the settings after it.
        if columns.get("status") != "failed" and not outcome.scored[index]:
            failure = outcome.failure or Failure("error", "the method ended without yielding this setting", "")
            columns |= {"status": "failed", "error_type": failure.error_type, "error": failure.error}
        rows.append(job.row(run, **columns))
    return rows


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def log_warnings(log: logging.Logger) -> Iterator[None]:
    """Copies warnings, such as a replaced head of a pretrained network, to the job's log."""
    shown = warnings.showwarning

    def show(message: Warning | str, *others: Any, **more: Any) -> None:
        # Python's own filter stays in charge, so a warning that is shown once is logged once.
        log.warning("%s", message)
        shown(message, *others, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextmanager
def watchdog(job: Job, store: Store, attempt: int) -> Iterator[None]:
    """Ends the process if the job exceeds its time limit, after storing failed rows. The backend then continues with a new worker.

    The end of the job and the expiry exclude each other, so only one of them stores rows. A job that hangs in C code while holding the
    interpreter's lock also keeps the watchdog thread from running. A second watchdog, faulthandler, needs no lock: after
    `GRACE_SECONDS` it writes all stacks to standard error and ends the process, and the backend records the job as killed.
    """
    # Without a limit no timer: a job may hang, but nothing can kill it by mistake.
    if job.timeout_seconds is None:
        yield
        return
    # Whichever takes the lock first, the end of the job or the expiry, decides what is stored.
    deciding, ended = threading.Lock(), False

    def expire() -> None:
        with deciding:
            if ended:
                return
            try:
                reason = f"exceeded its time limit of {job.timeout_seconds:g} s (backend.timeout_seconds)"
                store_failure(job, store, "killed", reason, attempt)
            finally:
                # sys.exit would only end this thread, and the job cannot be interrupted from here.
                os._exit(TIMED_OUT)

    # A thread, not SIGALRM: a signal handler waits for the main thread, which may be inside a long operation of torch.
    timer = threading.Timer(job.timeout_seconds, expire)
    # Else a pending timer would keep the worker alive after its driver has closed the pipe.
    timer.daemon = True
    # The descriptor 2 itself rather than sys.stderr, which a library may have replaced by an object without a descriptor.
    faulthandler.dump_traceback_later(job.timeout_seconds + GRACE_SECONDS, exit=True, file=_STANDARD_ERROR)
    timer.start()
    try:
        yield
    finally:
        with deciding:
            ended = True
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()

"""Runs one job on this machine: the one function that every backend calls. No Ray, no Hydra.

    python -m sweeper.execute FILE --data DIR --store DIR [--artifacts DIR] [--shard N/M] [--seconds S] [--device cuda]

runs a bundle, or another file of jobs (see sweeper.execute for the command line).
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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from sap_core.api import Stopped
from sap_core.cost import reset_peak_memory
from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.records import Row
from sweeper.jobs.context import AskerOf, Failure, JobContext, JobOutcome, free_memory
from sweeper.jobs.job import MAKING, Job, Result, SweepPaths, artifact
from sweeper.jobs.stages import run_kind
from sweeper.store.leases import Lease, Leases, acquire_all, leased_names, process_leases, remove_abandoned
from sweeper.store.provenance import commit
from sweeper.store.store import Store

TIMED_OUT = 75
"""Exit code of a worker whose job ran past its time."""

LATER_SECONDS = 10.0
"""So much later a process ends whose job does not even let the first watchdog run."""

_STANDARD_ERROR = 2

_LOOK_SECONDS = 0.5
"""A job that another process has is looked at so often, by a worker that waits for it."""


def execute(
    job: Job,
    folders: SweepPaths,
    device: str = "cpu",
    stop: Callable[[], bool] = lambda: False,
    jobs_on_device: int = 1,
    asker: AskerOf | None = None,
    leases: Leases | None = None,
    patience: float = 0.0,
    tried: int | None = None,
    oom_retries: int | None = None,
) -> Result:
    """Runs `job` and stores its rows, unless they are stored already. Exactly once: it is claimed, and the rows' file is looked for first.

    A job that another process has claimed is waited for so many seconds (`patience`), then the result says `leased_elsewhere`. A process that was
    taken for dead, and whose job another has claimed since, stops and stores nothing: `leased_elsewhere`, too. `tried` is how often the job had
    failed when the caller made its plan: if another process has failed at it since, it is not tried again. None: it is, whatever failed.

    A job whose rows are held but whose artifact is gone makes it again; the rows stay as they are. `asker` is what searches ask for
    settings (None: an Optuna study).

    `jobs_on_device` says how many jobs the caller runs at a time on the device: it is stored with the seconds.

    `oom_retries` is for callers that give a job more of a GPU (its `resources["gpus"]`) once it ran out of memory beside others: how often it
    did. Such a try is then no failure but has status `oom_on_shared_gpu`, and stores nothing; with a whole GPU it is a failure as ever.

    Never raises for what happens inside a method: that becomes failed rows. Stopped is turned into a result with status `stopped`
    (nothing stored but checkpoints).

    Raises:
        StorageError: nothing can be stored (a full or read-only disk).
    """
    leases = leases or process_leases()
    until = time.monotonic() + patience
    while True:
        if (known := _known(job, folders, tried)) is not None:
            return known
        with acquire_all(leases, places_of(job, folders)) as held:
            if not isinstance(held, str):
                return _known(job, folders, tried) or _run(job, folders, device, _Mine(held, stop), jobs_on_device, asker, oom_retries)
        if time.monotonic() >= until or stop():
            return Result(job.job_id, "leased_elsewhere", error=f"{held} has it")
        time.sleep(min(_LOOK_SECONDS, max(0.0, until - time.monotonic())))


def places_of(job: Job, folders: SweepPaths) -> list[Path]:
    """What is claimed for a job: the job in its store and, where it makes an artifact, that, which other sweeps may want to make, too."""
    making = [folders.artifacts / job.job_id / MAKING] if job.job_type in ("train", "select") else []
    return [Store(folders.store).leases / job.job_id, *making]


def tidy_up(jobs: Iterable[Job], folders: SweepPaths, leases: Leases) -> None:
    """At the end of a sweep: removes the leases that dead workers have left on jobs that are done."""
    store = Store(folders.store)
    left = leased_names(store.leases)
    done = [job for job in jobs if store.holds(job.job_id)]
    makers = [job for job in done if job.job_type in ("train", "select")]
    remove_abandoned(leases, [store.leases / job.job_id for job in done if job.job_id in left])
    remove_abandoned(leases, [folders.artifacts / job.job_id / MAKING for job in makers])


def _known(job: Job, folders: SweepPaths, tried: int | None) -> Result | None:
    """What became of a job that is not to be run any more."""
    store = Store(folders.store)
    held = store.holds(job.job_id)
    whole = held and (job.job_type in ("tune", "search") or artifact(folders.artifacts, job.job_id).exists())
    given_up = not held and tried is not None and store.attempts(job.job_id) > tried
    return summary(job, store.read_rows(job.job_id), 0.0) if whole or given_up else None


class _Lost(Stopped):
    """Another process has taken the job over."""


@dataclass(frozen=True)
class _Mine:
    """What a running job asks whether to stop: as its caller was asked to, or (raises) because it is another process's by now."""

    leases: list[Lease]
    asked: Callable[[], bool]

    def __call__(self) -> bool:
        if any(lease.is_lost() for lease in self.leases):
            raise _Lost(_TAKEN)
        return self.asked()

    def whole(self) -> bool:
        """Looks at the disk: are all leases still this process's?"""
        return all(lease.is_valid() for lease in self.leases)


_TAKEN = "another process has taken this job over, for this one gave no sign of life for too long; it stores nothing more"


def _run(
    job: Job, folders: SweepPaths, device: str, mine: _Mine, jobs_on_device: int, asker: AskerOf | None, oom_retries: int | None
) -> Result:
    store = Store(folders.store)
    held = store.holds(job.job_id)
    attempt = store.attempts(job.job_id) + (oom_retries or 0) + 1
    start = time.monotonic()
    settle(job.threads)
    place = JobContext(folders.data, folders.artifacts, torch.device(device), mine, jobs_on_device, asker)
    reset_peak_memory(place.device)
    with storing(store.root), _log(store.logs / f"{job.job_id}.log") as log:
        log.info("%s begins, attempt %d: %s", job.job_type, attempt, _words(job, place.device))
        try:
            with watchdog(job, store, attempt), log_warnings(log):
                work = run_kind(job, place, log.info)
        except Stopped as stopped:
            log.info("%s", stopped)
            return Result(job.job_id, "leased_elsewhere" if isinstance(stopped, _Lost) else "stopped", error=str(stopped))
        circumstances = {
            "attempt": attempt, "threads": job.threads, "device": _device_name(place.device), "device_share": job.resources["gpus"] or 1.0,
            "commit": commit(), "started_at": work.started_at,
        }  # fmt: skip
        rows = _rows(job, work, circumstances)
        if not mine.whole():
            log.info("%s", _TAKEN)
            return Result(job.job_id, "leased_elsewhere", error=_TAKEN)
        if work.failure:
            log.error("%s: %s", work.failure.kind, work.failure.error)
            for line in work.failure.traceback.rstrip().splitlines():  # every line of the file has its time
                log.error("  %s", line)
        short = next((row for row in rows if row.error_type == "oom"), None)
        if short is not None:
            free_memory(place.device)
            if oom_retries is not None and 0 < job.resources["gpus"] < 1:
                log.info("there was no room with %g of the device, beside other jobs", job.resources["gpus"])
                return Result(job.job_id, "oom_on_shared_gpu", error=short.error, error_type="oom")
        if not held or work.failure:
            store.write_series(job.job_id, work.points)
            store.write_rows(rows)
        result = summary(job, rows, time.monotonic() - start)
        log.info("%s: %d rows, %d failed, %.1f s", result.status, result.rows, result.failed, result.seconds)
    return result


def fail(job: Job, store: Store, error_type: str, error: str, attempt: int | None = None) -> Result:
    """Stores failed rows for a job that did not live to store its own; its complete rows, if there are any, stand."""
    if not store.holds(job.job_id):
        counted = store.attempts(job.job_id) + (error_type != "parent") if attempt is None else attempt
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [
            job.row(run, status="failed", error_type=error_type, error=error, attempt=counted, started_at=now, commit=commit())
            for run in job.runs
        ]
        with storing(store.root):
            store.write_rows(rows)
            if error_type != "parent":  # such a job never began, and has no log
                with _log(store.logs / f"{job.job_id}.log") as log:
                    log.error("%s: %s", error_type, error)
    return summary(job, store.read_rows(job.job_id), 0.0)


def _words(job: Job, device: torch.device) -> str:
    """What a job is, for its log."""
    labels = job.labels
    method = labels["method"] + (f"@{labels['space']}" if labels.get("space") else "")
    names = " ".join(str(labels[key]) for key in ("dataset", "noise", "network", "trainer"))
    return f"{method} on {names} seed {labels['seed']}, {len(job.runs)} settings, {device}, process {os.getpid()} on {socket.gethostname()}"


def summary(job: Job, rows: list[Row], seconds: float) -> Result:
    """The result that stored rows amount to."""
    failed = [row for row in rows if row.status == "failed" and row.error_type != "diverged"]
    best: dict[str, float] = {}
    for row in rows:
        score = row.val_noisy_acc if row.val_noisy_acc is not None else row.val_noisy_r2
        if row.status == "ok" and score is not None:
            best[row.method] = max(score, best.get(row.method, float("-inf")))
    first = failed[0] if failed else None
    return Result(
        job_id=job.job_id,
        status="failed" if failed or not rows else "ok",
        rows=len(rows),
        failed=sum(row.status == "failed" for row in rows),
        seconds=seconds,
        error=first.error if first else None,
        error_type=first.error_type if first else None,
        best=best,
        train_acc=rows[0].train_acc if job.job_type == "train" and rows else None,
    )


def check_device(name: str) -> None:
    """Raises UserError for a device that torch does not know, or that is not there."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise UserError(f"{name} is no device; allowed: cpu, cuda, cuda:N")
    there = torch.cuda.device_count()
    if name != "cpu" and int(name.partition(":")[2] or 0) >= there:
        raise UserError(f"device {name} was asked for, but torch {torch.__version__} sees {there} CUDA devices here; use cpu, or mend that")


def settle(threads: int) -> None:
    """Makes arithmetic repeatable: thread count (two threads give other bits than one), deterministic kernels, no TF32."""
    torch.set_num_threads(threads)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def _rows(job: Job, work: JobOutcome, circumstances: dict[str, Any]) -> list[Row]:
    rows = []
    for place, run in enumerate(job.runs):
        columns = {**work.facts, **work.columns[place], **circumstances}
        if columns.get("status") != "failed" and not work.scored[place]:
            failure = work.failure or Failure("error", "the method ended without yielding this setting", "")
            columns |= {"status": "failed", "error_type": failure.kind, "error": failure.error}
        rows.append(job.row(run, **columns))
    return rows


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


@contextmanager
def _log(path: Path) -> Iterator[logging.Logger]:
    path.parent.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(f"job.{path.stem}")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        handler.close()


@contextmanager
def log_warnings(log: logging.Logger) -> Iterator[None]:
    """Warnings (weights that were taken from under a key, a fresh head) stand in the job's log, too."""
    shown = warnings.showwarning

    def show(message: Warning | str, *others: Any, **more: Any) -> None:
        log.warning("%s", message)
        shown(message, *others, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = shown


@contextmanager
def watchdog(job: Job, store: Store, attempt: int) -> Iterator[None]:
    """Ends the process when the job runs past its time, after storing failed rows: the backend then goes on without it.

    Whichever comes first, the job's end or its time's, keeps the other from storing anything. A job that hangs inside C code with the
    interpreter's lock keeps this watchdog from running, too; a second one, which needs no lock, then writes all stacks to standard error
    and ends the process, and the backend books the job as killed.
    """
    if job.timeout_seconds is None:
        yield
        return
    deciding, ended = threading.Lock(), False

    def expire() -> None:
        with deciding:
            if ended:
                return
            try:
                fail(job, store, "killed", f"ran past its time of {job.timeout_seconds:g} s (backend.timeout_seconds)", attempt)
            finally:
                os._exit(TIMED_OUT)

    timer = threading.Timer(job.timeout_seconds, expire)
    timer.daemon = True
    faulthandler.dump_traceback_later(job.timeout_seconds + LATER_SECONDS, exit=True, file=_STANDARD_ERROR)
    timer.start()
    try:
        yield
    finally:
        with deciding:
            ended = True
        timer.cancel()
        faulthandler.cancel_dump_traceback_later()

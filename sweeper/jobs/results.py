"""Results of jobs: computed from stored rows, and failed rows for jobs that could not store their own. Loads no torch.

Schedulers and backends use this module to record a job whose worker died, or whose parent failed, without importing what runs a job.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sap_core.files import check_log, storing
from sap_core.records import Row
from sweeper.jobs.job import Job, Result
from sweeper.store.provenance import commit
from sweeper.store.store import Store


def summarise(job: Job, rows: Sequence[Row], seconds: float) -> Result:
    """The result that a job's rows amount to. A diverged setting is a valid outcome of its method and does not fail the job."""
    # Divergence is final: repeating the job would give the same values, so it must not count as a failure of the job.
    failed = [row for row in rows if row.status == "failed" and row.error_type != "diverged"]
    best: dict[str, float] = {}
    for row in rows:
        # The score that selection rules see: on the given validation labels. Regressions have R2 in its place.
        score = row.val_noisy_acc if row.val_noisy_acc is not None else row.val_noisy_r2
        if row.status == "ok" and score is not None:
            best[row.method] = max(score, best.get(row.method, float("-inf")))
    first = failed[0] if failed else None
    return Result(
        job_id=job.job_id,
        # A job without readable rows has no result that its children could rely on.
        status="failed" if failed or not rows else "ok",
        rows=len(rows),
        failed=sum(row.status == "failed" for row in rows),
        seconds=seconds,
        error=first.error if first else None,
        error_type=first.error_type if first else None,
        best=best,
        train_acc=rows[0].train_acc if job.job_type == "train" and rows else None,
    )


def store_failure(job: Job, store: Store, error_type: str, error: str, attempt: int | None = None) -> Result:
    """Store failed rows for a job that could not store rows itself. Complete rows that the store contains already are kept.

    Args:
        job: the job that was killed, ran past its time limit, or depends on a failed parent.
        store: the sweep's store.
        error_type: the column `error_type`: `killed`, `oom`, `parent`, ...
        error: the column `error`: one line.
        attempt: the column `attempt`; None: one more than stored, or the stored number for `parent`, which is not the job's own failure.

    Raises:
        StorageError: the rows cannot be written.
    """
    if not store.is_done(job.job_id):
        # A failed parent is not the job's own failure, so it must not use up one of its attempts.
        counted = store.attempts(job.job_id) + (error_type != "parent") if attempt is None else attempt
        now = datetime.now(UTC).isoformat(timespec="seconds")
        rows = [
            job.row(run, status="failed", error_type=error_type, error=error, attempt=counted, started_at=now, commit=commit())
            for run in job.runs
        ]
        # A disk that refuses these rows ends the sweep (StorageError) instead of passing for a method's failure.
        with storing(store.root):
            store.write_rows(rows)
            # A job whose parent failed never started and has no log.
            if error_type != "parent":
                with job_log(store.logs / f"{job.job_id}.log") as log:
                    log.error("%s: %s", error_type, error)
    # Read back rather than summarised from memory: where another process has stored the complete rows, those are the result.
    return summarise(job, store.read_rows(job.job_id), 0.0)


@contextmanager
def job_log(path: Path) -> Iterator[logging.Logger]:
    """A logger that appends to the file `path` and to nothing else."""
    path.parent.mkdir(parents=True, exist_ok=True)
    check_log(path)
    # One logger per job: the worker's process runs many jobs, and each log must contain its own lines alone.
    logger = logging.getLogger(f"job.{path.stem}")
    logger.setLevel(logging.INFO)
    # Else the lines would also reach the handlers of the root logger, and with them the worker's standard error.
    logger.propagate = False
    handler = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    try:
        yield logger
    finally:
        # Loggers live as long as the process, so an open handler per job would exhaust the file descriptors of a long sweep.
        logger.removeHandler(handler)
        handler.close()

"""Log lines for finished jobs, with the progress of the sweep for workers without a display.

Separate from `sweeper.monitor.progress`, because rich may be missing on a worker's machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from sap_core.text import one_line
from sweeper.estimate.duration import RuntimeEstimator, Workload, flops_by_workload
from sweeper.jobs.job import Job, Result


def result_line(job: Job, result: Result) -> str:
    """The job and its status, row count and run time, without the error message."""
    # On the given labels, wrong ones included: it shows how far the baseline has learnt the noise.
    fit = f", training accuracy {result.train_acc:.4f} on the given labels" if result.train_acc is not None else ""
    name = f"{job.labels['method']}{'@' + job.labels['space'] if job.labels['space'] else ''}"
    name += f" {job.labels['search']}" if job.labels.get("search") else ""
    rows = "1 row" if result.rows == 1 else f"{result.rows} rows"
    return f"{job.job_id} {job.job_type} {name} seed {job.labels['seed']}: {result.status}, {rows}, {result.seconds:.1f} s{fit}"


def error_suffix(result: Result) -> str:
    """The error type and message, or the note, to be appended to `result_line`; "" if there is neither."""
    note = f"; note: {result.note}" if result.note else ""
    # A message may repeat what a file contains, and a terminal obeys control characters.
    return one_line(f"; {result.error_type}: {result.error}{note}" if result.error else note)


def format_duration(seconds: float | None) -> str:
    """Seconds as [H:]MM:SS; ? for None."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def update_best(best: dict[str, float], result: Result) -> None:
    """Updates the best validation score of each method (`best`, in place) by a job's scores."""
    for method, score in result.best.items():
        best[method] = max(score, best.get(method, float("-inf")))


class WorkerLog:
    """Log lines of a worker: ended and total jobs, the job's result, the best score of its method, and the ETA if this worker ran alone."""

    def __init__(self, jobs: Iterable[Job], estimator: RuntimeEstimator) -> None:
        self._work = {job.job_id: (Workload.of(job.job_type, job.labels), job.forecast_flops) for job in jobs}
        self._estimator = estimator
        self._best: dict[str, float] = {}

    def line(self, job: Job, result: Result, remaining: Iterable[str]) -> str:
        """The line of a job that this worker has run; `remaining` are the ids of the jobs that no worker has finished."""
        pending = list(remaining)
        update_best(self._best, result)
        best = "".join(f"; best {method} {self._best[method]:.4f}" for method in sorted(result.best))
        # Other workers are unknown here, so the ETA assumes that this one runs all remaining jobs.
        eta = self._estimator.remaining_seconds(flops_by_workload(self._work[job_id] for job_id in pending))
        # From the remaining jobs rather than counted here, because other workers end jobs of this list, too.
        ended = len(self._work) - len(pending)
        return f"[{ended}/{len(self._work)}] {result_line(job, result)}{best}{error_suffix(result)}; ETA {format_duration(eta)}"

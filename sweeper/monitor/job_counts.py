"""The progress of a sweep by type of job, from its store alone: names of files, the plan's columns and the files of failed jobs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from analysis.store.job_counts import Counts, count_jobs, total
from sap_core.errors import UserError
from sweeper.store.store import MAX_ATTEMPTS, Store

SHOWN = 20
"""Failed jobs that are listed."""


@dataclass(frozen=True)
class SweepCounts:
    """The progress of a whole sweep."""

    counts: tuple[Counts, ...]  # of jobs, by type
    flops: float  # forecast, of all jobs
    flops_done: float  # of those that have ended
    failures: tuple[tuple[str, str, str], ...] = ()  # job, kind of error, last line of its text

    @property
    def total(self) -> Counts:
        return total(self.counts)


def standing(store: Store) -> SweepCounts:
    """Counts jobs.

    Raises:
        UserError: the store holds no plan that can be read, or is of another schema version.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    store.check_version()
    try:
        plan = pq.read_table(store.plan, columns=["job_id", "job_type", "forecast_flops"]).to_pydict()
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{store.root} holds no plan ({store.plan.name} cannot be read); is it the folder of a sweep?") from error
    kinds: dict[str, str] = {}
    flops: dict[str, float] = defaultdict(float)
    for job_id, job_type, amount in zip(plan["job_id"], plan["job_type"], plan["forecast_flops"], strict=True):
        kinds[job_id] = job_type
        flops[job_id] += amount or 0.0
    statuses = {job_id: status for job_id, status in store.statuses().items() if job_id in kinds}
    failed = [job_id for job_id in kinds if statuses.get(job_id) == "failed"]
    given_up = [job_id for job_id in failed if store.attempts(job_id) >= MAX_ATTEMPTS]
    return SweepCounts(
        counts=count_jobs(kinds, statuses, given_up),
        flops=sum(flops.values()),
        flops_done=sum(flops[job_id] for job_id in statuses),
        failures=tuple(_failure(store, job_id) for job_id in failed[:SHOWN]),
    )


def job_of_run(store: Store) -> dict[str, str]:
    """Run id -> id of the job that writes its row; empty where there is no plan."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        plan = pq.read_table(store.plan, columns=["run_id", "job_id"]).to_pydict()
    except (pa.ArrowException, OSError):
        return {}
    return dict(zip(plan["run_id"], plan["job_id"], strict=True))


def _failure(store: Store, job_id: str) -> tuple[str, str, str]:
    row = next((row for row in store.read_rows(job_id) if row.status == "failed"), None)
    if row is None:
        return job_id, "error", "its file cannot be read"
    last = ((row.error or "").strip().splitlines() or ["no message"])[-1]
    name = f"{row.method}{'@' + row.space if row.space else ''} seed {row.seed}"
    return f"{job_id} {row.job_type} {name}", row.error_type or "error", last

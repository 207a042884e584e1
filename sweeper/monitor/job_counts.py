"""Counts a sweep's jobs by type and status, from the store alone: file names, columns of the plan, and the rows of failed jobs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from analysis.store.job_counts import Counts, count_jobs, total
from sap_core.completion import similar_store
from sap_core.errors import UserError
from sap_core.records import Planned
from sweeper.store.store import MAX_ATTEMPTS, Store

# Each costs the reading of a file; more lines than fit a screen help nobody.
MAX_FAILURES = 20
"""Number of failed jobs whose error is read."""


@dataclass(frozen=True)
class SweepCounts:
    """The progress of a sweep."""

    by_type: tuple[Counts, ...]  # number of jobs by status, per job type
    flops: float | None  # forecast FLOPs of all jobs; None: those of some are unknown
    flops_done: float  # known forecast FLOPs of the jobs that have ended
    failures: tuple[tuple[str, str, str], ...] = ()  # (description of the job, error type, last line of the error)

    @property
    def total(self) -> Counts:
        """The counts of all job types together."""
        return total(self.by_type)


def sweep_counts(store: Store) -> SweepCounts:
    """Counts the jobs of a store.

    Raises:
        UserError: the store has no readable plan, or another schema version.
    """
    # pyarrow is imported in functions, so that `sap-slurm` starts without it
    from analysis.store.parquet import UNREADABLE, read_file

    store.check_version()
    try:
        # Three columns of many: Parquet does not decode the others.
        plan = read_file(store.plan, Planned, frozenset({"job_id", "job_type", "forecast_flops"})).to_pydict()
    except FileNotFoundError as error:
        raise UserError(
            f"{store.root} is not a store: it has no {store.plan.name}{similar_store(store.root)}; "
            "give the results folder of a sweep, such as results/demo"
        ) from error
    except UNREADABLE as error:
        raise UserError(f"the plan {store.plan} cannot be read ({error}); start the sweep again, which writes it anew") from error
    types: dict[str, str] = {}
    flops: dict[str, float] = defaultdict(float)
    unknown = False
    for job_id, job_type, amount in zip(plan["job_id"], plan["job_type"], plan["forecast_flops"], strict=True):
        # The plan has one row per run; the FLOPs of a job are the sum over its runs.
        types[job_id] = job_type
        flops[job_id] += amount or 0.0
        unknown = unknown or amount is None
    # A store may contain jobs of earlier plans, which do not count here.
    statuses = {job_id: status for job_id, status in store.statuses().items() if job_id in types}
    # Only files of failed jobs are opened; all counts come from file names.
    failed = [job_id for job_id in types if statuses.get(job_id) == "failed"]
    given_up = [job_id for job_id in failed if store.attempts(job_id) >= MAX_ATTEMPTS]
    return SweepCounts(
        by_type=count_jobs(types, statuses, given_up),
        flops=None if unknown else sum(flops.values()),
        flops_done=sum(flops[job_id] for job_id in statuses),
        failures=tuple(_failure(store, job_id) for job_id in failed[:MAX_FAILURES]),
    )


def job_of_run(store: Store) -> dict[str, str]:
    """Run id -> id of the job that writes its row; empty without a readable plan."""
    from analysis.store.parquet import UNREADABLE, read_file

    try:
        plan = read_file(store.plan, Planned, frozenset({"run_id", "job_id"})).to_pydict()
    except UNREADABLE:
        return {}
    return dict(zip(plan["run_id"], plan["job_id"], strict=True))


def _failure(store: Store, job_id: str) -> tuple[str, str, str]:
    row = next((row for row in store.read_rows(job_id) if row.status == "failed"), None)
    if row is None:
        return job_id, "error", "its rows cannot be read"
    # Of several lines the last one, which names the error in Python's format.
    last = ((row.error or "").strip().splitlines() or ["no message"])[-1]
    name = f"{row.method}{'@' + row.space if row.space else ''} seed {row.seed}"
    return f"{job_id} {row.job_type} {name}", row.error_type or "error", last

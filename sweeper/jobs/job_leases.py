"""The leases that a running job needs, and the removal of those that dead workers have left."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sweeper.jobs.job import ARTIFACT_LEASE, Job, SweepPaths
from sweeper.store.leases import Leases, leased_names, remove_abandoned
from sweeper.store.store import Store

_WRITES_ARTIFACT = ("train", "select")
"""Types of jobs that leave an artifact."""


def lease_paths(job: Job, paths: SweepPaths) -> list[Path]:
    """The job in its store and, if it writes an artifact, the artifact, which other sweeps may be about to compute as well."""
    # Two leases, because stores differ between sweeps while artifacts are shared: two sweeps that need the same baseline train it once. All
    # processes acquire them in this order.
    artifact = [paths.artifacts / job.job_id / ARTIFACT_LEASE] if job.job_type in _WRITES_ARTIFACT else []
    return [Store(paths.store).leases / job.job_id, *artifact]


def remove_stale_leases(jobs: Iterable[Job], paths: SweepPaths, leases: Leases) -> None:
    """Remove the leases on finished jobs whose workers died between storing and releasing. Called at the end of a sweep."""
    store = Store(paths.store)
    # One listing of the folder; looking for each job's lease by itself would cost a call per job of the plan.
    leased = leased_names(store.leases)
    done = [job for job in jobs if store.is_done(job.job_id)]
    remove_abandoned(leases, [store.leases / job.job_id for job in done if job.job_id in leased])
    remove_abandoned(leases, [paths.artifacts / job.job_id / ARTIFACT_LEASE for job in done if job.job_type in _WRITES_ARTIFACT])

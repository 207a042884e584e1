"""Keeps sweeps of `backend.reproducible=true` apart from results that were computed with other instruction sets."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from sap_core.errors import UserError
from sap_core.instruction_sets import check_processor, use_reproducible
from sap_core.records import Row
from sweeper.jobs.job import Job, SweepPaths, artifact
from sweeper.store.store import Store


def prepare_reproducible(store: Store, workers_here: bool) -> None:
    """Set the environment that the workers inherit, before torch is used.

    Args:
        store: the sweep's store.
        workers_here: the jobs run on this machine, whose processor is therefore checked.

    Raises:
        UserError: the store has rows that were not computed reproducibly, or this processor cannot compute them so.
    """
    # pyarrow, which it loads, is not needed otherwise.
    from analysis.store.parquet import read_folder

    if workers_here:
        check_processor()
    use_reproducible()
    rows = read_folder(store.rows, Row, [], {"status", "reproducible"}).to_pylist()
    others = sum(row["status"] == "ok" and not row["reproducible"] for row in rows)
    if others:
        raise UserError(
            f"backend.reproducible=true: {others} rows of {store.root} were computed without it, and one store must not mix both; "
            "give the sweep another name and other artifacts, as in name=reproducible paths.artifacts=results/artifacts-reproducible"
        )


def is_reproducible_artifact(path: Path) -> bool:
    """Whether the artifact that the file `path` describes was computed under `backend.reproducible`; False if that is not recorded."""
    return bool(json.loads(path.read_text(encoding="utf-8")).get("processor", {}).get("reproducible"))


def refuse_other_artifacts(jobs: Iterable[Job], paths: SweepPaths) -> None:
    """Check that no artifact that the jobs would use was computed without `backend.reproducible`.

    Raises:
        UserError: the first one that was, or of which it is not known.
    """
    for job in jobs:
        path = artifact(paths.artifacts, job.job_id)
        if job.reproducible and path.is_file() and not is_reproducible_artifact(path):
            raise UserError(
                f"backend.reproducible=true: the {job.job_type} job {job.job_id} in {paths.artifacts} was computed without it; "
                "choose another folder, as in paths.artifacts=results/artifacts-reproducible"
            )

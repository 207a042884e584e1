"""Checks of what `sap-sweep import` copies. A folder may come from elsewhere, and one that claims too much is refused (docs/trust.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sap_core.checksum import MERGED
from sap_core.errors import UserError
from sap_core.identity import content_id
from sap_core.records import SCHEMA_VERSION, Point, Row
from sap_core.text import one_line
from sweeper.jobs.forms import record_problem
from sweeper.jobs.job import Job
from sweeper.plan.bundle import Bundle
from sweeper.store.provenance import HOME

_MAX_JSON = 1 << 26
"""Bytes of a file of columns; a baseline's curves take a few thousand."""


def check_ids(bundle: Bundle, folder: Path) -> None:
    """Recomputes the ids that follow from a job's content.

    Raises:
        UserError: an id differs, because the bundle was edited or damaged.
    """
    for job in bundle.jobs:
        ids = [run.run_id for run in job.runs]
        # Ids that follow from other ids in the bundle are computed again. That of a train or select job is the hash of its components, so
        # it is only compared with the id of its single run.
        right = {
            "tune": lambda job=job, ids=ids: content_id({"kind": "tune", "runs": ids}) == job.job_id,
            "search": lambda job=job, ids=ids: (
                ids == [content_id({"kind": "search", "job": job.job_id, "trial": number}) for number in range(len(ids))]
            ),
        }.get(job.job_type, lambda job=job, ids=ids: ids == [job.job_id])
        if not right():
            raise UserError(f"a bundle in {folder} has a job {job.job_id} whose id does not match its content; export and run it again")


def default_store(results: str) -> Path:
    """The store that a bundle names.

    Raises:
        UserError: it is outside of the checkout, where only the user may say what is written.
    """
    path = (HOME / results).resolve()
    if not path.is_relative_to(HOME.resolve()) or path == HOME.resolve():
        raise UserError(
            f"the bundle names the store {results[:200]!r}, which is outside of {HOME}; choose the store with paths.results=DIR"
        )
    return path


def is_own_file(path: Path, folder: Path) -> bool:
    """Whether a path is a regular file inside the folder, and no link that leaves it, no pipe and no device."""
    return path.is_file() and path.resolve().is_relative_to(folder.resolve())


def foreign_files(folder: Path, bundles: Sequence[Bundle]) -> list[str]:
    """One sentence for each kind of file in the rows of a folder that belongs to no job of its bundles, and is therefore left out."""
    jobs = {job.job_id for bundle in bundles for job in bundle.jobs}
    try:
        paths = [path for path in (folder / "rows").iterdir() if path.suffix == ".parquet" and not path.name.startswith((".", MERGED))]
    except OSError:
        return []
    others = sorted(path.name for path in paths if path.name.split(".")[0] not in jobs)
    if not others:
        return []
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return [f"{folder}/rows contains {others[0]!r}{more}, of jobs that no bundle of {folder} contains; left out"]


def row_problem(job: Job, rows: Sequence[Row], path: Path) -> str:
    """Why these rows are not those of the job; "" if they are. `path` is their file, unless they are in a merged one."""
    if not rows:
        return _unreadable(path) or "is damaged, or contains no row of its job"
    planned = {run.run_id: run for run in job.runs}
    # A job is stored with all its rows or not at all.
    if sorted(row.run_id for row in rows) != sorted(planned):
        return "does not contain exactly the rows of its job"
    for row in rows:
        run = planned[row.run_id]
        # Labels are copied from the plan into each row, so any difference means that the rows are of another plan.
        known = {**job.labels, "job_id": job.job_id, "job_type": job.job_type, "position": run.position, "schema_version": SCHEMA_VERSION}
        # The setting of a trial is chosen while the search runs.
        if job.job_type != "search":
            known["settings"] = json.dumps(run.settings, sort_keys=True)
        if job.job_type in ("tune", "search") and known.get("information") == "none":
            # A corrector that selects samples without declaring it is recorded as scored.
            del known["information"]
        for name, value in known.items():
            if getattr(row, name, value) != value:
                return f"has {name}={str(getattr(row, name))[:100]!r} where the plan has {str(value)[:100]!r}"
        if problem := record_problem(asdict(row), Row) or _status_problem(row):
            return f"has a row in which {problem}"
    return ""


def _unreadable(path: Path) -> str:
    """Why a file of rows cannot be read, such as another schema version; "" if it can."""
    # pyarrow takes long to load, and only a refused file needs it here.
    from analysis.store.parquet import UNREADABLE, read_file

    try:
        read_file(path, Row)
    except UNREADABLE as error:
        return f"cannot be read: {one_line(str(error))}"
    return ""


def _status_problem(row: Row) -> str:
    if (row.status == "failed") != (row.error_type is not None):
        return f"status={row.status} contradicts error_type={row.error_type}"
    try:
        json.loads(row.settings)
    except (ValueError, RecursionError):
        return "settings are not JSON"
    return ""


def points_problem(job: Job, points: Sequence[Point]) -> str:
    """Why these points are no curves of the job; "" if they are."""
    runs = {run.run_id for run in job.runs}
    for point in points:
        if problem := record_problem(asdict(point), Point):
            return f"has a point in which {problem}"
        if point.run_id not in runs:
            return f"has a point of the run {point.run_id}, which is not of its job"
    return ""


def read_columns(path: Path) -> None:
    """Check the marker of an artifact, `meta.json`: the columns of a row and its curves.

    Raises:
        ValueError, KeyError, TypeError, RecursionError, OSError: it cannot be read, or contains what a row may not.
    """
    if path.stat().st_size > _MAX_JSON:
        raise ValueError(f"it has more than {_MAX_JSON} bytes")
    meta = json.loads(path.read_text(encoding="utf-8"))
    columns = dict(meta["columns"])
    # The plan and the run itself decide these.
    if taken := {"run_id", "job_id", "job_type", "experiment", "method", "settings", "position", "baseline_id"} & set(columns):
        raise ValueError(f"it sets the column {min(taken)}")
    if problem := record_problem(columns, Row):
        raise ValueError(problem)
    for name, step, value in meta.get("curve", []):
        if not isinstance(name, str) or not isinstance(value, int | float) or not math.isfinite(step):
            raise ValueError("a point of its curves is not a name, a step and a value")

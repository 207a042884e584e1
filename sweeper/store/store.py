"""The store: one Parquet file per job, written whole or not at all, never edited.

    STORE/config.yaml  plan.parquet  jobs.jsonl  rows/JOB.ok.parquet|JOB.failed.parquet  series/JOB.parquet  timing/JOB.parquet
    logs/JOB.log  report/

File names carry id and status, so that resuming lists names and opens nothing (but the few failed files, for their attempt number).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.store import index as names
from sap_core.errors import StorageError, UserError
from sap_core.files import replacing
from sap_core.records import Planned, Point, Row, Timing, column_types
from sweeper.store.leases import acquire_or_owner, process_leases

if TYPE_CHECKING:
    import pyarrow as pa

MAX_ATTEMPTS = 3
"""A job that fails (other than by divergence, which is final) is tried again at the next start, at most so many times in all."""

DRIVER = "driver"
"""The name of the lease that a driver has, among those of jobs."""

Record = TypeVar("Record", Row, Point, Planned, Timing)


class Store:
    """One sweep's folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows = root / "rows"
        self.series = root / "series"
        self.timing = root / "timing"
        self.logs = root / "logs"
        self.leases = root / "leases"
        self.plan = root / "plan.parquet"
        self.jobs = root / "jobs.jsonl"
        self.packing = root / "packing.json"

    def statuses(self) -> dict[str, str]:
        """Job id -> ok | failed, from file names and the footers of merged files (`sap-sweep compact`) alone; ok wins."""
        return names.statuses(self.root)

    def check_version(self) -> None:
        """Refuses a store of another schema version.

        Raises:
            UserError: names the version, and what to do.
        """
        names.check_version(self.root)

    def holds(self, job_id: str) -> bool:
        """Are the job's rows there, and complete?"""
        return (self.rows / f"{job_id}.ok.parquet").exists() or job_id in names.merged(self.rows)

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Stores a job's rows: as failed when any row failed for another reason than divergence."""
        job_id = rows[0].job_id
        failed = any(row.status == "failed" and row.error_type != "diverged" for row in rows)
        write_records(self.rows / f"{job_id}.{'failed' if failed else 'ok'}.parquet", rows, Row)
        if not failed:
            with suppress(FileNotFoundError):
                (self.rows / f"{job_id}.failed.parquet").unlink()

    def write_series(self, job_id: str, points: Sequence[Point]) -> None:
        if points:
            write_records(self.series / f"{job_id}.parquet", points, Point)

    def read_rows(self, job_id: str) -> list[Row]:
        """The rows of one job; [] when it has none or its file is damaged (the job then counts as not run)."""
        for path in (self.rows / f"{job_id}.ok.parquet", names.merged(self.rows).get(job_id), self.rows / f"{job_id}.failed.parquet"):
            if path is not None and path.exists():
                found = _read(path, Row, job_id)
                if found or path.exists():
                    return found
                return self.read_rows(job_id)  # it was merged while we looked
        return []

    def read_series(self, job_id: str) -> list[Point]:
        """The points of one job; [] when it has none or its file is damaged."""
        for path in (self.series / f"{job_id}.parquet", names.merged(self.series).get(job_id)):
            if path is not None and path.exists():
                found = _read(path, Point, job_id)
                return found if found or path.exists() else self.read_series(job_id)
        return []

    def timed(self, job_id: str) -> bool:
        """Has the job been measured alone?"""
        return (self.timing / f"{job_id}.parquet").exists()

    def write_timings(self, timings: Sequence[Timing]) -> None:
        """Stores what measuring one job alone has shown."""
        write_records(self.timing / f"{timings[0].job_id}.parquet", timings, Timing)

    def attempts(self, job_id: str) -> int:
        """How often the job has failed by itself so far."""
        rows = [row for row in self.read_rows(job_id) if row.error_type != "parent"]
        return max((row.attempt for row in rows), default=0)

    def tried(self) -> dict[str, int]:
        """How often each job that has failed so far has failed by itself."""
        return {job_id: self.attempts(job_id) for job_id, status in self.statuses().items() if status == "failed"}

    def finished(self) -> tuple[dict[str, str], list[str]]:
        """(job id -> ok | failed for jobs that are not to be run again, sentences about damaged files that were set aside)."""
        done: dict[str, str] = {}
        problems: list[str] = []
        for path in self.rows.glob(f"{names.MERGED}*.parquet"):
            if not names.jobs_in(path) and _set_aside(path):
                problems.append(f"{path} is damaged; it was set aside and its jobs run again")
        merged = names.merged(self.rows)
        for job_id, status in self.statuses().items():
            path = self.rows / f"{job_id}.{status}.parquet"
            if job_id in merged:
                done[job_id] = "ok"
            elif not _sound(path):
                if not path.exists() and self.holds(job_id):  # it was merged while we looked
                    done[job_id] = "ok"
                    continue
                if _set_aside(path):
                    problems.append(f"{path} is damaged; it was set aside and its job runs again")
            elif status == "ok" or self.attempts(job_id) >= MAX_ATTEMPTS:
                done[job_id] = status
        return done, problems

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps a second driver out of this folder. It is a lease (sweeper.store.leases), so that a driver that was killed keeps nobody out.

        An owner on another machine is waited for until its counter moves (it lives), or for a lease (it is dead).

        Raises:
            UserError: another driver has it, it is of another schema version, or the folder cannot be written.
        """
        self.check_version()
        try:
            for folder in (self.root, self.rows, self.series, self.logs, self.leases):
                folder.mkdir(parents=True, exist_ok=True)
            lease = acquire_or_owner(process_leases(), self.leases / DRIVER, lambda line: print(line, file=sys.stderr, flush=True))
        except (OSError, StorageError) as error:
            cause = error.__cause__ or error
            raise UserError(
                f"the results folder {self.root} cannot be written ({getattr(cause, 'strerror', None) or cause}); "
                "mend that or choose another with paths.results=..."
            ) from error
        if isinstance(lease, str):
            raise UserError(
                f"another sap-sweep is writing to {self.root} ({lease}); wait for it, or choose another folder with paths.results=..."
            )
        with lease:
            yield


def _set_aside(path: Path) -> bool:
    """Renames a damaged file out of every reader's sight; False if it is gone (`sap-sweep compact` merged it while we looked)."""
    try:
        path.replace(path.with_name(f".{path.name}.damaged"))
    except FileNotFoundError:
        return False
    return True


def _sound(path: Path) -> bool:
    """Does the file begin and end as a Parquet file does? (Files are renamed into place whole; this finds what a disk did to them.)"""
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(-4, os.SEEK_END)
            return head == b"PAR1" == file.read(4)
    except OSError:
        return False


def _read(path: Path, kind: type[Record], job_id: str) -> list[Record]:
    """The records of one job; a merged file has others', too."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        only = [("job_id", "=", job_id)] if path.name.startswith(names.MERGED) else None
        lines = pq.read_table(path, schema=schema(kind), filters=only).to_pylist()
    except (pa.ArrowException, OSError):
        return []
    return [kind(**line) for line in lines if line["job_id"] == job_id]


def write_records(path: Path, records: Iterable[Record], kind: type[Record]) -> None:
    """Writes records as one zstd Parquet file under the fixed schema of their dataclass."""
    import pyarrow.parquet as pq

    table = to_table(list(records), kind)
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def to_table(records: Sequence[Any], kind: type[Any]) -> pa.Table:
    """What `pa.Table.from_pylist` makes, which would import pandas into every worker: a second each, and 60 MB.

    Raises:
        pa.ArrowInvalid: a value is missing where the schema wants one.
    """
    import numpy as np
    import pyarrow as pa

    columns = []
    for field in schema(kind):
        values = [getattr(record, field.name) for record in records]
        missing = np.array([value is None for value in values], dtype=bool)
        if missing.any() and not field.nullable:
            raise pa.ArrowInvalid(f"{field.name} is missing in a {kind.__name__}")
        there = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes()) if missing.any() else None
        columns.append(pa.Array.from_buffers(field.type, len(values), [there, *_buffers(values, field.type)]))
    return pa.Table.from_arrays(columns, schema=schema(kind))


def _buffers(values: Sequence[Any], kind: pa.DataType) -> list[pa.Buffer]:
    """Arrow's buffers of a column, after the one that says which values are there."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(kind):
        texts = [b"" if value is None else str(value).encode() for value in values]
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        if ends[-1] > np.iinfo(np.int32).max:
            raise pa.ArrowInvalid("more than 2 GB of text in one column")
        return [pa.py_buffer(ends.astype(np.int32).tobytes()), pa.py_buffer(b"".join(texts))]
    if pa.types.is_boolean(kind):
        return [pa.py_buffer(np.packbits(np.array([bool(value) for value in values], dtype=bool), bitorder="little").tobytes())]
    dtype = np.int64 if pa.types.is_integer(kind) else np.float64
    return [pa.py_buffer(np.array([0 if value is None else value for value in values], dtype=dtype).tobytes())]


_SCHEMAS: dict[type[Any], pa.Schema] = {}


def schema(kind: type[Any]) -> pa.Schema:
    """The Arrow schema of a record class."""
    import pyarrow as pa

    if kind not in _SCHEMAS:
        arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        _SCHEMAS[kind] = pa.schema([pa.field(name, arrow[base], nullable=nullable) for name, base, nullable in column_types(kind)])
    return _SCHEMAS[kind]

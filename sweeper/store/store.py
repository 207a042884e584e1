"""The store: the folder of a sweep's results, one Parquet file per job, complete or absent, never edited.

    STORE/config.yaml  plan.parquet  jobs.jsonl  rows/JOB.ok.parquet|JOB.failed.parquet  series/JOB.parquet  timing/JOB.parquet
    leases/JOB.N.lease  logs/JOB.log  report/

File names contain the job's id and status, so a start that plans anew lists names and opens no file, except those of failed jobs, for
their attempt number, and the footers of merged files.

A job with an ok file is done. Diverged settings are final: they are failed rows inside an ok file. A job that failed otherwise (`error`,
`oom`, `killed`) leaves a failed file with the rows of the settings that were finished; all of it is rerun at the next start, up to
`MAX_ATTEMPTS` times. Rows with `error_type=parent` are not an attempt: the job runs once its parent is done.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from analysis.store import index
from sap_core.checksum import MERGED, is_intact
from sap_core.errors import StorageError, UserError
from sap_core.files import is_system_error, replacing
from sap_core.records import Planned, Point, Row, Timing, column_types
from sweeper.store.leases import acquire_or_owner, process_leases

if TYPE_CHECKING:
    import pyarrow as pa

# Several attempts, because `killed` and `oom` are often the machine's fault; not without limit, because a defect would be rerun at every
# start.
MAX_ATTEMPTS = 3
"""Number of attempts at a job that fails, other than by divergence; further starts leave it alone unless `retry=failed` is given."""

DRIVER = "driver"
"""Name of the driver's lease, next to the leases of jobs."""

Record = TypeVar("Record", Row, Point, Planned, Timing)


class Store:
    """The results folder of one sweep."""

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
        """Job id -> ok | failed, from file names and the footers of merged files (`sap-sweep compact`) alone; ok takes precedence."""
        return index.statuses(self.root)

    def check_version(self) -> None:
        """Check the schema version of the store; a folder without a plan passes.

        Raises:
            UserError: the store has another schema version; the message says what to do.
        """
        index.check_version(self.root)

    def is_done(self, job_id: str) -> bool:
        """Whether the complete rows of the job are stored, in a file that agrees with its checksum."""
        # The job's own file first: asking for it costs less than the footers of merged files.
        if is_intact(self.rows / f"{job_id}.ok.parquet"):
            return True
        merged = index.merged(self.rows).get(job_id)
        return merged is not None and is_intact(merged)

    def write_rows(self, rows: Sequence[Row]) -> None:
        """Store the rows of one job: as failed if any row failed for a reason other than divergence.

        Raises:
            OSError: they cannot be written.
        """
        job_id = rows[0].job_id
        # Divergence is a result. A family in which a setting diverged is complete and must not be computed a second time.
        failed = any(row.status == "failed" and row.error_type != "diverged" for row in rows)
        # The ok file is in place before the failed one is removed: a kill in between leaves both, and ok takes precedence.
        write_records(self.rows / f"{job_id}.{'failed' if failed else 'ok'}.parquet", rows, Row)
        if not failed:
            with suppress(FileNotFoundError):
                (self.rows / f"{job_id}.failed.parquet").unlink()

    def write_series(self, job_id: str, points: Sequence[Point]) -> None:
        """Store the points of one job; without points, no file is written."""
        if points:
            write_records(self.series / f"{job_id}.parquet", points, Point)

    def read_rows(self, job_id: str) -> list[Row]:
        """The rows of one job; [] if it has none or its file is damaged (the job then counts as not run)."""
        # In the order of precedence; compaction writes the merged file before it deletes the single ones.
        for path in (self.rows / f"{job_id}.ok.parquet", index.merged(self.rows).get(job_id), self.rows / f"{job_id}.failed.parquet"):
            if path is not None and path.exists():
                found = _read(path, Row, job_id)
                # The file is there and cannot be read: it is damaged, and the job counts as not run.
                if found or path.exists():
                    return found
                # `sap-sweep compact` merged it in the meantime.
                return self.read_rows(job_id)
        return []

    def damaged_rows(self, job_id: str) -> Path | None:
        """The file with the rows of a job, if it differs from its checksum."""
        found = (self.rows / f"{job_id}.ok.parquet", index.merged(self.rows).get(job_id), self.rows / f"{job_id}.failed.parquet")
        return next((path for path in found if path is not None and path.exists() and not is_intact(path)), None)

    def read_series(self, job_id: str) -> list[Point]:
        """The points of one job; [] if it has none or its file is damaged."""
        for path in (self.series / f"{job_id}.parquet", index.merged(self.series).get(job_id)):
            if path is not None and path.exists():
                found = _read(path, Point, job_id)
                return found if found or path.exists() else self.read_series(job_id)
        return []

    def has_timing(self, job_id: str) -> bool:
        """Whether the job has been timed in isolation (`timing=exclusive`)."""
        return (self.timing / f"{job_id}.parquet").exists()

    def write_timings(self, timings: Sequence[Timing]) -> None:
        """Store the isolated timing of one job."""
        write_records(self.timing / f"{timings[0].job_id}.parquet", timings, Timing)

    def attempts(self, job_id: str) -> int:
        """Number of failed attempts at the job; failures of its parents do not count."""
        # All rows of a file were written by one attempt, so any of them carries its number.
        rows = [row for row in self.read_rows(job_id) if row.error_type != "parent"]
        return max((row.attempt for row in rows), default=0)

    def failed_attempts(self) -> dict[str, int]:
        """Job id -> number of failed attempts, of all jobs with status failed."""
        return {job_id: self.attempts(job_id) for job_id, status in self.statuses().items() if status == "failed"}

    def retry_failed(self, job_ids: Iterable[str]) -> int:
        """Give failed jobs all their attempts again: the number of the attempt in their failed rows becomes 0, and the rows stay.

        Args:
            job_ids: the planned jobs; those that have not failed are left alone.

        Returns:
            How many jobs it changed.

        Raises:
            StorageError: the rows cannot be written.
        """
        statuses, changed = self.statuses(), 0
        for job_id in job_ids:
            if statuses.get(job_id) != "failed" or not (rows := self.read_rows(job_id)) or self.is_done(job_id):
                continue
            if any(row.attempt for row in rows):
                write_records(self.rows / f"{job_id}.failed.parquet", [replace(row, attempt=0) for row in rows], Row)
                changed += 1
        return changed

    def finished(self) -> tuple[dict[str, str], list[str]]:
        """The jobs that need not be run, and the problems found. Damaged files are renamed out of the way.

        Returns:
            (job id -> ok | failed, one message per damaged file).
        """
        done: dict[str, str] = {}
        problems: list[str] = []
        # Merged files first: a job in a damaged one must not count as done below.
        for path in self.rows.glob(f"{MERGED}*.parquet"):
            if not (is_intact(path) and index.jobs_in(path)) and _set_aside(path):
                problems.append(f"{path} is damaged; it was set aside, and its jobs are rerun")
        merged = index.merged(self.rows)
        for job_id, status in self.statuses().items():
            path = self.rows / f"{job_id}.{status}.parquet"
            if job_id in merged:
                done[job_id] = "ok"
            elif not is_intact(path):
                # `sap-sweep compact` merged it in the meantime.
                if not path.exists() and self.is_done(job_id):
                    done[job_id] = "ok"
                    continue
                if _set_aside(path):
                    problems.append(f"{path} is damaged; it was set aside, and its job is rerun")
            elif status == "ok" or self.attempts(job_id) >= MAX_ATTEMPTS:
                done[job_id] = status
        return done, problems

    @contextmanager
    def locked(self) -> Iterator[Callable[[], None]]:
        """Hold the driver's lease, so that no second driver uses this folder.

        Two drivers would each assume that they have the machine to themselves. A lease (sweeper.store.leases) does not survive a driver
        that was killed. An owner on another machine is observed until its counter changes (it is alive) or its lease expires.

        Yields a function that raises if this process does not own the folder any more, cheap enough to call after every job.

        Raises:
            UserError: another driver is running, the schema version differs, the folder cannot be written, or it was moved, replaced or
                taken over in the meantime.
        """
        self.check_version()
        try:
            for folder in (self.root, self.rows, self.series, self.logs, self.leases):
                folder.mkdir(parents=True, exist_ok=True)
            # A lease rather than a lock of the kernel: only O_EXCL and rename are required of a network file system.
            lease = acquire_or_owner(process_leases(), self.leases / DRIVER, lambda line: print(line, file=sys.stderr, flush=True))
        except (OSError, StorageError) as error:
            cause = error.__cause__ or error
            # A full, read-only or failing disk is no mistake in the command; a file in the place of the folder is one.
            refused = isinstance(cause, OSError) and is_system_error(cause)
            raise (StorageError if refused else UserError)(
                f"the results folder {self.root} cannot be written ({getattr(cause, 'strerror', None) or cause}); "
                "make it writable, or choose another with paths.results=DIR"
            ) from error
        if isinstance(lease, str):
            raise UserError(
                f"another sap-sweep is writing to {self.root} ({lease}); wait for it, or choose another folder with paths.results=DIR"
            )

        def check() -> None:
            if lease.is_lost():
                # A folder of the same name may be another sweep's, and rows that were stored before are not in it.
                raise UserError(
                    f"the results folder {self.root} was moved, replaced, or taken over by another sap-sweep while this one ran; it stores "
                    "nothing more there: put the folder back, then run the same command again, which runs what is missing"
                )

        with lease:
            yield check
            lease.is_valid()
            check()


def _set_aside(path: Path) -> bool:
    """Hide a damaged file from all readers by renaming it. Returns False if it no longer exists (`sap-sweep compact` merged it)."""
    try:
        # Renamed, not deleted: the user may want to look at it. All readers skip names that begin with a dot.
        path.replace(path.with_name(f".{path.name}.damaged"))
    except FileNotFoundError:
        return False
    return True


def _read(path: Path, record: type[Record], job_id: str) -> list[Record]:
    """The records of one job. A merged file also contains those of other jobs."""
    # pyarrow is imported inside functions, because it is slow to load and many commands only list names.
    from analysis.store.parquet import UNREADABLE, read_file

    try:
        lines = read_file(path, record, where=("job_id", job_id)).to_pylist()
    except UNREADABLE:
        return []
    return [record(**line) for line in lines]


def write_records(path: Path, records: Iterable[Record], record: type[Record]) -> None:
    """Write records as one zstd-compressed Parquet file with the schema of their dataclass and a checksum.

    Raises:
        OSError: the file cannot be written.
    """
    from analysis.store.parquet import write_table

    # Before the file is opened, so that a record that violates the schema leaves nothing behind.
    table = to_table(list(records), record)
    with replacing(path) as temporary:
        write_table(table, temporary, path)


def to_table(records: Sequence[Any], record: type[Any]) -> pa.Table:
    """The records as an Arrow table, as `pa.Table.from_pylist` builds it.

    `from_pylist` imports pandas, which costs every worker a second and 60 MB.

    Raises:
        pa.ArrowInvalid: a value is None in a column that requires one.
    """
    import numpy as np
    import pyarrow as pa

    columns = []
    for field in schema(record):
        values = [getattr(item, field.name) for item in records]
        # Arrow's own layout: a validity bitmap with the least significant bit first, then offsets or values.
        missing = np.array([value is None for value in values], dtype=bool)
        if missing.any() and not field.nullable:
            raise pa.ArrowInvalid(f"{field.name} is missing in a {record.__name__}")
        validity = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes()) if missing.any() else None
        columns.append(pa.Array.from_buffers(field.type, len(values), [validity, *_buffers(values, field.type)]))
    return pa.Table.from_arrays(columns, schema=schema(record))


def _buffers(values: Sequence[Any], column_type: pa.DataType) -> list[pa.Buffer]:
    """The Arrow buffers of a column, without the validity bitmap, which comes first."""
    import numpy as np
    import pyarrow as pa

    if pa.types.is_string(column_type):
        texts = [b"" if value is None else str(value).encode() for value in values]
        # Offsets of Arrow's string type are 32-bit; they are summed in 64 bits, so that an overflow is noticed instead of wrapping around.
        ends = np.cumsum([0, *map(len, texts)], dtype=np.int64)
        if ends[-1] > np.iinfo(np.int32).max:
            raise pa.ArrowInvalid("more than 2 GB of text in one column")
        return [pa.py_buffer(ends.astype(np.int32).tobytes()), pa.py_buffer(b"".join(texts))]
    if pa.types.is_boolean(column_type):
        return [pa.py_buffer(np.packbits(np.array([bool(value) for value in values], dtype=bool), bitorder="little").tobytes())]
    dtype = np.int64 if pa.types.is_integer(column_type) else np.float64
    return [pa.py_buffer(np.array([0 if value is None else value for value in values], dtype=dtype).tobytes())]


# Built once per class: a worker that built them for every job spent a measurable part of short jobs on it (docs/log.md).
_SCHEMAS: dict[type[Any], pa.Schema] = {}


def schema(record: type[Any]) -> pa.Schema:
    """The Arrow schema of a record class."""
    import pyarrow as pa

    if record not in _SCHEMAS:
        arrow = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
        _SCHEMAS[record] = pa.schema([pa.field(name, arrow[base], nullable=nullable) for name, base, nullable in column_types(record)])
    return _SCHEMAS[record]

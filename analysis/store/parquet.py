"""Reads the Parquet files of a store as Arrow tables with a fixed schema, skipping and naming damaged and foreign files; writes them.

Every byte of a file is compared with the file's checksum (`sap_core.checksum`) before a value is read from it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.store.index import JOBS_KEY, version_sentence
from sap_core.checksum import MERGED, PARQUET_BEGINNING, PARQUET_TRAILER, Checksum, checksum_of, seal
from sap_core.files import DAMAGED
from sap_core.records import SCHEMA_VERSION, Row, column_types
from sap_core.regular_files import read_regular

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

_VERSION = "schema_version"

SCORES = ("val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "val_clean_r2", "test_r2")
"""Columns of scores: of two ok rows of one run that differ in one of them, neither is used."""

UNREADABLE = (OSError, pa.ArrowException, ValueError, MemoryError, OverflowError)
"""The errors that `read_file` raises for damaged and foreign files. MemoryError: a damaged footer may announce any size."""

Equals = tuple[str, str]
"""A row filter: a column and the value that it must have."""


@cache
def arrow_schema(record: type) -> pa.Schema:
    """The Arrow schema of a record dataclass of `sap_core.records`."""
    return pa.schema([pa.field(name, _ARROW[kind], nullable=nullable) for name, kind, nullable in column_types(record)])


@cache
def project_schema(record: type, columns: frozenset[str] | None) -> pa.Schema:
    """The schema of `record` restricted to `columns`, in the record's order; the whole schema if None."""
    schema = arrow_schema(record)
    return schema if columns is None else pa.schema([field for field in schema if field.name in columns])


def read_folder(
    folder: Path, record: type, problems: list[str], columns: Collection[str] | None = None, where: Equals | None = None
) -> pa.Table:
    """Reads all files of a folder into one table, in the order of their names.

    Temporary files (names that start with a dot) are skipped, and so is the failed file of a job that has an ok file.

    Args:
        folder: the folder; a missing one gives an empty table.
        record: the record dataclass of the files.
        problems: receives one sentence for each file that cannot be read.
        columns: the columns to read; all if None.
        where: keeps only the rows with this value.
    """
    # A frozenset can be a key of the cached schemas.
    wanted = None if columns is None else frozenset(columns)
    # An empty table first, so that a folder without files gives the right columns.
    tables, done, before, incomplete = [project_schema(record, wanted).empty_table()], set[str](), [""], True
    # A file that disappears while the folder is read was merged into another one by `sap-sweep compact`. The merged file was written first,
    # so listing the folder again finds it. Rows read from both files are dropped later, by run.
    while incomplete:
        names = {path.name for path in folder.glob("[!.]*.parquet")}
        # A failed attempt whose job has succeeded since is not a result any more.
        superseded = {name.replace(".ok.", ".failed.") for name in names if name.endswith(".ok.parquet")}
        remaining = sorted(names - superseded - done)
        # Arrow releases the GIL while it reads.
        with ThreadPoolExecutor() as pool:
            read = list(pool.map(lambda name: _read_or_report(folder / name, record, wanted, where), remaining))
        done.update(name for name, result in zip(remaining, read, strict=True) if result is not None)
        # Stop if the second listing is the same: a name can stay without a file, such as a broken link.
        incomplete, before = any(result is None for result in read) and remaining != before, remaining
        problems += [result for result in read if isinstance(result, str)]
        tables += [result for result in read if isinstance(result, pa.Table)]
    return pa.concat_tables(tables)


def read_file(path: Path, record: type, columns: frozenset[str] | None = None, where: Equals | None = None) -> pa.Table:
    """Reads one file with the schema of `project_schema`. Optional columns that the file lacks get their default.

    Raises:
        ValueError: the file differs from its checksum, a required column or value is missing, or it has another schema version.
        OSError, pa.ArrowException: the file is damaged, or a column has another type.
    """
    schema = project_schema(record, columns)
    # What is compared with the checksum and what is parsed are the same bytes, even if the file is replaced in the meantime.
    data = read_regular(path)
    state = checksum_of(data, path)
    if state is Checksum.DAMAGED:
        raise ValueError(DAMAGED if data else "it is empty")
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        # The footer is enough to tell a foreign file, before any column is read.
        present = set(file.schema_arrow.names)
        missing = [name for name in _required(record) if name not in present]
        if missing:
            # Another version had other columns: report the version, which names the remedy.
            if _VERSION in present:
                _check_versions(file.read([_VERSION], use_threads=False)[_VERSION])
            raise ValueError(f"it is not a table of {record.__name__} records, it lacks {', '.join(missing[:3])}")
        names = [name for name in schema.names if name in present]
        if _VERSION in arrow_schema(record).names and _VERSION not in present:
            raise ValueError(f"it {version_sentence(1)}")
        # The version is checked in every file, even if the caller does not ask for it: rows of another version have other meanings.
        versions = [_VERSION] if _VERSION not in schema.names and _VERSION in arrow_schema(record).names else []
        # The files are small, and `read_folder` already reads several of them at once.
        table = file.read([*names, *versions], use_threads=False)
    if _VERSION in table.schema.names:
        _check_versions(table[_VERSION])
    table = _conform(table, record, schema)
    if state is Checksum.ABSENT:
        _check_content(table, record)
    _check_job(table, path)
    return table if where is None else table.filter(pc.equal(table[where[0]], where[1]))


def first_line(error: Exception) -> str:
    """The first line of an error's message, without its full stop; the error's type if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _read_or_report(path: Path, record: type, columns: frozenset[str] | None, where: Equals | None) -> pa.Table | str | None:
    """The table; a sentence if the file cannot be read; None if it no longer exists."""
    try:
        return read_file(path, record, columns, where)
    except FileNotFoundError:
        return None
    except UNREADABLE as error:
        lost = "; its jobs count as not run, and the next start of the sweep runs them again" if record is Row else ""
        return f"The file {path} was skipped: {first_line(error)}{lost}."


@cache
def _required(record: type) -> Sequence[str]:
    optional = {field.name for field in fields(record) if field.default is not MISSING}
    return tuple(field.name for field in arrow_schema(record) if not field.nullable and field.name not in optional)


def _check_versions(versions: pa.ChunkedArray) -> None:
    other = next((version for version in pc.unique(versions).to_pylist() if version is not None and version != SCHEMA_VERSION), None)
    if other is not None:
        raise ValueError(f"it {version_sentence(other)}")


def _conform(table: pa.Table, record: type, schema: pa.Schema) -> pa.Table:
    """Casts the columns of a table to `schema`, filling in defaults."""
    found = table.schema
    # Nearly every file matches, and a store has thousands of small files, so this path must not cast.
    if found.names == schema.names and found.types == schema.types:
        columns = table.columns
    else:
        defaults = {field.name: None if field.default is MISSING else field.default for field in fields(record)}
        present = dict(zip(found.names, table.columns, strict=True))
        columns = [
            present[field.name].cast(field.type) if field.name in present else pa.array([defaults[field.name]] * len(table), field.type)
            for field in schema
        ]
    # A foreign writer may leave required columns empty; such a file is damaged as a whole.
    nulls = [field.name for field, column in zip(schema, columns, strict=True) if not field.nullable and column.null_count]
    if nulls:
        raise ValueError(f"it lacks values in {', '.join(nulls[:3])}")
    return pa.Table.from_arrays(columns, schema=schema)


def _check_content(table: pa.Table, record: type) -> None:
    """Checks what a checksum would vouch for: texts are UTF-8, settings are JSON objects, and statuses are known.

    Raises:
        ValueError, pa.ArrowException: they are not.
    """
    # Without it, damaged text would be an exception in the middle of a report.
    table.validate(full=True)
    if "settings" in table.column_names:
        for text in pc.unique(table["settings"]).to_pylist():
            try:
                right = isinstance(json.loads(text), dict)
            except (ValueError, RecursionError):
                right = False
            if not right:
                raise ValueError(f"its settings {text[:40]!r} are not a JSON object")
    if record is Row and "status" in table.column_names:
        for status in pc.unique(table["status"]).to_pylist():
            if status not in ("ok", "failed"):
                raise ValueError(f"its status {status[:40]!r} is neither ok nor failed")


def _check_job(table: pa.Table, path: Path) -> None:
    """Raises if a file that is named after a job contains rows of another one."""
    name = path.name.partition(".")[0]
    if "job_id" not in table.column_names or path.name.startswith((MERGED, ".")) or path.parent.name not in ("rows", "series", "timing"):
        return
    others = [job for job in pc.unique(table["job_id"]).to_pylist() if job != name]
    if others:
        raise ValueError(f"it contains rows of the job {others[0]}")


def write_table(table: pa.Table, path: Path, target: Path, jobs: Sequence[str] | None = None, compression_level: int | None = None) -> None:
    """Writes a table as one zstd-compressed Parquet file with a checksum.

    Args:
        table: what to write.
        path: the file to write; it is renamed to `target` afterwards.
        target: the final name.
        jobs: of a merged file, the jobs that it contains, which are listed in its footer.
        compression_level: of zstd; None: its default.

    Raises:
        OSError: the file cannot be written.
    """
    metadata = None if jobs is None else {JOBS_KEY: "\n".join(jobs).encode()}
    table = table.replace_schema_metadata(metadata)
    options = {"compression": "zstd", "compression_level": compression_level}
    # A file of Arrow, which counts what is written beside the writer in the offsets of the pages.
    with pa.OSFile(str(path), "wb") as file, pq.ParquetWriter(file, table.schema, **options) as writer:
        # The writer has written the magic number, and continues after what is in the file.
        file.write(PARQUET_BEGINNING)
        writer.write_table(table)
        # The footer is written when the writer is closed, so this is the last thing before it.
        file.write(PARQUET_TRAILER)
    seal(path, target)

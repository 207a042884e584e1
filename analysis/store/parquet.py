"""Reads a store's Parquet files as Arrow tables: wanted columns alone, and what is damaged or foreign left out and named."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.store.index import version_sentence
from sap_core.records import SCHEMA_VERSION, column_types

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

_VERSION = "schema_version"

Equals = tuple[str, str]
"""A column and the one value of it that is wanted."""


@cache
def arrow_schema(record: type) -> pa.Schema:
    """The Arrow schema of a dataclass of `sap_core.records`."""
    return pa.schema([pa.field(name, _ARROW[kind], nullable=nullable) for name, kind, nullable in column_types(record)])


@cache
def project_schema(record: type, columns: frozenset[str] | None) -> pa.Schema:
    """The schema with the wanted columns alone, in the record's order; None wants all."""
    schema = arrow_schema(record)
    return schema if columns is None else pa.schema([field for field in schema if field.name in columns])


def read_folder(
    folder: Path, record: type, problems: list[str], columns: Collection[str] | None = None, where: Equals | None = None
) -> pa.Table:
    """The readable files of a folder as one table, in the order of their names; what cannot be read becomes a sentence in `problems`.

    Temporary files start with a dot and are passed over, and so is what a job left when it failed once its complete rows are there. A file
    that goes while we read was merged into another (`sap-sweep compact`), which was there before: the folder is listed again, and what was
    read from both is dropped by run later.
    """
    wanted = None if columns is None else frozenset(columns)
    tables, done, before, again = [project_schema(record, wanted).empty_table()], set[str](), [""], True
    while again:
        names = {path.name for path in folder.glob("[!.]*.parquet")}
        superseded = {name.replace(".ok.", ".failed.") for name in names if name.endswith(".ok.parquet")}
        left = sorted(names - superseded - done)
        with ThreadPoolExecutor() as pool:  # Arrow reads without the interpreter's lock
            read = list(pool.map(lambda name: _read_or_say(folder / name, record, wanted, where), left))
        done.update(name for name, result in zip(left, read, strict=True) if result is not None)
        again, before = any(result is None for result in read) and left != before, left
        problems += [result for result in read if isinstance(result, str)]
        tables += [result for result in read if isinstance(result, pa.Table)]
    return pa.concat_tables(tables)


def read_file(path: Path, record: type, columns: frozenset[str] | None = None, where: Equals | None = None) -> pa.Table:
    """One file with exactly the wanted columns of `record`; nullable columns that an older file lacks are null.

    Raises:
        ValueError: it lacks a column that every file must have, has no value where there must be one, or is of another schema version.
        OSError, pa.ArrowException: it is damaged, or a column has another type.
    """
    schema = project_schema(record, columns)
    with pq.ParquetFile(path) as file:
        there = set(file.schema_arrow.names)
        missing = [name for name in _required(record) if name not in there]
        if missing:
            if _VERSION in there:  # of another version of the program, which had other columns
                _refuse_others(file.read([_VERSION], use_threads=False)[_VERSION])
            raise ValueError(f"it is not a table of {record.__name__} records, it lacks {', '.join(missing[:3])}")
        names = [name for name in schema.names if name in there]
        if _VERSION in arrow_schema(record).names and _VERSION not in there:
            raise ValueError(f"it {version_sentence(1)}")
        versions = [_VERSION] if _VERSION not in schema.names and _VERSION in arrow_schema(record).names else []
        table = file.read([*names, *versions], use_threads=False)
    if _VERSION in table.schema.names:
        _refuse_others(table[_VERSION])
    table = _conformed(table, record, schema)
    return table if where is None else table.filter(pc.equal(table[where[0]], where[1]))


def first_line(error: Exception) -> str:
    """The first line of an error's text, without its full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _read_or_say(path: Path, record: type, columns: frozenset[str] | None, where: Equals | None) -> pa.Table | str | None:
    """None for a file that is gone."""
    try:
        return read_file(path, record, columns, where)
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, ValueError) as error:
        return f"The file {path} was left out: {first_line(error)}."


@cache
def _required(record: type) -> Sequence[str]:
    optional = {field.name for field in fields(record) if field.default is not MISSING}
    return tuple(field.name for field in arrow_schema(record) if not field.nullable and field.name not in optional)


def _refuse_others(versions: pa.ChunkedArray) -> None:
    other = next((version for version in pc.unique(versions).to_pylist() if version is not None and version != SCHEMA_VERSION), None)
    if other is not None:
        raise ValueError(f"it {version_sentence(other)}")


def _conformed(table: pa.Table, record: type, schema: pa.Schema) -> pa.Table:
    """The table with the columns and types of `schema`."""
    found = table.schema
    if found.names == schema.names and found.types == schema.types:  # nearly every file: thousands of small ones are read in one go
        columns = table.columns
    else:
        defaults = {field.name: None if field.default is MISSING else field.default for field in fields(record)}
        there = dict(zip(found.names, table.columns, strict=True))
        columns = [
            there[field.name].cast(field.type) if field.name in there else pa.array([defaults[field.name]] * len(table), field.type)
            for field in schema
        ]
    nulls = [field.name for field, column in zip(schema, columns, strict=True) if not field.nullable and column.null_count]
    if nulls:
        raise ValueError(f"it has no value in some lines of {', '.join(nulls[:3])}")
    return pa.Table.from_arrays(columns, schema=schema)

"""Reads stores: what was planned, what came of it, what is missing, and what is wrong with the files.

Everything else in this package works on `Results` and opens no store. Readers serve what is sound: a damaged row file is left out and
named among the problems; only what leaves nothing to report on is the user's error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, lru_cache
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sap_core.errors import UserError
from sap_core.records import SCHEMA_VERSION, Planned, Point, Row, Timing, column_types

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}

SCORES = ("val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "val_clean_r2", "test_r2")


@dataclass(frozen=True, eq=False)
class Results:
    """One or several stores, read as one. Data frames have the columns of `Row` and `Planned`."""

    stores: tuple[Path, ...]
    plan: pd.DataFrame  # one line per planned run, in the plan's order
    rows: pd.DataFrame  # one line per planned run that has a row, with the plan's `cell` and `distinct`
    outside: pd.DataFrame  # rows that no plan names: members of no table
    gaps: pd.DataFrame  # the lines of the plan that have no row
    timings: pd.DataFrame  # jobs that were measured again alone; the columns of `Timing`
    problems: tuple[str, ...]  # sentences, ready to print

    @property
    def debug(self) -> tuple[str, ...]:
        """The names of the debug settings that shrank some of the rows; not empty for a smoke run."""
        return tuple(sorted(self.rows["debug"].dropna().unique()))

    @property
    def raced(self) -> bool:
        """Whether some settings were raced, so that most of them have no scores."""
        return bool((self.plan["evaluation"] == "race").any())


def load(stores: Sequence[Path]) -> Results:
    """Reads the stores as one.

    A run that occurs more than once counts once: ok before failed, then the latest `started_at`.

    Raises:
        UserError: a path is no folder or no store, a plan cannot be read, or a row was written by a newer program.
    """
    problems: list[str] = []
    plans = [_plan(Path(store)) for store in stores]
    tables = [table for store in stores for table in _tables(Path(store) / "rows", Row, problems)]
    timings = [table for store in stores for table in _tables(Path(store) / "timing", Timing, problems)]
    plan = pd.concat([table.to_pandas() for table in plans], ignore_index=True).drop_duplicates("run_id", ignore_index=True)
    found = pa.concat_tables([arrow_schema(Row).empty_table(), *tables]).to_pandas()
    rows = _one_row_per_run(found, problems)
    rows = rows.merge(plan[["run_id", "cell", "distinct"]], on="run_id", how="left", validate="one_to_one")
    planned = rows["run_id"].isin(plan["run_id"])
    outside = rows[~planned].reset_index(drop=True)
    if len(outside):
        problems.append(f"{len(outside)} rows are in no plan and enter no table.")
    return Results(
        stores=tuple(Path(store) for store in stores),
        plan=plan,
        rows=rows[planned].reset_index(drop=True),
        outside=outside,
        gaps=plan[~plan["run_id"].isin(rows["run_id"])].reset_index(drop=True),
        timings=pa.concat_tables([arrow_schema(Timing).empty_table(), *timings]).to_pandas(),
        problems=tuple(problems),
    )


@lru_cache(maxsize=4)
def series(results: Results, name: str) -> pd.DataFrame:
    """The points of one series of all runs, with the columns of `Point`; a damaged file is passed over."""
    problems: list[str] = []
    tables = [table for store in results.stores for table in _tables(store / "series", Point, problems)]
    points = pa.concat_tables([arrow_schema(Point).empty_table(), *tables]).to_pandas()
    return points[points["name"] == name].drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"])


@cache
def arrow_schema(record: type) -> pa.Schema:
    """The Arrow schema of a dataclass of `sap_core.records`."""
    return pa.schema([pa.field(name, _ARROW[kind], nullable=nullable) for name, kind, nullable in column_types(record)])


def _plan(store: Path) -> pa.Table:
    if not store.is_dir():
        raise UserError(f"'{store}' is not a folder; give the results folder of a sweep, such as results/demo")
    path = store / "plan.parquet"
    if not path.is_file():
        raise UserError(f"'{store}' is not a store: it has no plan.parquet; give the results folder of a sweep, such as results/demo")
    try:
        return _conformed(pq.ParquetFile(path).read(), Planned)
    except (OSError, pa.ArrowException, ValueError) as error:
        remedy = "start the sweep again to write it anew"
        raise UserError(f"the plan '{path}' cannot be read ({_first_line(error)}); {remedy}") from error


def _tables(folder: Path, record: type, problems: list[str]) -> Iterable[pa.Table]:
    """The readable files of a folder, in the order of their names; temporary files start with a dot and are passed over.

    A file that goes while we read was merged into another (`sap-sweep compact`), which was there before: the folder is listed again. What
    was read from both is dropped by run later.
    """
    read: set[Path] = set()
    again = True
    while again:
        again = False
        for path in sorted(set(folder.glob("[!.]*.parquet")) - read):
            try:
                table = one_table(path, record)
            except FileNotFoundError:
                again = True
                continue
            except (OSError, pa.ArrowException, ValueError) as error:
                problems.append(f"The file {path} was left out: {_first_line(error)}.")
                read.add(path)
                continue
            read.add(path)
            yield table


def one_table(path: Path, record: type) -> pa.Table:
    """One file of a store under the schema of `record`.

    Raises:
        UserError: a newer program wrote it.
        OSError, pa.ArrowException, ValueError: it cannot be read, or is no such table.
    """
    table = pq.ParquetFile(path).read()
    _refuse_newer(table, path)
    return _conformed(table, record)


def _refuse_newer(table: pa.Table, path: Path) -> None:
    if "schema_version" not in table.column_names:
        return
    newest = max((value for value in table["schema_version"].to_pylist() if value is not None), default=0)
    if newest > SCHEMA_VERSION:
        raise UserError(
            f"'{path}' has schema_version {newest} and this program reads up to {SCHEMA_VERSION}; "
            "update sap-sweep to the version that wrote it"
        )


def _conformed(table: pa.Table, record: type) -> pa.Table:
    """The table with exactly the columns of `record`; nullable columns that an older file lacks are null.

    Raises:
        ValueError: the table lacks a column that every file must have.
        pa.ArrowException: a column has another type.
    """
    schema = arrow_schema(record)
    optional = {field.name for field in fields(record) if field.default is not MISSING} | {field.name for field in schema if field.nullable}
    missing = [name for name in schema.names if name not in table.column_names and name not in optional]
    if missing:
        raise ValueError(f"it is not a table of {record.__name__} records, it lacks {', '.join(missing[:3])}")
    defaults = {field.name: None if field.default is MISSING else field.default for field in fields(record)}
    columns = [
        table[field.name].combine_chunks().cast(field.type)
        if field.name in table.column_names
        else pa.array([defaults[field.name]] * len(table), field.type)
        for field in schema
    ]
    nulls = [field.name for field, column in zip(schema, columns, strict=True) if column.null_count and not field.nullable]
    if nulls:
        raise ValueError(f"it has no value in some lines of {', '.join(nulls[:3])}")
    return pa.table(columns, schema=schema)


def _one_row_per_run(found: pd.DataFrame, problems: list[str]) -> pd.DataFrame:
    again = found[(found["status"] == "ok") & found["run_id"].duplicated(keep=False)]
    if len(again):
        differing = (again.groupby("run_id")[list(SCORES)].nunique() > 1).any(axis=1).sum()
        if differing:
            problems.append(f"{differing} runs are in the store twice with different scores; the later one counts.")
    order = found.assign(is_ok=found["status"] == "ok").sort_values(["is_ok", "started_at"], ascending=False, kind="stable")
    kept = order.drop_duplicates("run_id").sort_index()
    return kept.drop(columns="is_ok").reset_index(drop=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")

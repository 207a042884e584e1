"""Loads one or several stores as data frames: the plan, the rows, the missing rows, the series and the problems found while reading.

All reports work on `Results` and open no files themselves. Loading is tolerant: a damaged or foreign file is skipped and named in
`Results.problems`, and so are a row with an impossible value and a run that is stored with different scores. Only a store with nothing to
report is an error.

A file of rows has about a hundred columns, and a sweep can have a million rows, so commands that need few columns name them (`columns`).
Joining rows with the plan uses Arrow's `index_in` in place of a pandas merge, which takes most of the time in large stores.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.store.index import check_version
from analysis.store.parquet import SCORES, UNREADABLE, arrow_schema, first_line, project_schema, read_file, read_folder
from analysis.store.value_checks import without_damaged
from sap_core.checksum import is_intact
from sap_core.completion import similar_store
from sap_core.errors import UserError
from sap_core.files import DAMAGED
from sap_core.records import Planned, Point, Row, Timing

__all__ = ["Results", "SCORES", "arrow_schema", "load", "series"]

_ALWAYS = frozenset(
    {"run_id", "job_id", "job_type", "method", "space", "seed", "status", "started_at", "debug", "cell", "computation_id", *SCORES}
)
"""Columns that are always read, because `load` and the methods of `Results` need them."""

_MAX_NAMED = 5
"""Number of contradictory runs that are named in a message of their own; the others are counted."""


@dataclass(frozen=True, eq=False)
class Results:
    """The contents of one or several stores. The data frames have the requested columns of `Row` and `Planned`."""

    stores: tuple[Path, ...]
    plan: pd.DataFrame  # one line per planned run, in the plan's order
    rows: pd.DataFrame  # one line per planned run that has a row, with the plan's `cell` and `computation_id`
    unplanned: pd.DataFrame  # rows that are in no plan; no table uses them
    missing: pd.DataFrame  # the lines of the plan that have no row
    timings: pd.DataFrame  # jobs that were timed again on an exclusive device; the columns of `Timing`
    problems: tuple[str, ...]  # sentences to print below a table
    damage: list[str] = field(default_factory=list)  # the problems that are damage to the store; reading a series may append to it

    @property
    def debug(self) -> tuple[str, ...]:
        """The names of the debug settings (such as smoke) under which some of the rows were made."""
        return tuple(sorted(self.rows["debug"].dropna().unique()))


def load(stores: Sequence[Path], columns: Collection[str] | None = None) -> Results:
    """Reads several stores as one.

    A run that is stored more than once counts once: an ok row before a failed one, then the one with the latest `started_at`. If ok rows of
    one run differ in a score, none of them counts, because nothing tells which one is right.

    Args:
        stores: the results folders.
        columns: the columns of rows and plan to read, in addition to those that are always read; all columns if None.

    Raises:
        UserError: a path is not a store, a store has another schema version, or neither plans nor rows can be read.
    """
    paths = tuple(Path(store) for store in stores)
    wanted = None if columns is None else _ALWAYS | set(columns)
    damage: list[str] = []
    # The order of the plan is the order of all tables, and the first store that plans a run determines its place.
    plan = _unique(pa.concat_tables([_plan(store, wanted, damage) for store in paths]))
    # Before duplicates are compared, so that a damaged row cannot win over a sound one of the same run.
    rows = without_damaged(pa.concat_tables([read_folder(store / "rows", Row, damage, wanted) for store in paths]), damage)
    timings = pa.concat_tables([read_folder(store / "timing", Timing, damage) for store in paths])
    damage += [sentence for store in paths for sentence in _damaged_texts(store)]
    # Something was there and cannot be read; an empty store without damage is a sweep that has not begun.
    if not len(plan) and not len(rows) and damage:
        raise UserError(f"{damage[0].rstrip('.')}; there are no rows to report: start the sweep again, which rewrites the plan")
    plan_index = _plan_index(rows, plan)
    # Duplicates are rare (compaction, retries, several stores), and removing them needs pandas.
    if _has_duplicates(rows, plan_index):
        rows = _one_row_per_run(rows, damage)
        plan_index = _plan_index(rows, plan)
    planned = pc.is_valid(plan_index)
    # What is planned and not stored is what tables report as missing.
    stored = np.zeros(len(plan), dtype=bool)
    stored[plan_index.drop_null().to_numpy()] = True
    # Rows of an earlier plan of the same store (a narrower space, other seeds) are no damage.
    unplanned = rows.filter(pc.invert(planned))
    notes = [f"{len(unplanned)} rows are in no plan and are left out of all tables."] if len(unplanned) else []
    for name in ("cell", "computation_id"):
        # The plan, not the row, determines to which cell a run belongs and which settings compute the same.
        rows = rows.append_column(name, plan[name].combine_chunks().take(plan_index))
    return Results(
        stores=paths,
        plan=plan.to_pandas(),
        rows=(rows.filter(planned) if len(unplanned) else rows).to_pandas(),
        unplanned=unplanned.to_pandas(),
        missing=plan.filter(pa.array(~stored)).to_pandas(),
        timings=timings.to_pandas(),
        problems=(*damage, *notes),
        damage=damage,
    )


@lru_cache(maxsize=4)
def series(results: Results, name: str) -> pd.DataFrame:
    """Reads one series of all runs; the columns of `Point`. A damaged file is skipped and named in `results.damage`."""
    damage: list[str] = []
    found = pa.concat_tables([read_folder(store / "series", Point, damage, where=("name", name)) for store in results.stores])
    results.damage.extend(sentence for sentence in damage if sentence not in results.damage)
    # A job that was retried, or is stored both merged and unmerged for a moment, has the same points twice.
    return found.to_pandas().drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"])


@lru_cache(maxsize=8)
def series_by_prefix(results: Results, prefix: str) -> pd.DataFrame:
    """Reads all series whose name starts with `prefix`; the columns of `Point`. Damaged files as in `series`."""
    damage: list[str] = []
    found = pa.concat_tables([read_folder(store / "series", Point, damage) for store in results.stores])
    results.damage.extend(sentence for sentence in damage if sentence not in results.damage)
    points = found.filter(pc.starts_with(found["name"], prefix)).to_pandas()
    return points.drop_duplicates(["run_id", "name", "step"], keep="last", ignore_index=True)


def _plan(store: Path, columns: frozenset[str] | None, damage: list[str]) -> pa.Table:
    if not store.is_dir():
        raise UserError(f"'{store}' is not a folder{similar_store(store)}; give the results folder of a sweep, such as results/demo")
    path = store / "plan.parquet"
    # A folder without a plan is another folder, which is the user's mistake and no damage.
    if not path.is_file():
        raise UserError(
            f"'{store}' is not a store: it has no plan.parquet{similar_store(store)}; "
            "give the results folder of a sweep, such as results/demo"
        )
    # Before the plan is read, so that an older store is refused by its version and not by a missing column.
    check_version(store)
    try:
        return read_file(path, Planned, columns)
    except UNREADABLE as error:
        damage.append(f"The plan '{path}' cannot be read ({first_line(error)}), so its rows are left out of all tables.")
        return project_schema(Planned, columns).empty_table()


def _damaged_texts(store: Path) -> list[str]:
    """A sentence for each damaged text file of the store that reports read: what depends on it is missing from the report."""
    found = []
    for name, what in (("config.yaml", "the methods' default settings are"), ("classes.json", "the names of classes are")):
        if (path := store / name).exists() and not is_intact(path):
            found.append(f"The file {path} was skipped: {DAMAGED}; {what} unknown, and the next start of the sweep writes it again.")
    return found


def _plan_index(rows: pa.Table, plan: pa.Table) -> pa.Array:
    """The index in the plan of each row's run; null for unplanned rows."""
    return pc.index_in(rows["run_id"], value_set=plan["run_id"].combine_chunks()).combine_chunks()


def _has_duplicates(rows: pa.Table, plan_index: pa.Array) -> bool:
    """Whether some run has several rows. Counting integers is cheaper than hashing the ids of a million rows."""
    planned = plan_index.drop_null().to_numpy()
    unplanned = rows["run_id"].filter(pc.is_null(plan_index))
    return bool(len(planned) and np.bincount(planned).max() > 1) or len(unplanned.unique()) < len(unplanned)


def _unique(table: pa.Table) -> pa.Table:
    """The first line of each run, in order."""
    if len(table["run_id"].unique()) == len(table):
        return table
    return table.take(pa.array(np.flatnonzero(~pd.Series(table["run_id"].to_numpy()).duplicated())))


def _one_row_per_run(rows: pa.Table, damage: list[str]) -> pa.Table:
    """Drops duplicates as `load` describes and reports contradictory rows in `damage`."""
    # Only the columns that decide; the rows stay in Arrow.
    found = rows.select(["run_id", "method", "space", "seed", "status", "started_at", *SCORES]).to_pandas()
    duplicates = found[found["run_id"].duplicated(keep=False) & (found["status"] == "ok")]
    # Only ok rows are compared: a failed one has no scores to contradict.
    different = duplicates.groupby("run_id", sort=False)[list(SCORES)].nunique(dropna=False) > 1
    contradictory = different.index[different.any(axis=1)]
    damage += _contradictions(duplicates[duplicates["run_id"].isin(contradictory)])
    # Stable, so that rows with equal times keep the order of their files and every call gives the same result.
    order = found.assign(is_ok=found["status"] == "ok").sort_values(["is_ok", "started_at"], ascending=False, kind="stable")
    kept = order.drop_duplicates("run_id")
    # Sorted back to the order of the files.
    return rows.take(pa.array(np.sort(kept.index[~kept["run_id"].isin(contradictory)].to_numpy())))


def _contradictions(duplicates: pd.DataFrame) -> list[str]:
    """One sentence for each run that is stored with different scores; after the first few only their number."""
    groups = list(duplicates.groupby("run_id", sort=False))
    sentences = []
    for run_id, lines in groups[:_MAX_NAMED]:
        score = next(name for name in SCORES if lines[name].nunique(dropna=False) > 1)
        values = " and ".join(f"{line[score]:.6g} ({line['started_at']})" for _, line in lines.iterrows())
        first = lines.iloc[0]
        space = "" if pd.isna(first["space"]) else f", {first['space']}"
        # With both values and times, from which the wrong file can be recognised.
        sentences.append(
            f"Run {run_id} ({first['method']}{space}, seed {first['seed']}) is stored with different scores, "
            f"{score} {values}; both are left out and the row counts as missing: delete the wrong file."
        )
    # Many contradictions usually have one cause, for which the first few are enough.
    more = len(groups) - _MAX_NAMED
    return [*sentences, *([f"{more} more runs are stored with different scores and are left out."] if more > 0 else [])]

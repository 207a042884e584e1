"""Reads stores: what was planned, what came of it, what is missing, and what is wrong with the files.

Everything else in this package works on `Results` and opens no store. Readers serve what is sound: a damaged or foreign file is left out
and named among the problems, and so are runs that are stored twice with different scores; only what leaves nothing to report on is the
user's error.
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
from analysis.store.parquet import arrow_schema, first_line, project_schema, read_file, read_folder
from sap_core.errors import UserError
from sap_core.records import Planned, Point, Row, Timing

__all__ = ["Results", "SCORES", "arrow_schema", "load", "series"]

SCORES = ("val_noisy_acc", "val_clean_acc", "test_acc", "val_noisy_r2", "val_clean_r2", "test_r2")

_ALWAYS = frozenset(
    {"run_id", "job_id", "job_type", "method", "space", "seed", "status", "started_at", "debug", "cell", "computation_id", *SCORES}
)
"""Columns that are read whatever is asked for: the questions of `Results` and of `load` itself are about them."""

_NAMED = 5
"""So many runs that disagree are named; the others are counted."""


@dataclass(frozen=True, eq=False)
class Results:
    """One or several stores, read as one. Data frames have the columns of `Row` and `Planned` (those that were asked for)."""

    stores: tuple[Path, ...]
    plan: pd.DataFrame  # one line per planned run, in the plan's order
    rows: pd.DataFrame  # one line per planned run that has a row, with the plan's `cell` and `distinct`
    unplanned: pd.DataFrame  # rows that no plan names: members of no table
    missing: pd.DataFrame  # the lines of the plan that have no row
    timings: pd.DataFrame  # jobs that were measured again alone; the columns of `Timing`
    problems: tuple[str, ...]  # sentences, ready to print
    damage: list[str] = field(default_factory=list)  # those of them that say that the store is not sound; series add to them when read

    @property
    def debug(self) -> tuple[str, ...]:
        """The names of the debug settings that shrank some of the rows; not empty for a smoke run."""
        return tuple(sorted(self.rows["debug"].dropna().unique()))


def load(stores: Sequence[Path], columns: Collection[str] | None = None) -> Results:
    """Reads the stores as one; of rows and plan the given columns (and a few that are always read), or all.

    A run that occurs more than once counts once: ok before failed, then the latest `started_at`. Ok rows of one run whose scores differ
    count not at all: nobody can say which is right.

    Raises:
        UserError: a path is no folder or no store, a store is of another schema version, or neither a plan nor rows can be read.
    """
    paths = tuple(Path(store) for store in stores)
    wanted = None if columns is None else _ALWAYS | set(columns)
    damage: list[str] = []
    plan = _unique(pa.concat_tables([_plan(store, wanted, damage) for store in paths]))
    rows = pa.concat_tables([read_folder(store / "rows", Row, damage, wanted) for store in paths])
    timings = pa.concat_tables([read_folder(store / "timing", Timing, damage) for store in paths])
    if not len(plan) and not len(rows) and damage:
        raise UserError(f"{damage[0].rstrip('.')}; nothing is left to report on: start the sweep again to write it anew")
    place = _places(rows, plan)
    if _twice(rows, place):
        rows = _one_row_per_run(rows, damage)
        place = _places(rows, plan)
    planned = pc.is_valid(place)
    there = np.zeros(len(plan), dtype=bool)
    there[place.drop_null().to_numpy()] = True
    unplanned = rows.filter(pc.invert(planned))
    stray = [f"{len(unplanned)} rows are in no plan and enter no table."] if len(unplanned) else []
    for name in ("cell", "computation_id"):
        rows = rows.append_column(name, plan[name].combine_chunks().take(place))
    return Results(
        stores=paths,
        plan=plan.to_pandas(),
        rows=(rows.filter(planned) if len(unplanned) else rows).to_pandas(),
        unplanned=unplanned.to_pandas(),
        missing=plan.filter(pa.array(~there)).to_pandas(),
        timings=timings.to_pandas(),
        problems=(*damage, *stray),
        damage=damage,
    )


@lru_cache(maxsize=4)
def series(results: Results, name: str) -> pd.DataFrame:
    """The points of one series of all runs, with the columns of `Point`; a damaged file is left out and said in `results.damage`."""
    damage: list[str] = []
    found = pa.concat_tables([read_folder(store / "series", Point, damage, where=("name", name)) for store in results.stores])
    results.damage.extend(sentence for sentence in damage if sentence not in results.damage)
    return found.to_pandas().drop_duplicates(["run_id", "step"], keep="last").sort_values(["run_id", "step"])


@lru_cache(maxsize=8)
def series_by_prefix(results: Results, prefix: str) -> pd.DataFrame:
    """The points of all series whose name begins with `prefix`, with the columns of `Point`; a damaged file is left out and said."""
    damage: list[str] = []
    found = pa.concat_tables([read_folder(store / "series", Point, damage) for store in results.stores])
    results.damage.extend(sentence for sentence in damage if sentence not in results.damage)
    points = found.filter(pc.starts_with(found["name"], prefix)).to_pandas()
    return points.drop_duplicates(["run_id", "name", "step"], keep="last", ignore_index=True)


def _plan(store: Path, columns: frozenset[str] | None, damage: list[str]) -> pa.Table:
    if not store.is_dir():
        raise UserError(f"'{store}' is not a folder; give the results folder of a sweep, such as results/demo")
    path = store / "plan.parquet"
    if not path.is_file():
        raise UserError(f"'{store}' is not a store: it has no plan.parquet; give the results folder of a sweep, such as results/demo")
    check_version(store)
    try:
        return read_file(path, Planned, columns)
    except (OSError, pa.ArrowException, ValueError) as error:
        damage.append(f"The plan '{path}' cannot be read ({first_line(error)}), so its rows enter no table.")
        return project_schema(Planned, columns).empty_table()


def _places(rows: pa.Table, plan: pa.Table) -> pa.Array:
    """The line of the plan that each row is of; null where there is none."""
    return pc.index_in(rows["run_id"], value_set=plan["run_id"].combine_chunks()).combine_chunks()


def _twice(rows: pa.Table, place: pa.Array) -> bool:
    """Whether some run has several rows."""
    planned = place.drop_null().to_numpy()
    stray = rows["run_id"].filter(pc.is_null(place))
    return bool(len(planned) and np.bincount(planned).max() > 1) or len(stray.unique()) < len(stray)


def _unique(table: pa.Table) -> pa.Table:
    """The first line of each run."""
    if len(table["run_id"].unique()) == len(table):
        return table
    return table.take(pa.array(np.flatnonzero(~pd.Series(table["run_id"].to_numpy()).duplicated())))


def _one_row_per_run(rows: pa.Table, damage: list[str]) -> pa.Table:
    """Ok before failed, then the latest; ok rows that differ in a score are all left out, and said."""
    found = rows.select(["run_id", "method", "space", "seed", "status", "started_at", *SCORES]).to_pandas()
    again = found[found["run_id"].duplicated(keep=False) & (found["status"] == "ok")]
    different = again.groupby("run_id", sort=False)[list(SCORES)].nunique(dropna=False) > 1
    disputed = different.index[different.any(axis=1)]
    damage += _disagreements(again[again["run_id"].isin(disputed)])
    order = found.assign(is_ok=found["status"] == "ok").sort_values(["is_ok", "started_at"], ascending=False, kind="stable")
    kept = order.drop_duplicates("run_id")
    return rows.take(pa.array(np.sort(kept.index[~kept["run_id"].isin(disputed)].to_numpy())))


def _disagreements(again: pd.DataFrame) -> list[str]:
    """A sentence for each run that is stored with different scores; beyond the first few their number."""
    groups = list(again.groupby("run_id", sort=False))
    said = []
    for run_id, lines in groups[:_NAMED]:
        score = next(name for name in SCORES if lines[name].nunique(dropna=False) > 1)
        values = " and ".join(f"{line[score]:.6g} ({line['started_at']})" for _, line in lines.iterrows())
        first = lines.iloc[0]
        space = "" if pd.isna(first["space"]) else f", {first['space']}"
        said.append(
            f"Run {run_id} ({first['method']}{space}, seed {first['seed']}) is stored with different scores, "
            f"{score} {values}: none counts, "
            "its place is a gap; delete the file that is wrong."
        )
    more = len(groups) - _NAMED
    return [*said, *([f"{more} more runs are stored with different scores; none counts."] if more > 0 else [])]

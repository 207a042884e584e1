"""Conditions on the fields of cells, searches and settings, by which the entries of described tables are found in a store."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.store.results import CellResult, SearchResult

CELL_FIELDS = (
    "dataset",
    "noise",
    "noise_rate",
    "network",
    "trainer",
    "pruner",
    "keep_fraction",
    "warmup_trainer",
    "stage",
    "tuned",
    "pruned",
    "cell",
)
"""Fields that identify a cell of the sweep."""

SEARCH_FIELDS = ("method", "space", "search", "search_budget", "search_seed")
"""Fields that identify a search within a cell."""


def cell_fields(cell: CellResult, line: pd.Series) -> dict[str, Any]:
    """The fields of a cell. Those that the plan lacks are taken from its first row, or parsed from its name while it has none."""
    found = {name: _plain(line[name]) for name in ("dataset", "noise", "noise_rate", "network", "trainer")}
    found |= {"tuned": bool(cell.methods), "cell": cell.name}
    if len(cell.rows):
        baselines = cell.rows[cell.rows["job_type"] == "train"]
        # The baseline's row states how the network was trained; a cell may have rows of corrections alone.
        row = (baselines if len(baselines) else cell.rows).iloc[0]
        found |= {name: _plain(row[name]) for name in ("pruner", "keep_fraction", "warmup_trainer", "stage")}
    else:
        # A planned cell without rows still has a place in the table, as a gap.
        found |= _from_name(cell.name, found["trainer"])
    return {**found, "pruned": found["pruner"] is not None}


def _from_name(name: str, trainer: Any) -> dict[str, Any]:
    """Parses `dataset/noise/network/trainer[/PRUNER-FRACTION][/warmup-TRAINER][/STAGE]`; the trainer warms up unless another is named."""
    found: dict[str, Any] = dict.fromkeys(("pruner", "keep_fraction", "warmup_trainer", "stage"))
    # The name is the only source before the first row is stored; `Cell.name` of the sweeper builds it.
    for part in name.split("/")[4:]:
        pruner, _, keep = part.rpartition("-")
        # The order of the parts is that in which `Cell.name` writes them.
        if part.startswith("warmup-") and found["pruner"]:
            found["warmup_trainer"] = part.removeprefix("warmup-")
        elif pruner and keep.replace(".", "", 1).isdigit():
            found |= {"pruner": pruner, "keep_fraction": float(keep), "warmup_trainer": trainer}
        else:
            found["stage"] = part
    return found


def _plain(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA else value


def satisfies(fields: Mapping[str, Any], conditions: Mapping[str, object], of: Sequence[str], without: str = "") -> bool:
    """Whether the fields named in `of`, except `without`, equal the conditions on them."""
    # Conditions on fields of another kind are left to the lookup that knows them.
    return all(equal(fields.get(name), value) for name, value in conditions.items() if name in of and name in fields and name != without)


def equal(one: object, other: object) -> bool:
    """Whether a stored value satisfies a condition."""
    # True == 1 in Python, but a flag is no number.
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        # A computed 0.30000000000000004 is to equal a written 0.3.
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def field_values(field: str, method: str, space: str | None, searches: Sequence[SearchResult]) -> list[Any]:
    """The values of a field in the searches of one method: from the planned settings if it is a hyperparameter, otherwise from the rows."""
    if field == "method":
        return [method]
    if field == "space":
        return [space]
    in_settings = [setting[field] for setting in searches[0].settings if field in setting]
    # A hyperparameter takes precedence over a column of the same name.
    if in_settings or field not in searches[0].rows:
        return [value for value in in_settings if isinstance(value, str | int | float | bool)]
    found = [_plain(value) for search in searches for value in search.rows[field].unique()]
    return [value for value in found if value is not None] or found


def restrict(search: SearchResult, conditions: Mapping[str, object]) -> SearchResult:
    """Restricts a search to the settings that satisfy the conditions on hyperparameters and on columns of the rows."""
    # The planned settings are restricted as well as the rows, so that a missing row still counts as missing.
    hyper = {name for setting in search.settings for name in setting}
    planned = search.planned[
        [all(equal(setting.get(name), value) for name, value in conditions.items() if name in hyper) for setting in search.settings]
    ]
    rows = search.rows[search.rows["run_id"].isin(planned["run_id"])]
    for name, value in conditions.items():
        if name in hyper:
            continue
        # No setting can satisfy a condition on a field that the search does not have.
        if name not in search.planned and name not in search.rows:
            return replace(search, planned=planned[:0], rows=rows[:0])
        # A column of the plan is known for every setting, one of the rows only for those that have run.
        source = planned if name in planned else rows
        # dtype=bool also for an empty source, where a list would select columns
        kept = source[np.array([equal(_plain(stored), value) for stored in source[name]], dtype=bool)]["run_id"]
        rows = rows[rows["run_id"].isin(kept)]
        planned = planned[planned["run_id"].isin(kept)]
    return replace(search, planned=planned, rows=rows.reset_index(drop=True))

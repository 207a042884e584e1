"""Finds the numbers behind a cell of a described table in a store, seed by seed. Conditions on fields single the cell out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from analysis.store.load import Results, series
from analysis.store.results import CellResult, SearchResult, baseline_cells, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import Choice
from analysis.store.stats import Summary, summarise
from analysis.tables.values import ROW_FIELDS, Chosen, value_of
from sap_core.errors import UserError, unknown
from sap_core.records import VANILLA

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
SEARCH_FIELDS = ("method", "space", "search", "search_budget", "search_seed")


@dataclass(frozen=True)
class SeedValue:
    """One seed's number, as stored, and the choice behind it; `search` is None for the unmodified model."""

    seed: int
    search: SearchResult | None
    choice: Choice
    value: float | None


@dataclass(frozen=True)
class CellNumbers:
    """The numbers of one table cell: one method in one space on the seeds of one cell of the sweep."""

    cell: CellResult
    method: str
    space: str | None
    values: tuple[SeedValue, ...]
    other_spaces: tuple[str, ...] = ()  # of the same method in the same cell, that the conditions allow, too

    @property
    def summary(self) -> Summary:
        return summarise(one.value for one in self.values)

    @property
    def missing_settings(self) -> int:
        return sum(one.search.missing for one in self.values if one.search is not None)

    @property
    def has_gaps(self) -> bool:
        """Whether a seed or a planned setting has no row, or nothing was chosen on a seed."""
        rows = [one.choice.row for one in self.values]
        lost = len(rows) < len(self.cell.baselines)
        return lost or self.missing_settings > 0 or any(row is None or row["status"] != "ok" for row in rows)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(one.seed for one in self.values)


class StoreLookup:
    """Answers conditions from a store, under one policy of selection."""

    def __init__(self, results: Results, policy: Policy) -> None:
        self.policy = policy
        self.results = results
        tuned = cells(results)
        self.cells = (*tuned, *baseline_cells(results, without=[cell.name for cell in tuned]))
        lines = results.plan.drop_duplicates("cell").set_index("cell")
        self._about = {cell.name: _about(cell, lines.loc[[cell.name]].iloc[0]) for cell in self.cells}
        self._chosen: dict[tuple[Any, ...], tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None] = {}
        self._last: dict[str, dict[str, float]] = {}

    def check(self, conditions: Iterable[str], where: str) -> None:
        """Refuses fields that no row has.

        Raises:
            UserError: one of them is neither a column nor a hyperparameter of a planned method.
        """
        hyper = {name for cell in self.cells for searches in cell.methods.values() for name in (searches[0].settings or ({},))[0]}
        known = [*CELL_FIELDS, *SEARCH_FIELDS, *sorted(hyper), *(name for name in ROW_FIELDS if name not in hyper)]
        for name in conditions:
            if name not in known:
                raise unknown("field", name, dict.fromkeys(known), where)

    def values(self, field: str, conditions: Mapping[str, object]) -> list[Any]:
        """Every value of a field in the plan where the other conditions hold, in the plan's order."""
        found: dict[Any, None] = {}
        for cell in self._cells(conditions, without=field):
            if field in CELL_FIELDS:
                found[self._about[cell.name][field]] = None
                continue
            if field == "method":
                found[VANILLA] = None
            for (method, space), searches in cell.methods.items():
                if _holds({"method": method, "space": space}, conditions, SEARCH_FIELDS, without=field):
                    found |= dict.fromkeys(_of_searches(field, method, space, searches))
        return list(found)

    def find(self, conditions: Mapping[str, object], value: str, rule: str = "") -> CellNumbers | None:
        """The numbers of the cell that the conditions single out; None when nothing of the kind is planned.

        Args:
            conditions: values of fields.
            value: the value's name, see `analysis.tables.values`.
            rule: the rule of selection; the policy's own where empty.

        Raises:
            UserError: the conditions leave more than one cell of the sweep.
        """
        matching = self._cells(conditions)
        if len(matching) > 1:
            names = ", ".join(cell.name for cell in matching[:3])
            told = ", ".join(f"{name}={told}" for name, told in conditions.items())
            raise UserError(
                f"a cell of the table ({told}) means {len(matching)} cells of the store ({names}); add a condition that tells them apart"
            )
        if not matching:
            return None
        cell, policy = matching[0], replace(self.policy, rule=rule) if rule else self.policy

        def seed_value(seed: int, search: SearchResult | None, choice: Choice) -> SeedValue:
            kept = search is None or choice.kept
            chosen = Chosen(search, choice.row, kept, cell.measure, policy.rule)
            return SeedValue(seed, search, choice, value_of(value, chosen, self._last_point))

        if conditions.get("method", VANILLA) == VANILLA:
            unmodified = tuple(seed_value(one.seed, None, Choice(one.row, kept=True)) for one in cell.baselines)
            return CellNumbers(cell, VANILLA, None, unmodified)
        spaces = [key for key in cell.methods if _holds(dict(zip(("method", "space"), key, strict=True)), conditions, ("method", "space"))]
        there = [(key, taken) for key in spaces if (taken := self._select(cell, key, conditions, policy)) is not None]
        if not there:
            return None
        (method, space), (searches, choices) = there[0]
        found = tuple(seed_value(search.seed, search, choice) for search, choice in zip(searches, choices, strict=True))
        return CellNumbers(cell, method, space, found, tuple(str(key[1]) for key, _ in there[1:]))

    def span(self, conditions: Mapping[str, object], column: str) -> list[float]:
        """Smallest and largest of a column over the rows of all cells and searches that the conditions allow; empty when there is none."""
        values: list[float] = []
        for cell in self._cells(conditions):
            for (method, space), searches in cell.methods.items():
                if _holds({"method": method, "space": space}, conditions, ("method", "space")):
                    values += [float(value) for search in searches for value in search.rows[column].dropna()]
        return [min(values), max(values)] if values else []

    def has(self, conditions: Mapping[str, object], column: str) -> bool:
        """Whether some row of the cells that the conditions allow has a number in `column`."""
        return any(bool(cell.rows[column].notna().any()) for cell in self._cells(conditions))

    def _cells(self, conditions: Mapping[str, object], without: str = "") -> list[CellResult]:
        # networks that are trained for a pruner to look at are shown where a condition on `stage` asks for them
        full = conditions if "stage" in conditions else {**conditions, "stage": None}
        return [cell for cell in self.cells if _holds(self._about[cell.name], full, CELL_FIELDS, without)]

    def _select(
        self, cell: CellResult, key: tuple[str, str | None], conditions: Mapping[str, object], policy: Policy
    ) -> tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None:
        """The searches of a method, cut to the settings that the conditions allow, and what they chose; None when no setting is left."""
        asked = {name: value for name, value in conditions.items() if name not in (*CELL_FIELDS, "method", "space")}
        place = (cell.name, *key, tuple(asked.items()), policy)
        if place not in self._chosen:
            cut = tuple(_cut(search, asked) for search in cell.methods[key]) if asked else cell.methods[key]
            cut = tuple(search for search in cut if len(search.planned))
            self._chosen[place] = (cut, select(cut, policy)) if cut else None
        return self._chosen[place]

    def _last_point(self, name: str, run_id: str) -> float | None:
        if name not in self._last:
            points = series(self.results, name)  # ordered by run and step
            self._last[name] = dict(zip(points["run_id"], points["value"], strict=True))
        return self._last[name].get(run_id)


def _about(cell: CellResult, line: pd.Series) -> dict[str, Any]:
    """The fields of a cell; what its plan does not say is read from its first row, or from its name while it has none."""
    about = {name: _plain(line[name]) for name in ("dataset", "noise", "noise_rate", "network", "trainer")}
    about |= {"tuned": bool(cell.methods), "cell": cell.name}
    if len(cell.rows):
        baselines = cell.rows[cell.rows["job_type"] == "train"]
        row = (baselines if len(baselines) else cell.rows).iloc[0]
        about |= {name: _plain(row[name]) for name in ("pruner", "keep_fraction", "warmup_trainer", "stage")}
    else:
        about |= _from_name(cell.name, about["trainer"])
    return {**about, "pruned": about["pruner"] is not None}


def _from_name(name: str, trainer: Any) -> dict[str, Any]:
    """The pruner, the fraction it keeps, its warm-up trainer and the stage, from `dataset/noise/network/trainer[/PRUNER-KEEP][/warm-TRAINER][/STAGE]`."""
    about: dict[str, Any] = dict.fromkeys(("pruner", "keep_fraction", "warmup_trainer", "stage"))
    for part in name.split("/")[4:]:
        pruner, _, keep = part.rpartition("-")
        if part.startswith("warm-") and about["pruner"]:
            about["warmup_trainer"] = part.removeprefix("warm-")
        elif pruner and keep.replace(".", "", 1).isdigit():
            about |= {"pruner": pruner, "keep_fraction": float(keep), "warmup_trainer": trainer}  # unless a warm-TRAINER follows
        else:
            about["stage"] = part
    return about


def _plain(value: Any) -> Any:
    return None if value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA else value


def _holds(about: Mapping[str, Any], conditions: Mapping[str, object], of: Sequence[str], without: str = "") -> bool:
    return all(_equal(about.get(name), value) for name, value in conditions.items() if name in of and name in about and name != without)


def _equal(one: object, other: object) -> bool:
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-9)
    return one == other


def _of_searches(field: str, method: str, space: str | None, searches: Sequence[SearchResult]) -> list[Any]:
    """The values of a field in the searches of one method: as planned where it is a hyperparameter, else as in the rows."""
    if field == "method":
        return [method]
    if field == "space":
        return [space]
    in_settings = [setting[field] for setting in searches[0].settings if field in setting]
    if in_settings or field not in searches[0].rows:
        return [value for value in in_settings if isinstance(value, str | int | float | bool)]
    found = [_plain(value) for search in searches for value in search.rows[field].unique()]
    return [value for value in found if value is not None] or found


def _cut(search: SearchResult, asked: Mapping[str, object]) -> SearchResult:
    """The search with the settings alone that the conditions allow: hyperparameters as planned, other fields as in the rows."""
    hyper = {name for setting in search.settings for name in setting}
    planned = search.planned[
        [all(_equal(setting.get(name), value) for name, value in asked.items() if name in hyper) for setting in search.settings]
    ]
    rows = search.rows[search.rows["run_id"].isin(planned["run_id"])]
    for name, value in asked.items():
        if name in hyper:
            continue
        if name not in search.planned and name not in search.rows:
            return replace(search, planned=planned[:0], rows=rows[:0])
        source = planned if name in planned else rows
        # a mask of booleans even where the source is empty, which a list would not be
        kept = source[np.array([_equal(_plain(there), value) for there in source[name]], dtype=bool)]["run_id"]
        rows = rows[rows["run_id"].isin(kept)]
        planned = planned[planned["run_id"].isin(kept)]
    return replace(search, planned=planned, rows=rows.reset_index(drop=True))

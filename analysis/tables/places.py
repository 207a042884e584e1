"""What a store says about one place of a table: the numbers behind it, seed by seed. Conditions on fields single the place out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pandas as pd

from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import Choice, score_column
from analysis.store.stats import Summary, summarise
from analysis.tuning.cost import exclusive_device
from sap_core.errors import UserError, unknown
from sap_core.records import VANILLA, Row

CELL_FIELDS = ("dataset", "noise", "noise_rate", "network", "trainer", "pruner", "keep_fraction", "warmup_trainer", "cell")
SEARCH_FIELDS = ("method", "space", "search", "search_budget", "search_seed")
_ROW_FIELDS = tuple(item.name for item in fields(Row))

COMPUTE_VALUES = ("gain", "kept", "settings", "optimism")
SUMMED = "search_"
"""`search_flops`: the column added up over all settings of the search."""

CHOSEN = "chosen."
"""`chosen.alpha`: a hyperparameter of the chosen setting."""


@dataclass(frozen=True)
class Pick:
    """One seed behind a place: what was chosen and the number that it gives (as stored); `search` is None for the unmodified model."""

    seed: int
    search: SearchResult | None
    choice: Choice
    value: float | None


@dataclass(frozen=True)
class Found:
    """What stands in one place: one method in one space on the seeds of one cell."""

    cell: CellResult
    method: str
    space: str | None
    picks: tuple[Pick, ...]
    other_spaces: tuple[str, ...] = ()  # of the same method in the same cell, that the conditions allow, too

    @property
    def summary(self) -> Summary:
        return summarise(pick.value for pick in self.picks)

    @property
    def missing_settings(self) -> int:
        return sum(pick.search.missing for pick in self.picks if pick.search is not None)

    @property
    def has_gaps(self) -> bool:
        """Whether a seed or a planned setting has no row, or nothing was chosen on a seed."""
        rows = [pick.choice.row for pick in self.picks]
        return self.missing_settings > 0 or any(row is None or row["status"] != "ok" for row in rows)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(pick.seed for pick in self.picks)


class Finder:
    """Answers conditions from a store, under one policy of selection."""

    def __init__(self, results: Results, policy: Policy) -> None:
        self.policy = policy
        self.cells = cells(results)
        lines = results.plan.drop_duplicates("cell").set_index("cell")
        self._about = {cell.name: _about(cell, lines.loc[[cell.name]].iloc[0]) for cell in self.cells}
        self._chosen: dict[tuple[Any, ...], tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None] = {}

    def check(self, conditions: Iterable[str], where: str) -> None:
        """Refuses fields that no row has.

        Raises:
            UserError: one of them is neither a column nor a hyperparameter of a planned method.
        """
        hyper = {name for cell in self.cells for searches in cell.methods.values() for name in (searches[0].settings or ({},))[0]}
        known = [*CELL_FIELDS, *SEARCH_FIELDS, *sorted(hyper), *(name for name in _ROW_FIELDS if name not in hyper)]
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
                    for value in _of_search(field, method, space, searches[0]):
                        found[value] = None
        return list(found)

    def find(self, conditions: Mapping[str, object], value: str) -> Found | None:
        """The place's numbers; None when nothing of the kind is planned.

        Raises:
            UserError: the conditions leave more than one cell, or `value` is not known.
        """
        matching = self._cells(conditions)
        if len(matching) > 1:
            names = ", ".join(cell.name for cell in matching[:3])
            told = ", ".join(f"{name}={told}" for name, told in conditions.items())
            raise UserError(
                f"a place of the table ({told}) means {len(matching)} cells of the store ({names}); add a condition that tells them apart"
            )
        if not matching:
            return None
        cell = matching[0]
        if conditions.get("method", VANILLA) == VANILLA:
            picks = tuple(
                Pick(baseline.seed, None, Choice(baseline.row, kept=True), _value(value, cell.measure, None, baseline.row, self.policy))
                for baseline in cell.baselines
            )
            return Found(cell, VANILLA, None, picks)
        spaces = [key for key in cell.methods if _holds(dict(zip(("method", "space"), key, strict=True)), conditions, ("method", "space"))]
        there = [(key, taken) for key in spaces if (taken := self._select(cell, key, conditions)) is not None]
        if not there:
            return None
        (method, space), (searches, choices) = there[0]
        picks = tuple(
            Pick(search.seed, search, choice, _value(value, cell.measure, search, choice.row, self.policy, choice.kept))
            for search, choice in zip(searches, choices, strict=True)
        )
        return Found(cell, method, space, picks, tuple(str(key[1]) for key, _ in there[1:]))

    def span(self, conditions: Mapping[str, object], column: str) -> list[float]:
        """Smallest and largest of a column over the rows of all cells and searches that the conditions allow; empty when there is none."""
        values: list[float] = []
        for cell in self._cells(conditions):
            for (method, space), searches in cell.methods.items():
                if _holds({"method": method, "space": space}, conditions, ("method", "space")):
                    values += [float(value) for search in searches for value in search.rows[column].dropna()]
        return [min(values), max(values)] if values else []

    def _cells(self, conditions: Mapping[str, object], without: str = "") -> list[CellResult]:
        return [cell for cell in self.cells if _holds(self._about[cell.name], conditions, CELL_FIELDS, without)]

    def _select(
        self, cell: CellResult, key: tuple[str, str | None], conditions: Mapping[str, object]
    ) -> tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None:
        """The searches of a method, cut to the settings that the conditions allow, and what they chose; None when no setting is left."""
        asked = {name: value for name, value in conditions.items() if name not in (*CELL_FIELDS, "method", "space")}
        place = (cell.name, *key, tuple(asked.items()))
        if place not in self._chosen:
            cut = tuple(_cut(search, asked) for search in cell.methods[key]) if asked else cell.methods[key]
            cut = tuple(search for search in cut if len(search.planned))
            self._chosen[place] = (cut, select(cut, self.policy)) if cut else None
        return self._chosen[place]


def _about(cell: CellResult, line: pd.Series) -> dict[str, Any]:
    about = {name: _plain(line[name]) for name in ("dataset", "noise", "noise_rate", "network", "trainer")}
    row = cell.rows.iloc[0] if len(cell.rows) else None
    return {**about, **{name: None if row is None else _plain(row[name]) for name in ("pruner", "keep_fraction", "warmup_trainer")}, "cell": cell.name}


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


def _of_search(field: str, method: str, space: str | None, search: SearchResult) -> list[Any]:
    if field == "method":
        return [method]
    if field == "space":
        return [space]
    in_settings = [setting[field] for setting in search.settings if field in setting]
    if in_settings or field not in search.rows:
        return [value for value in in_settings if isinstance(value, str | int | float | bool)]
    return [_plain(value) for value in search.rows[field].unique()]


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
        kept = source[[_equal(_plain(there), value) for there in source[name]]]["run_id"]
        rows = rows[rows["run_id"].isin(kept)]
        planned = planned[planned["run_id"].isin(kept)]
    return replace(search, planned=planned, rows=rows.reset_index(drop=True))


def check_value(value: str, where: str) -> None:
    """Refuses values that no place can show.

    Raises:
        UserError: `value` is not known.
    """
    numeric = [
        name
        for name in _ROW_FIELDS
        if name.endswith(("_acc", "_r2", "_seconds", "_precision", "_bytes")) or name.startswith(("num_", "flops", "sample_"))
    ]
    known = [*COMPUTE_VALUES, *numeric]
    if value.startswith(CHOSEN) or value in _ROW_FIELDS or value in COMPUTE_VALUES:
        return
    if not (value.startswith(SUMMED) and value.removeprefix(SUMMED) in _ROW_FIELDS):
        raise unknown("value", value, [*known, "search_COLUMN", "chosen.HYPERPARAMETER"], where)


def _value(value: str, measure: str, search: SearchResult | None, row: pd.Series | None, policy: Policy, kept: bool = True) -> float | None:
    """The number, as stored; None when there is none."""
    if value == "settings":
        return None if search is None else float(len(search.planned))
    if row is None or row["status"] != "ok":
        return None
    if value == "kept":
        return None if search is None else float(kept)
    if value == "optimism":
        return _minus(row[score_column(policy.rule, measure)], row[score_column("test_oracle", measure)])
    if value == "gain":
        column = score_column("test_oracle", measure)
        before = row if search is None else search.vanilla
        return None if before is None else _minus(row[column], before[column])
    if value.startswith(CHOSEN):
        setting = {} if search is None or kept else json.loads(row["settings"])
        found = setting.get(value.removeprefix(CHOSEN))
        return float(found) if isinstance(found, int | float) else None
    column = value.removeprefix(SUMMED) if value.startswith(SUMMED) else value
    rows = row.to_frame().T if search is None else search.rows
    if column.endswith("_seconds") and not exclusive_device(rows):
        return None
    summed = value.startswith(SUMMED) and search is not None
    return _number(pd.to_numeric(rows[column], errors="coerce").sum(min_count=1) if summed else row[column])


def _minus(one: Any, other: Any) -> float | None:
    first, second = _number(one), _number(other)
    return None if first is None or second is None else first - second


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number

"""Finds the numbers of an entry of a described table in a store, by seed, from conditions on fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from analysis.store.labels import plain
from analysis.store.load import Results, series
from analysis.store.results import CellResult, SearchResult, baseline_cells, cells
from analysis.store.selection_policy import Policy, select
from analysis.store.selection_rule import Choice
from analysis.store.stats import Summary, number_of, summarise
from analysis.tables.conditions import CELL_FIELDS, SEARCH_FIELDS, cell_fields, equal, field_values, restrict, satisfies
from analysis.tables.values import ALWAYS_SCORED, ROW_FIELDS, ChosenRun, value_of
from sap_core.errors import UserError, unknown
from sap_core.records import VANILLA


@dataclass(frozen=True)
class SeedValue:
    """The number of one seed, as stored, and the choice that it belongs to; `search` is None for the unmodified model."""

    seed: int
    search: SearchResult | None
    choice: Choice
    value: float | None


@dataclass(frozen=True)
class CellNumbers:
    """The numbers of one table entry: one method over one space on the seeds of one cell of the sweep."""

    cell: CellResult
    method: str
    space: str | None
    values: tuple[SeedValue, ...]
    other_spaces: tuple[str, ...] = ()  # further spaces of the method that satisfy the conditions
    is_score: bool = False  # whether every stored row has a number, unless it is missing

    @property
    def summary(self) -> Summary:
        """Mean and sample standard deviation over the seeds."""
        return summarise(one.value for one in self.values)

    @property
    def missing_settings(self) -> int:
        """The number of planned settings without a row, over all seeds."""
        return sum(one.search.missing for one in self.values if one.search is not None)

    @property
    def incomplete(self) -> bool:
        """Whether a seed or a planned setting has no row or no score, or no setting could be selected on a seed."""
        rows = [one.choice.row for one in self.values]
        fewer_seeds = len(rows) < len(self.cell.baselines)
        no_score = self.is_score and any(one.value is None for one in self.values)
        return fewer_seeds or no_score or self.missing_settings > 0 or any(row is None or row["status"] != "ok" for row in rows)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the plan."""
        return tuple(one.seed for one in self.values)


class StoreLookup:
    """Looks up numbers in a store under one selection policy."""

    def __init__(self, results: Results, policy: Policy) -> None:
        self.policy = policy
        self.results = results
        tuned = cells(results)
        # a store may contain cells in which nothing was tuned, such as networks trained for comparison
        self.cells = (*tuned, *baseline_cells(results, without=[cell.name for cell in tuned]))
        lines = results.plan.drop_duplicates("cell").set_index("cell")
        self._fields = {cell.name: cell_fields(cell, lines.loc[[cell.name]].iloc[0]) for cell in self.cells}
        # Every column of a table asks for the choices of the same searches, and selecting reads all their rows.
        self._selections: dict[tuple[Any, ...], tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None] = {}
        self._last_points: dict[str, dict[str, float]] = {}

    @cached_property
    def hyperparameters(self) -> tuple[str, ...]:
        """The hyperparameters of the planned settings of all methods, sorted."""
        searches = (search for cell in self.cells for group in cell.methods.values() for search in group[:1])
        return tuple(sorted({name for search in searches for setting in search.settings for name in setting}))

    def check(self, conditions: Iterable[str], where: str) -> None:
        """Checks that fields exist.

        Raises:
            UserError: a field is neither a column of the rows nor a hyperparameter of a planned method.
        """
        hyper = self.hyperparameters
        # Columns of the rows are allowed, because `restrict` can filter by them; a hyperparameter of the same name takes precedence.
        known = [*CELL_FIELDS, *SEARCH_FIELDS, *hyper, *(name for name in ROW_FIELDS if name not in hyper)]
        for name in conditions:
            if name not in known:
                raise unknown("field", name, dict.fromkeys(known), where)

    def check_values(self, field: str, wanted: Iterable[object], where: str) -> None:
        """Checks that values of a field occur in the store, in any cell.

        Raises:
            UserError: neither a planned setting nor a row has one of the values.
        """
        known = [value for value in self._planned_values(field) if value is not None]
        # A null means that there is no value. A field that only rows have may get further values until all runs are stored.
        for value in wanted:
            if value is not None and not any(equal(other, value) for other in known) and not self._is_open(field):
                # YAML reads 1e-3 as a text.
                number = number_of(value) if isinstance(value, str) else None
                if number is not None and any(equal(other, number) for other in known):
                    raise UserError(f"{field} in {where} is the text '{value}'; write the number {_written(number)}")
                raise unknown(field, value, [_written(other) for other in known], where)

    def check_hyperparameter(self, name: str, where: str) -> None:
        """Checks that a planned setting has a hyperparameter.

        Raises:
            UserError: no searched method of the store has it.
        """
        if name not in self.hyperparameters:
            raise unknown("hyperparameter", name, self.hyperparameters, where)

    def _planned_values(self, field: str) -> list[Any]:
        if field in ("tuned", "pruned"):
            return [True, False]
        # Warm-up networks have conditions of their own, so their cells are included.
        if field in CELL_FIELDS:
            return list(dict.fromkeys(self._fields[cell.name][field] for cell in self.cells))
        found: dict[Any, None] = dict.fromkeys([VANILLA] if field == "method" else [])
        for cell in self.cells:
            for (method, space), searches in cell.methods.items():
                if field in ("method", "space") or any(field in setting for setting in searches[0].settings):
                    found |= dict.fromkeys(field_values(field, method, space, searches))
                    continue
                # As in `restrict`: the plan has its columns for every setting, rows only for those that have run.
                for lines in (search.planned if field in search.planned else search.rows for search in searches):
                    found |= dict.fromkeys(lines[field].dropna().tolist() if field in lines else [])
        return list(found)

    def _is_open(self, field: str) -> bool:
        """Whether only rows have the field, and some are still missing."""
        in_plan = field in (*CELL_FIELDS, "method", "space", *self.hyperparameters) or field in self.results.plan
        return not in_plan and not self.results.plan["run_id"].isin(self.results.rows["run_id"]).all()

    def values(self, field: str, conditions: Mapping[str, object]) -> list[Any]:
        """All values of a field in the plan that occur under the other conditions, in the order of the plan."""
        found: dict[Any, None] = {}
        for cell in self._cells(conditions, without=field):
            # Fields of the cell have one value each, fields of searches may have several.
            if field in CELL_FIELDS:
                found[self._fields[cell.name][field]] = None
                continue
            # The unmodified model is a method without a search.
            if field == "method":
                found[VANILLA] = None
            for (method, space), searches in cell.methods.items():
                if satisfies({"method": method, "space": space}, conditions, SEARCH_FIELDS, without=field):
                    found |= dict.fromkeys(field_values(field, method, space, searches))
        return list(found)

    def find(self, conditions: Mapping[str, object], value: str, rule: str = "") -> CellNumbers | None:
        """Finds the numbers of the entry that satisfies the conditions; None if the plan has none.

        Args:
            conditions: field -> required value.
            value: the name of the value, see `analysis.tables.values`.
            rule: the selection rule; that of the policy if empty.

        Raises:
            UserError: more than one cell of the sweep satisfies the conditions.
        """
        matching = self._cells(conditions)
        # A mean over several cells would silently mix data sets or noise rates.
        if len(matching) > 1:
            names = ", ".join(cell.name for cell in matching[:3])
            text = ", ".join(f"{name}={value}" for name, value in conditions.items())
            raise UserError(
                f"an entry of the table ({text}) matches {len(matching)} cells of the store ({names}); "
                "add a condition that only one of them satisfies"
            )
        if not matching:
            return None
        # A column may have a rule of its own, to show two rules side by side.
        cell, policy = matching[0], replace(self.policy, rule=rule) if rule else self.policy

        def seed_value(seed: int, search: SearchResult | None, choice: Choice) -> SeedValue:
            kept = search is None or choice.kept
            chosen = ChosenRun(search, choice.row, kept, cell.measure, policy.rule)
            return SeedValue(seed, search, choice, value_of(value, chosen, self._last_point))

        is_score = value in (*ALWAYS_SCORED, f"test_{cell.measure}")
        # An entry without a method is about the network before correction.
        if conditions.get("method", VANILLA) == VANILLA:
            # The baseline is its own choice, with the unmodified model kept.
            unmodified = tuple(seed_value(one.seed, None, Choice(one.row, kept=True)) for one in cell.baselines)
            return CellNumbers(cell, VANILLA, None, unmodified, is_score=is_score)
        # Several spaces may satisfy the conditions, in the order of the plan.
        spaces = [
            key for key in cell.methods if satisfies(dict(zip(("method", "space"), key, strict=True)), conditions, ("method", "space"))
        ]
        selected = [(key, found) for key in spaces if (found := self._select(cell, key, conditions, policy)) is not None]
        if not selected:
            return None
        # The first space of the plan, by convention the method's main one; the others are named in a note.
        (method, space), (searches, choices) = selected[0]
        values = tuple(seed_value(search.seed, search, choice) for search, choice in zip(searches, choices, strict=True))
        return CellNumbers(cell, method, space, values, tuple(str(key[1]) for key, _ in selected[1:]), is_score)

    def span(self, conditions: Mapping[str, object], column: str) -> list[float]:
        """[smallest, largest] of a column over the rows of all searches that satisfy the conditions; empty if there are none."""
        values: list[float] = []
        for cell in self._cells(conditions):
            for (method, space), searches in cell.methods.items():
                if satisfies({"method": method, "space": space}, conditions, ("method", "space")):
                    values += [float(value) for search in searches for value in search.rows[column].dropna()]
        return [min(values), max(values)] if values else []

    def has(self, conditions: Mapping[str, object], column: str) -> bool:
        """Whether some row of the cells that satisfy the conditions has a number in `column`."""
        return any(bool(cell.rows[column].notna().any()) for cell in self._cells(conditions))

    def _cells(self, conditions: Mapping[str, object], without: str = "") -> list[CellResult]:
        # warm-up networks of pruners (stage=warmup) are no results, and are included only by a condition on `stage`
        full = conditions if "stage" in conditions else {**conditions, "stage": None}
        return [cell for cell in self.cells if satisfies(self._fields[cell.name], full, CELL_FIELDS, without)]

    def _select(
        self, cell: CellResult, key: tuple[str, str | None], conditions: Mapping[str, object], policy: Policy
    ) -> tuple[tuple[SearchResult, ...], tuple[Choice, ...]] | None:
        """The searches of a method, restricted to the settings that satisfy the conditions, with their choices; None if no setting does."""
        # What is neither a field of the cell nor method or space restricts the settings before the selection: the best setting with 200
        # trusted samples, for example.
        own = {name: value for name, value in conditions.items() if name not in (*CELL_FIELDS, "method", "space")}
        key_of_selection = (cell.name, *key, tuple(own.items()), policy)
        if key_of_selection not in self._selections:
            searches = tuple(restrict(search, own) for search in cell.methods[key]) if own else cell.methods[key]
            # Seeds in which no setting satisfies the conditions are not part of the entry.
            searches = tuple(search for search in searches if len(search.planned))
            self._selections[key_of_selection] = (searches, select(searches, policy)) if searches else None
        return self._selections[key_of_selection]

    def _last_point(self, name: str, run_id: str) -> float | None:
        if name not in self._last_points:
            # Sorted by run and step, so that the last point of a run wins.
            points = series(self.results, name)
            self._last_points[name] = dict(zip(points["run_id"], points["value"], strict=True))
        return self._last_points[name].get(run_id)


def _written(value: object) -> str:
    """A value as YAML reads it: 1.0e-05, because 1e-05 would be a text."""
    if isinstance(value, bool):
        return str(value).lower()
    text = plain(value) if isinstance(value, float) else str(value)
    return text.replace("e", ".0e", 1) if isinstance(value, float) and "e" in text and "." not in text else text

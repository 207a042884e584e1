"""Groups the rows of a store for reports: by cell, and in each cell by method, search space and seed.

A cell is one combination of data set, label noise, network and trainer; a search is one method tuned over one space on one baseline, that
is, for one seed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import pandas as pd

from analysis.store.load import Results
from analysis.store.selection_rule import Choice, choose
from sap_core.errors import UserError
from sap_core.records import VANILLA


@dataclass(frozen=True)
class SearchResult:
    """The results of one search: one method over one space on one baseline."""

    method: str
    space: str | None  # None for a method without hyperparameters to search
    seed: int
    vanilla: pd.Series | None  # the row of the unmodified baseline
    planned: pd.DataFrame  # the search's lines of the plan
    rows: pd.DataFrame  # the stored rows among them
    measure: str  # acc | r2

    def choose(self, rule: str) -> Choice:
        """Selects a setting by `rule`, a key of `selection_rule.RULES`."""
        return choose(self.vanilla, self.rows, self.settings, rule, self.measure)

    @cached_property
    def settings(self) -> tuple[Mapping[str, Any], ...]:
        """All planned settings, in the order of the space."""
        return tuple(json.loads(text) for text in self.planned["settings"])

    @property
    def missing(self) -> int:
        """The number of planned settings without a row."""
        return len(self.planned) - len(self.rows)


@dataclass(frozen=True)
class Baseline:
    """The unmodified baseline of one seed; `row` is None if it is missing from the store."""

    baseline_id: str
    seed: int
    row: pd.Series | None


@dataclass(frozen=True)
class CellResult:
    """The results of one cell: one combination of data set, label noise, network and trainer."""

    name: str
    measure: str  # acc | r2
    baselines: tuple[Baseline, ...]
    methods: Mapping[tuple[str, str | None], tuple[SearchResult, ...]]  # (method, space), in the plan's order -> one search per seed
    rows: pd.DataFrame  # the baselines' and the searches' rows

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the baselines, in the order of the plan."""
        return tuple(baseline.seed for baseline in self.baselines)


@lru_cache(maxsize=1)  # every table and plot of one report groups the same results
def cells(results: Results) -> tuple[CellResult, ...]:
    """Groups the rows into cells, in the order of the plan.

    Raises:
        UserError: some rows belong to a smoke run, or the plan has neither baselines nor settings.
    """
    refuse_smoke(results)
    tuned = results.plan[results.plan["job_type"] == "tune"]
    # A store in which nothing was tuned still has baselines to report.
    lines = tuned if len(tuned) else results.plan[results.plan["method"] == VANILLA]
    if lines.empty:
        raise UserError("the plan has neither baselines nor settings of a corrector, so there is nothing to tabulate")
    # Indexed once for all cells.
    by_run = results.rows.set_index("run_id", drop=False)
    return tuple(_cell(str(name), part, by_run) for name, part in lines.groupby("cell", sort=False))


def baseline_cells(results: Results, without: Collection[str] = ()) -> tuple[CellResult, ...]:
    """The cells of the uncorrected networks alone, in the plan's order, less those named in `without`."""
    lines = results.plan[(results.plan["method"] == VANILLA) & ~results.plan["cell"].isin(without)]
    by_run = results.rows.set_index("run_id", drop=False)
    return tuple(_cell(str(name), part, by_run) for name, part in lines.groupby("cell", sort=False))


def refuse_smoke(results: Results) -> None:
    """Raises if some rows belong to a smoke run, whose shortened training makes its scores meaningless.

    Raises:
        UserError: the store has rows with a debug setting.
    """
    if results.debug:
        names = ", ".join(f"debug={name}" for name in results.debug)
        raise UserError(f"the rows of the store were made with {names}, and no table or plot accepts them; run the experiment without it")


def _cell(name: str, lines: pd.DataFrame, by_run: pd.DataFrame) -> CellResult:
    pairs = lines[["baseline_id", "seed"]].drop_duplicates()
    baselines = tuple(
        Baseline(str(run_id), int(seed), _row(by_run, str(run_id)))
        for run_id, seed in zip(pairs["baseline_id"], pairs["seed"], strict=True)
    )
    # The baselines' rows belong to the cell even if another cell has planned them (shared baselines).
    members = [*lines["run_id"], *(baseline.baseline_id for baseline in baselines)]
    rows = by_run[by_run.index.isin(members)]
    # The rows decide, because a plan does not know the type of the task.
    measure = "r2" if rows["test_acc"].isna().all() and rows["test_r2"].notna().any() else "acc"
    vanilla = {baseline.baseline_id: baseline.row for baseline in baselines}
    methods: dict[tuple[str, str | None], list[SearchResult]] = {}
    tuned = lines[lines["job_type"] == "tune"]
    # dropna=False keeps methods without a space; sort=False keeps the order of the plan.
    for (method, _, baseline_id), planned in tuned.groupby(["method", "space", "baseline_id"], sort=False, dropna=False):
        space = None if planned["space"].isna().all() else str(planned["space"].iloc[0])
        # Before the rows are used, because a choice among two different spaces would be of neither.
        _refuse_two_spaces(str(method), space, planned, name)
        # The rows are in the order in which jobs ended; everything that needs the order of the space sorts by position.
        found = rows[rows.index.isin(planned["run_id"])].reset_index(drop=True)
        search = SearchResult(str(method), space, int(planned["seed"].iloc[0]), vanilla[str(baseline_id)], planned, found, measure)
        methods.setdefault((search.method, space), []).append(search)
    return CellResult(name, measure, baselines, {key: tuple(value) for key, value in methods.items()}, rows.reset_index(drop=True))


def _refuse_two_spaces(method: str, space: str | None, planned: pd.DataFrame, cell: str) -> None:
    """Raises if several stores define different spaces under one name: their rows are not one search.

    Raises:
        UserError: the lines of the plan have more than one hash of the space.
    """
    hashes = [str(value) for value in planned["space_hash"].dropna().unique()]
    if len(hashes) > 1:
        raise UserError(
            f"the stores define the space '{space}' of {method} on {cell} differently (hashes {', '.join(hashes)}); "
            "report them one by one, or rename one of the spaces and run it again"
        )


def _row(by_run: pd.DataFrame, run_id: str) -> pd.Series | None:
    found = by_run[by_run.index == run_id]
    return found.iloc[0] if len(found) else None

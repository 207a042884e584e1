"""Searches other than the grid, beside it: what the setting that each of them chooses scores, and what it cost to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.store.labels import MEASURES, MISSING, REFERENCES, Measure, counted, method_label, number, seconds
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import RULES, TIES, score_column
from analysis.store.stats import summarise
from analysis.tables.notes import COST, GAP, SHARED, cell_title, seconds_notes
from analysis.tables.render import Cell, Column, Table
from analysis.tuning.cost import circumstances, per_seed, unit_of

RULE = "val_noisy"
BAND = (0.1, 0.9)

GRID = "grid"


@dataclass(frozen=True)
class Line:
    """One row before ink: a method in one space, found in one way; one search per baseline and search seed."""

    method: str
    space: str | None
    search: str
    budget: float  # mean number of settings, for a grid
    searches: tuple[SearchResult, ...]

    def chosen(self) -> dict[int, list[float]]:
        """By the baseline's seed, the test scores of what the searches chose; gaps are left out."""
        found: dict[int, list[float]] = {}
        for search in self.searches:
            row = search.choose(RULE).row
            if row is not None:
                found.setdefault(search.seed, []).append(float(row[score_column("test_oracle", search.measure)]))
        return found


def search(results: Results) -> tuple[Table, ...]:
    """One table per cell that has such searches; none when a store has none.

    Raises:
        UserError: the store is a smoke run's.
    """
    planned = results.plan[results.plan["job_type"] == "search"]
    if planned.empty:
        return ()
    return tuple(_table(results, cell, lines) for cell in cells(results) if len(lines := planned[planned["cell"] == cell.name]))


def lines_of(results: Results, cell: CellResult, planned: pd.DataFrame) -> list[Line]:
    """The grids of the cell, each followed by the other searches of the same space."""
    by_run = results.rows.set_index("run_id", drop=False)
    found: dict[tuple[str, str | None], list[Line]] = {}
    for (method, space), searches in cell.methods.items():
        if method not in REFERENCES:
            settings = float(np.mean([len(search.planned) for search in searches]))
            found.setdefault((method, space), []).append(Line(method, space, GRID, settings, searches))
    for (key, within, name, budget), lines in planned.groupby(["method", "space", "search", "search_budget"], sort=False, dropna=False):
        members = [_search(cell, part, by_run) for _, part in lines.groupby(["baseline_id", "search_seed"], sort=False)]
        line = Line(str(key), str(within), str(name), float(str(budget)), tuple(members))
        found.setdefault((line.method, line.space), []).append(line)
    return [line for group in found.values() for line in group]


def _search(cell: CellResult, planned: pd.DataFrame, by_run: pd.DataFrame) -> SearchResult:
    """One search as the selection rule takes it: a tie goes to the setting that stands earlier in its space, as in the grid."""
    rows = by_run[by_run.index.isin(planned["run_id"])].reset_index(drop=True)
    rows = rows.assign(position=rows["grid_position"].fillna(rows["position"]))
    first = planned.iloc[0]
    baseline = by_run[by_run.index == first["baseline_id"]]
    vanilla = baseline.iloc[0] if len(baseline) else None
    return SearchResult(str(first["method"]), str(first["space"]), int(first["seed"]), vanilla, planned, rows, cell.measure)


def _table(results: Results, cell: CellResult, planned: pd.DataFrame) -> Table:
    lines, measure = lines_of(results, cell, planned), MEASURES[cell.measure]
    grids = {(line.method, line.space): line for line in lines if line.search == GRID}
    spaces = [(line.method, line.space) for line in lines]
    blocks = [number for number in range(1, len(lines)) if spaces[number] != spaces[number - 1]]
    seeds = max(len(line.searches) for line in lines)
    rows = pd.concat([search.rows for line in lines for search in line.searches])
    return Table(
        name="search",
        cell=cell.name,
        caption=f"Searches on {cell_title(cell)}: test {measure.name} of the setting that {RULE} chooses, over "
        f"{counted(len(cell.seeds), 'baseline')} and up to {counted(seeds // max(1, len(cell.seeds)), 'search seed')} each.",
        columns=_columns(measure),
        rows=tuple(_row(line, grids.get((line.method, line.space)), measure) for line in lines),
        notes=_notes(results, cell, lines, measure, rows),
        rules=frozenset(blocks),
    )


def _columns(measure: Measure) -> tuple[Column, ...]:
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    test = f"Test {measure.name}{unit}"
    return (
        Column("method", "Method", numeric=False),
        Column("search", "Search", numeric=False),
        Column("budget", "Budget"),
        Column(f"test{suffix}", "mean", test),
        Column(f"test_10{suffix}", "10 %", test),
        Column(f"test_90{suffix}", "90 %", test),
        Column("behind_grid_points", "Behind grid"),
        Column("searches", "n"),
        Column("trials", "run", "Trials"),
        Column("distinct", "distinct", "Trials"),
        Column("tuning_seconds", "shared", "Seconds of one search"),
        Column("alone_seconds", "alone", "Seconds of one search"),
        Column("sample_forwards", "forwards", "Sample passes"),
        Column("sample_backwards", "backwards", "Sample passes"),
    )


def _row(line: Line, grid: Line | None, measure: Measure) -> tuple[Cell, ...]:
    chosen = line.chosen()
    scores = [score * measure.factor for found in chosen.values() for score in found]
    whole = {} if grid is None or grid is line else grid.chosen()
    behind = summarise(
        (float(np.mean(whole[seed])) - score) * measure.factor for seed, found in chosen.items() if seed in whole for score in found
    )
    shared, alone = per_seed(line.searches)
    trials = summarise(float(len(search.rows)) for search in line.searches)
    distinct = summarise(float(search.rows["settings"].nunique()) for search in line.searches)
    told = "" if unit_of(line.searches) == "seconds" else SHARED
    lacking = GAP if any(search.missing or search.choose(RULE).row is None for search in line.searches) else ""
    mean, *band = [None] * 3 if not scores else [float(np.mean(scores)), *map(float, np.quantile(scores, BAND))]
    label = method_label(line.method, line.space)
    return (
        Cell(label if line.search == GRID else f"{label}, {line.search} {line.budget:g}", marks=lacking),
        Cell(line.search),
        Cell(number(line.budget, 0), line.budget),
        *(Cell(number(value, measure.decimals), value) for value in (mean, *band)),
        Cell(number(behind.mean, measure.decimals, sign=True), behind.mean, behind.std),
        Cell(str(len(line.searches)), len(line.searches)),
        *(Cell(number(count.mean, 0), count.mean) for count in (trials, distinct)),
        *(Cell(seconds(cost.mean), cost.mean, cost.std, marks=told) for cost in (shared, alone)),
        *(_passes(line.searches, column) for column in ("sample_forwards", "sample_backwards")),
    )


def _passes(searches: Sequence[SearchResult], column: str) -> Cell:
    summary = summarise(float(search.rows[column].sum(min_count=1)) for search in searches)
    return Cell(MISSING if summary.mean is None else f"{summary.mean:,.0f}", summary.mean)


def _notes(results: Results, cell: CellResult, lines: Sequence[Line], measure: Measure, rows: pd.DataFrame) -> tuple[str, ...]:
    vanilla = summarise(
        None if baseline.row is None else float(baseline.row[score_column("test_oracle", cell.measure)]) for baseline in cell.baselines
    ).times(measure.factor)
    missing = sum(search.missing for line in lines for search in line.searches)
    rule = RULES[RULE].format(score=measure.name)
    said = [
        f"{RULE}: {rule}, over one search's trials. {TIES}",
        "Mean, 10th and 90th percentile over baselines and search seeds; the unmodified models score "
        f"{number(vanilla.mean, measure.decimals)} on average. Behind grid: how much more the grid's choice on the same baseline scores.",
        "Budget: trials that a search may make (settings, for a grid); a trial of successive halving is one configuration at one value of "
        "its resource. Samplers see the validation score on the given labels and nothing else.",
        "A search that tries every setting of its space chooses what the grid chooses.",
        COST,
        *seconds_notes(cell, [search for line in lines for search in line.searches]),
        "Trials run one by one, each alone (in successive halving: the pieces of one trajectory once); a grid's settings share work.",
        *([f"{GAP} {counted(missing, 'planned trial')} without a row, or nothing chosen."] if missing else []),
        *circumstances(rows),
        *results.problems,
    ]
    return tuple(said)

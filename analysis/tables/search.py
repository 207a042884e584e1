"""Table `search`: sampled searches compared with the grid over the same space, by test score of the selected setting and by cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.store.labels import MEASURES, MISSING, REFERENCES, Measure, counted, method_label, number, seconds
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import RULES, TIES, score_column
from analysis.store.stats import number_of, summarise
from analysis.tables.notes import COST, INCOMPLETE, INCOMPLETE_MARK, NO_SECONDS_MARK, cell_title, seconds_notes
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.cost import circumstances, per_seed, unit_of

RULE = "val_noisy"
QUANTILES = (0.1, 0.9)

GRID = "grid"
"""Printed as the sampler of a complete grid."""


@dataclass(frozen=True)
class SearchRow:
    """One row: a method searched over one space by one sampler (or the grid); one search per baseline and search seed."""

    method: str
    space: str | None
    search: str
    budget: float  # trials; for a grid, the mean number of settings
    searches: tuple[SearchResult, ...]

    def selected_scores(self) -> dict[int, list[float]]:
        """The test scores of the selected settings by the baseline's seed; searches without a selection are left out."""
        found: dict[int, list[float]] = {}
        for search in self.searches:
            row = search.choose(RULE).row
            if row is not None:
                score = number_of(row[score_column("test_oracle", search.measure)])
                # A search without a test score is left out and marked.
                if score is not None:
                    found.setdefault(search.seed, []).append(score)
        return found

    @property
    def incomplete(self) -> bool:
        """Whether a planned setting has no row, or a search no score."""
        return any(search.missing for search in self.searches) or sum(map(len, self.selected_scores().values())) < len(self.searches)


def search(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell with sampled searches.

    Raises:
        UserError: the store belongs to a smoke run.
    """
    planned = results.plan[results.plan["job_type"] == "search"]
    if planned.empty:
        return ()
    return tuple(_table(results, cell, own) for cell in cells(results) if len(own := planned[planned["cell"] == cell.name]))


def search_rows(results: Results, cell: CellResult, planned: pd.DataFrame) -> list[SearchRow]:
    """The grids of the cell, each followed by the sampled searches of the same space."""
    # Sampled searches are not part of `cells`, whose searches are grids, so their rows are taken from the store.
    by_run = results.rows.set_index("run_id", drop=False)
    found: dict[tuple[str, str | None], list[SearchRow]] = {}
    for (method, space), searches in cell.methods.items():
        if method not in REFERENCES:
            settings = float(np.mean([len(search.planned) for search in searches]))
            found.setdefault((method, space), []).append(SearchRow(method, space, GRID, settings, searches))
    # Each budget is a row of its own: a search is defined by its budget.
    for (key, within, name, budget), lines in planned.groupby(["method", "space", "search", "search_budget"], sort=False, dropna=False):
        # One search per baseline and search seed.
        members = [_search(cell, part, by_run) for _, part in lines.groupby(["baseline_id", "search_seed"], sort=False)]
        row = SearchRow(str(key), str(within), str(name), float(str(budget)), tuple(members))
        found.setdefault((row.method, row.space), []).append(row)
    return [row for group in found.values() for row in group]


def _search(cell: CellResult, planned: pd.DataFrame, by_run: pd.DataFrame) -> SearchResult:
    """One sampled search in the form that the selection rule expects: ties go to the setting with the earlier position in the grid."""
    rows = by_run[by_run.index.isin(planned["run_id"])].reset_index(drop=True)
    # trials of continuous spaces have no position in the grid
    rows = rows.assign(position=rows["grid_position"].fillna(rows["position"]))
    first = planned.iloc[0]
    baseline = by_run[by_run.index == first["baseline_id"]]
    vanilla = baseline.iloc[0] if len(baseline) else None
    return SearchResult(str(first["method"]), str(first["space"]), int(first["seed"]), vanilla, planned, rows, cell.measure)


def _table(results: Results, cell: CellResult, planned: pd.DataFrame) -> Table:
    listed, measure = search_rows(results, cell, planned), MEASURES[cell.measure]
    grids = {(row.method, row.space): row for row in listed if row.search == GRID}
    spaces = [(row.method, row.space) for row in listed]
    # A line between spaces, so that each grid stands above its searches.
    blocks = [number for number in range(1, len(listed)) if spaces[number] != spaces[number - 1]]
    seeds = max(len(row.searches) for row in listed)
    stored = pd.concat([search.rows for row in listed for search in row.searches])
    return Table(
        name="search",
        cell=cell.name,
        caption=f"Searches on {cell_title(cell)}: test {measure.name} of the setting selected by {RULE}, over "
        f"{counted(len(cell.seeds), 'baseline')} and up to {counted(seeds // max(1, len(cell.seeds)), 'search seed')} each.",
        columns=_columns(measure),
        rows=tuple(_row(row, grids.get((row.method, row.space)), measure) for row in listed),
        notes=_notes(results, cell, listed, measure, stored),
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
        Column("below_grid_points", "Below grid"),
        Column("searches", "n"),
        Column("trials", "run", "Trials"),
        Column("distinct_trials", "distinct", "Trials"),
        Column("tuning_seconds", "amortised", "Seconds per search"),
        Column("standalone_seconds", "standalone", "Seconds per search"),
        Column("sample_forwards", "forwards", "Sample passes"),
        Column("sample_backwards", "backwards", "Sample passes"),
    )


def _row(row: SearchRow, grid: SearchRow | None, measure: Measure) -> tuple[FormattedCell, ...]:
    scores_by_seed = row.selected_scores()
    scores = [score * measure.factor for found in scores_by_seed.values() for score in found]
    # A grid is not compared with itself.
    of_grid = {} if grid is None or grid is row else grid.selected_scores()
    # Paired with the grid on the same baseline, so that differences between baselines cancel.
    below_grid = summarise(
        (float(np.mean(of_grid[seed])) - score) * measure.factor
        for seed, found in scores_by_seed.items()
        if seed in of_grid
        for score in found
    )
    # Trials share nothing but segments of a trajectory, so the two costs of a sampled search are close.
    amortised, standalone = per_seed(row.searches)
    trials = summarise(float(len(search.rows)) for search in row.searches)
    distinct = summarise(float(search.rows["settings"].nunique()) for search in row.searches)
    no_seconds = "" if unit_of(row.searches) == "seconds" else NO_SECONDS_MARK
    incomplete = INCOMPLETE_MARK if row.incomplete else ""
    # Quantiles describe what single searches obtain, as the band of the figures does.
    mean, *band = [None] * 3 if not scores else [float(np.mean(scores)), *map(float, np.quantile(scores, QUANTILES))]
    label = method_label(row.method, row.space)
    return (
        FormattedCell(label if row.search == GRID else f"{label}, {row.search} {row.budget:g}", marks=incomplete),
        FormattedCell(row.search),
        FormattedCell(number(row.budget, 0), row.budget),
        *(FormattedCell(number(value, measure.decimals), value) for value in (mean, *band)),
        FormattedCell(number(below_grid.mean, measure.decimals, sign=True), below_grid.mean, below_grid.std),
        FormattedCell(str(len(row.searches)), len(row.searches)),
        *(FormattedCell(number(count.mean, 0), count.mean) for count in (trials, distinct)),
        *(FormattedCell(seconds(cost.mean), cost.mean, cost.std, marks=no_seconds) for cost in (amortised, standalone)),
        *(_passes(row.searches, column) for column in ("sample_forwards", "sample_backwards")),
    )


def _passes(searches: Sequence[SearchResult], column: str) -> FormattedCell:
    summary = summarise(float(search.rows[column].sum(min_count=1)) for search in searches)
    return FormattedCell(MISSING if summary.mean is None else f"{summary.mean:,.0f}", summary.mean)


def _notes(results: Results, cell: CellResult, listed: Sequence[SearchRow], measure: Measure, stored: pd.DataFrame) -> tuple[str, ...]:
    vanilla = summarise(
        None if baseline.row is None else number_of(baseline.row[score_column("test_oracle", cell.measure)]) for baseline in cell.baselines
    ).times(measure.factor)
    incomplete = any(row.incomplete for row in listed)
    rule = RULES[RULE].format(score=measure.name)
    return (
        f"{RULE}: {rule}, among the trials of one search. {TIES}",
        "Mean, 10th and 90th percentile over baselines and search seeds; the unmodified models score "
        f"{number(vanilla.mean, measure.decimals)} on average. Below grid: test score of the grid's selected setting on the same "
        "baseline minus the score of this search.",
        "Budget: number of trials (of settings, for a grid); a trial of successive halving is one configuration at one value of its "
        "resource. Samplers receive only the validation score on the given labels.",
        "A search that tries every setting of its space selects the same setting as the grid.",
        COST,
        *seconds_notes(cell, [search for row in listed for search in row.searches]),
        "Trials run one at a time and share no work, except for the segments of one trajectory in successive halving; the settings of a "
        "grid share work.",
        *([INCOMPLETE] if incomplete else []),
        *_failures(listed),
        *circumstances(stored),
        *results.problems,
    )


def _failures(listed: Sequence[SearchRow]) -> list[str]:
    """One sentence for each search that selects nothing, such as one in which every setting failed."""
    problems: dict[str, list[str]] = {}
    for row in listed:
        for search in row.searches:
            if problem := search.choose(RULE).problem:
                name = method_label(row.method, row.space) + ("" if row.search == GRID else f", {row.search} {row.budget:g}")
                problems.setdefault(f"{INCOMPLETE_MARK} {name}: no setting selected: {problem}", []).append(str(search.seed))
    return [f"{sentence} (seed {', '.join(dict.fromkeys(seeds))})." for sentence, seeds in problems.items()]

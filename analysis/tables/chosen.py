"""The setting that every search chose, seed by seed, with its validation and test scores."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MEASURES, MISSING, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import RULES, TIES, Choice, score_column
from analysis.tables.entries import setting_text
from analysis.tables.notes import GAP, cell_title
from analysis.tables.render import Cell, Column, Table

RULE = "val_noisy"


def chosen(results: Results) -> tuple[Table, ...]:
    """One table per cell, one row per search and seed.

    Raises:
        UserError: the store is a smoke run's, or plans nothing that a table could show.
    """
    return tuple(_table(results, cell) for cell in cells(results))


def _table(results: Results, cell: CellResult) -> Table:
    measure = MEASURES[cell.measure]
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    searches = [search for some in cell.methods.values() for search in some]
    choices = [(search, search.choose(RULE)) for search in searches]
    return Table(
        name="chosen",
        cell=cell.name,
        caption=f"What was chosen on {cell_title(cell)}, seed by seed.",
        columns=(
            Column("method", "Method", numeric=False),
            Column("seed", "Seed"),
            Column("chosen", "Chosen", numeric=False),
            Column("rule", "Rule", numeric=False),
            Column(f"validation{suffix}", f"Validation{unit}"),
            Column(f"test{suffix}", f"Test{unit}"),
        ),
        rows=tuple(_row(search, choice, measure.factor, measure.decimals) for search, choice in choices),
        notes=(f"{RULE}: {RULES[RULE].format(score=measure.name)}.", TIES, *_gaps(choices), *results.problems),
    )


def _gaps(choices: Sequence[tuple[SearchResult, Choice]]) -> list[str]:
    said = []
    for search, choice in choices:
        who = f"{GAP} {method_label(search.method, search.space)}, seed {search.seed}"
        if choice.problem:
            said.append(f"{who}: {choice.problem}.")
        if search.missing:
            said.append(f"{who}: {search.missing} of {len(search.planned)} planned settings have no row.")
    return said


def _row(search: SearchResult, choice: Choice, factor: float, decimals: int) -> tuple[Cell, ...]:
    def score(column: str) -> Cell:
        value = None if choice.row is None else float(choice.row[column]) * factor
        return Cell(number(value, decimals), value)

    lacking = GAP if choice.row is None or search.missing else ""
    return (
        Cell(method_label(search.method, search.space), marks=lacking),
        Cell(str(search.seed), search.seed),
        Cell(_setting(search, choice)),
        Cell(RULE),
        score(score_column(RULE, search.measure)),
        score(score_column("test_oracle", search.measure)),
    )


def _setting(search: SearchResult, choice: Choice) -> str:
    if choice.kept or choice.row is None:
        return "unmodified" if choice.kept else MISSING
    position = int(choice.row["position"])
    chosen_setting = next(setting for setting, at in zip(search.settings, search.planned["position"], strict=True) if at == position)
    return setting_text(chosen_setting, search.settings)

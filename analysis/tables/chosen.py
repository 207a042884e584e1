"""Table `chosen`: the selected setting of every search, by seed, with its validation and test scores."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MEASURES, MISSING, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import TIES, Choice, score_column
from analysis.store.stats import number_of
from analysis.tables.method_rows import setting_text
from analysis.tables.notes import INCOMPLETE_MARK, cell_title, rule_note
from analysis.tables.render import Column, FormattedCell, Table

RULE = "val_noisy"


def chosen(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell, with one row per search and seed.

    Raises:
        UserError: the store belongs to a smoke run, or its plan has nothing to tabulate.
    """
    return tuple(_table(results, cell) for cell in cells(results))


def _table(results: Results, cell: CellResult) -> Table:
    measure = MEASURES[cell.measure]
    unit, suffix = (f" ({measure.unit})", "_percent") if measure.unit else ("", "")
    searches = [search for group in cell.methods.values() for search in group]
    # Chosen once, for the rows and for the notes.
    choices = [(search, search.choose(RULE)) for search in searches]
    return Table(
        name="chosen",
        cell=cell.name,
        caption=f"Selected settings on {cell_title(cell)}, by seed.",
        columns=(
            Column("method", "Method", numeric=False),
            Column("seed", "Seed"),
            Column("chosen", "Selected setting", numeric=False),
            Column("rule", "Rule", numeric=False),
            Column(f"validation{suffix}", f"Validation{unit}"),
            Column(f"test{suffix}", f"Test{unit}"),
        ),
        rows=tuple(_row(search, choice, measure.factor, measure.decimals) for search, choice in choices),
        notes=(rule_note(RULE, cell.measure), TIES, *_incomplete(choices), *results.problems),
    )


def _incomplete(choices: Sequence[tuple[SearchResult, Choice]]) -> list[str]:
    found = []
    for search, choice in choices:
        prefix = f"{INCOMPLETE_MARK} {method_label(search.method, search.space)}, seed {search.seed}"
        # A seed may lack a choice, rows, or both; each has its own sentence.
        if choice.problem:
            found.append(f"{prefix}: {choice.problem}.")
        elif choice.row is not None and number_of(choice.row[score_column("test_oracle", search.measure)]) is None:
            found.append(f"{prefix}: the selected setting has no test score.")
        if search.missing:
            found.append(f"{prefix}: {search.missing} of {len(search.planned)} planned settings have no row.")
    return found


def _row(search: SearchResult, choice: Choice, factor: float, decimals: int) -> tuple[FormattedCell, ...]:
    def score(column: str) -> FormattedCell:
        stored = None if choice.row is None else number_of(choice.row[column])
        value = None if stored is None else stored * factor
        return FormattedCell(number(value, decimals), value)

    test = score_column("test_oracle", search.measure)
    mark = INCOMPLETE_MARK if choice.row is None or search.missing or number_of(choice.row[test]) is None else ""
    return (
        FormattedCell(method_label(search.method, search.space), marks=mark),
        FormattedCell(str(search.seed), search.seed),
        FormattedCell(_setting(search, choice)),
        FormattedCell(RULE),
        score(score_column(RULE, search.measure)),
        score(test),
    )


def _setting(search: SearchResult, choice: Choice) -> str:
    if choice.kept or choice.row is None:
        return "unmodified" if choice.kept else MISSING
    position = int(choice.row["position"])
    selected = next(setting for setting, other in zip(search.settings, search.planned["position"], strict=True) if other == position)
    return setting_text(selected, search.settings)

"""Traces cells of the tables that are computed in Python to the rows of the store. Described tables: `analysis.reports.trace`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.reports.trace import MAX_CELLS
from analysis.store.labels import MEASURES, MISSING, counted, dataset_label, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import Choice, score_column
from analysis.store.stats import number_of
from analysis.tables.method_rows import setting_text
from analysis.tables.render import Column, FormattedCell, Table
from sap_core.errors import UserError
from sap_core.records import VANILLA

RULE = "val_noisy"


@dataclass(frozen=True)
class _Place:
    """One cell of a table, with the names by which it can be asked for."""

    table: Table
    row: int
    column: int
    title: str  # of the row group

    @property
    def cell(self) -> FormattedCell:
        return self.table.rows[self.row][self.column]

    @property
    def label(self) -> str:
        """The label of the row."""
        return self.table.rows[self.row][0].text

    @property
    def seed(self) -> str:
        """The seed of the row; empty if the row is over all seeds."""
        texts = {column.key: cell.text for column, cell in zip(self.table.columns, self.table.rows[self.row], strict=True)}
        return texts.get("seed", "")

    @property
    def names(self) -> tuple[str, ...]:
        """The title of the table and the row group, the labels of row and column."""
        column = self.table.columns[self.column]
        return (self.table.cell, self.title, self.label, self.seed, column.group, column.head)


def trace_computed(name: str, tables: Sequence[Table], results: Results, arguments: Sequence[str]) -> tuple[Table, ...]:
    """One table per cell that matches all arguments: the seeds, rows and selected settings of the methods that it is about.

    Args:
        name: the name of the table.
        tables: the tables of that name.
        results: the loaded stores.
        arguments: each is `method=`, `space=` or `seed=` with a value, or a part of the label of the table, the row or the column.

    Raises:
        UserError: no cell matches, or more than `MAX_CELLS`.
    """
    places = list(_places(tables))
    matching = [place for place in places if all(_matches(argument, place, results) for argument in arguments)]
    if not matching:
        labels = list(dict.fromkeys(label for place in places for label in place.names if label))
        raise UserError(
            f"no cell of the table '{name}' matches {' '.join(arguments)}; give method=, space= or seed= with a value, or parts of these "
            f"labels: {', '.join(labels)}"
        )
    if len(matching) > MAX_CELLS:
        some = matching[0]
        raise UserError(
            f"{len(matching)} cells of the table '{name}' match {' '.join(arguments) or 'no arguments'}, and at most {MAX_CELLS} are "
            f"printed; give more arguments, such as '{some.label}' '{some.table.columns[some.column].head}'"
        )
    return tuple(_trace(name, place, results) for place in matching)


def _places(tables: Sequence[Table]) -> Iterator[_Place]:
    for table in tables:
        title = ""
        for row in range(len(table.rows)):
            title = table.titles.get(row, title)
            for column in range(1, len(table.columns)):
                yield _Place(table, row, column, title)


def _matches(argument: str, place: _Place, results: Results) -> bool:
    field, assigns, value = argument.partition("=")
    if not assigns:
        return any(argument.casefold() in name.casefold() for name in place.names)
    found = list(_searches(place, results))
    values = {
        "method": {search.method for _, search in found} | ({VANILLA} if place.label == method_label(VANILLA) else set()),
        "space": {str(search.space) for _, search in found},
        "seed": {place.seed} if place.seed else {str(search.seed) for _, search in found},
    }
    return value in values.get(field, set())


def _cells(place: _Place, results: Results) -> list[CellResult]:
    """The cells of the sweep that a row is about: that of its table; in the table of tests that of the row, or all of its data set."""
    named = [cell for cell in cells(results) if cell.name == place.table.cell]
    if named:
        return named
    own = [cell for cell in cells(results) if len(cell.rows) and dataset_label(str(cell.rows.iloc[0]["dataset"])) == place.table.cell]
    fields = ("network", "noise", "trainer")
    one = [
        cell
        for cell in own
        if all(_is_named(str(cell.rows.iloc[0][field]), place.label) for field in fields) and _rate(cell) in place.label
    ]
    return one or own


def _is_named(value: str, label: str) -> bool:
    # Labels write some names in another way, and such a name does not tell cells apart.
    return value in label.replace(",", " ").split() or value not in label


def _rate(cell: CellResult) -> str:
    rate = cell.rows.iloc[0]["noise_rate"]
    return "" if rate != rate else f" {rate * 100:g} %"


def _searches(place: _Place, results: Results) -> Iterator[tuple[CellResult, SearchResult]]:
    """The searches that a row is about."""
    for cell in _cells(place, results):
        seen: set[str] = set()
        for (method, space), searches in cell.methods.items():
            label = method_label(method, space)
            # A sampled search is named after its space and its budget.
            is_row = place.label == label or place.label.startswith(f"{label}, ")
            # The table of tests compares methods in their first spaces.
            is_title = method_label(method) in place.title.split(" against ") and method not in seen
            seen.add(method)
            if is_row or is_title:
                yield from ((cell, search) for search in searches if place.seed in ("", str(search.seed)))


def _trace(name: str, place: _Place, results: Results) -> Table:
    column = place.table.columns[place.column]
    title = ", ".join(part for part in (place.title, place.label, place.seed and f"seed {place.seed}", column.group, column.head) if part)
    rows = [_row(cell, search, search.choose(RULE)) for cell, search in _searches(place, results)]
    if place.label == method_label(VANILLA):
        rows += [_baseline_row(cell, index) for cell in _cells(place, results) for index in range(len(cell.baselines))]
    notes = [f"Printed: {place.cell.text or 'empty'}{place.cell.marks}."]
    if place.cell.value is not None:
        deviation = "" if place.cell.std is None else f", standard deviation {place.cell.std:.10g}"
        notes.append(f"Number behind it: {place.cell.value:.10g}{deviation}.")
    notes.append(
        f"Selected by {RULE}. Every number of the table is computed from the rows of these runs."
        if rows
        else "This cell is not computed from rows of runs."
    )
    columns = (
        Column("method", "Method", numeric=False),
        Column("seed", "Seed"),
        Column("validation", RULE),
        Column("test", "Test"),
        Column("tuning_seconds", "Seconds"),
        Column("chosen", "Chosen", numeric=False),
        Column("rows", "Rows", numeric=False),
        Column("run_id", "Run", numeric=False),
        Column("job_id", "Job", numeric=False),
    )
    return Table("cell", title, f"{name}: {title}.", columns, tuple(rows), tuple(notes))


def _row(cell: CellResult, search: SearchResult, choice: Choice) -> tuple[FormattedCell, ...]:
    row = choice.row
    spent = number_of(search.rows["tuning_seconds"].sum(min_count=1))
    if row is None:
        chosen = choice.problem or MISSING
    else:
        chosen = "the unmodified model" if choice.kept else setting_text(json.loads(row["settings"]), search.settings)
    failed = int((search.rows["status"] == "failed").sum())
    stored = counted(len(search.rows), "row") + (f" of {len(search.planned)} planned" if search.missing else "")
    return (
        FormattedCell(method_label(search.method, search.space)),
        FormattedCell(str(search.seed), search.seed),
        *(_score(cell, row, rule) for rule in (RULE, "test_oracle")),
        FormattedCell(number(spent, 3), spent),
        FormattedCell(chosen),
        FormattedCell(stored + (f", {failed} failed" if failed else "")),
        *(FormattedCell(MISSING if row is None else str(row[name])) for name in ("run_id", "job_id")),
    )


def _baseline_row(cell: CellResult, index: int) -> tuple[FormattedCell, ...]:
    baseline = cell.baselines[index]
    row = baseline.row
    return (
        FormattedCell(method_label(VANILLA)),
        FormattedCell(str(baseline.seed), baseline.seed),
        *(_score(cell, row, rule) for rule in (RULE, "test_oracle")),
        FormattedCell(MISSING),
        FormattedCell(MISSING),
        FormattedCell("no row" if row is None else "1 row"),
        *(FormattedCell(MISSING if row is None else str(row[name])) for name in ("run_id", "job_id")),
    )


def _score(cell: CellResult, row: object, rule: str) -> FormattedCell:
    stored = None if row is None else number_of(row[score_column(rule, cell.measure)])  # type: ignore[index]
    value = None if stored is None else stored * MEASURES[cell.measure].factor
    return FormattedCell(number(value, MEASURES[cell.measure].decimals), value)

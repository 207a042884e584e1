"""Traces cells of a table to the rows of the store: the seeds, the selected settings and the rows that they were selected from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.store.labels import MISSING, counted, method_label, number, plain
from analysis.store.load import Results
from analysis.store.selection_rule import score_column
from analysis.tables.captions import with_score_name
from analysis.tables.layout import LayoutCell, Position, TableLayout, layouts
from analysis.tables.lookup import CellNumbers, SeedValue
from analysis.tables.method_rows import setting_text
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.spec import TableSpec
from analysis.tables.values import ValueFormat, value_format
from sap_core.errors import UserError

MAX_CELLS = 12
"""Largest number of cells that are printed."""

_ASSIGN = "="


def trace(spec: TableSpec, results: Results, arguments: Sequence[str], checked: bool = False) -> tuple[Table, ...]:
    """One table per cell that matches all arguments.

    Args:
        spec: the description of the table.
        results: the loaded stores.
        arguments: each is `field=value`, a value of any field, or a part of the label of a row, a column or a row group.
        checked: whether to check the fields of the description against the store, for a user's own YAML file.

    Raises:
        UserError: no cell matches, or more than `MAX_CELLS`.
    """
    # The same layouts as the printed table, so a traced cell is the printed one.
    named = [(layout, _name(layout, at), cell) for layout in layouts(spec, results, checked) for at, cell in layout.cells.items()]
    matching = [
        (layout, name, cell) for layout, name, cell in named if all(_matches(argument, name, cell.conditions) for argument in arguments)
    ]
    if not matching:
        labels = list(dict.fromkeys(label for _, name, _ in named for label in name if label))
        raise UserError(
            f"no cell of the table '{spec.name}' matches {' '.join(arguments)}; "
            f"give field=value or parts of these labels: {', '.join(labels)}"
        )
    if len(matching) > MAX_CELLS:
        raise UserError(
            f"{len(matching)} cells of the table '{spec.name}' match {' '.join(arguments) or 'no arguments'}, and at most {MAX_CELLS} are "
            f"printed; give more arguments, such as {' '.join(_as_arguments(matching[0][2].conditions))}"
        )
    return tuple(_trace_table(layout, name, cell) for layout, name, cell in matching)


def _name(layout: TableLayout, at: Position) -> tuple[str, ...]:
    g, r, c = at
    group, row, column = layout.row_groups[g], layout.rows[g][r], layout.columns[c]
    # `{score}` is filled in as in the printed table, so that a header can be typed as it is read.
    labels = (layout.title, group.label, row.label, column.group, column.label)
    return tuple(with_score_name(label, layout.measure) for label in labels)


def _matches(argument: str, name: Sequence[str], conditions: Mapping[str, Any]) -> bool:
    field, assigns, value = argument.partition(_ASSIGN)
    if not assigns:
        # A bare word may be a value, such as `sap`, or a part of any label.
        values = (str(value).casefold() for value in conditions.values())
        return any(argument.casefold() in label.casefold() for label in name) or argument.casefold() in values
    if field not in conditions:
        return False
    stored = conditions[field]
    if isinstance(stored, int | float) and not isinstance(stored, bool):
        try:
            # 0.25, .25 and 2.5e-1 are one number.
            return abs(float(value) - stored) <= 1e-9 * max(1.0, abs(stored))
        except ValueError:
            return False
    return str(stored).casefold() == value.casefold()


def _as_arguments(conditions: Mapping[str, Any]) -> list[str]:
    return [
        f"{field}{_ASSIGN}{plain(value) if isinstance(value, float) else value}" for field, value in conditions.items() if value is not None
    ]


def _trace_table(layout: TableLayout, name: Sequence[str], cell: LayoutCell) -> Table:
    title = ", ".join(label for label in name if label)
    found = cell.found
    measure = found.cell.measure if found else "acc"
    unit = value_format(cell.value, measure)
    rule = score_column(layout.spec.selection.rule, measure)
    return Table(
        name="cell",
        cell=title,
        caption=f"{layout.spec.name}: {title}.",
        columns=(
            Column("seed", "Seed"),
            Column("value", cell.value),
            Column("validation", rule),
            Column("chosen", "Chosen", numeric=False),
            Column("rows", "Rows", numeric=False),
            Column("run_id", "Run", numeric=False),
            Column("job_id", "Job", numeric=False),
        ),
        rows=tuple(_row(seed, rule, unit) for seed in found.values) if found else (),
        notes=_notes(layout, cell, found),
    )


def _row(seed: SeedValue, rule: str, unit: ValueFormat) -> tuple[FormattedCell, ...]:
    row = seed.choice.row
    # One seed's number is printed with more digits than the table's, as it can be compared with the row.
    if unit.quantity == "large":
        unit = ValueFormat(unit.factor, 3, unit.suffix, unit.quantity)
    value = None if seed.value is None else seed.value * unit.factor
    # NaN is the only value that is unequal to itself.
    validation = None if row is None or row[rule] != row[rule] else float(row[rule]) * (100 if rule.endswith("_acc") else 1)
    return (
        FormattedCell(str(seed.seed), seed.seed),
        FormattedCell(plain(value) if unit.quantity == "setting" and value is not None else number(value, unit.decimals), value),
        FormattedCell(number(validation, 2), validation),
        FormattedCell(_selected(seed)),
        FormattedCell(_rows(seed)),
        FormattedCell(MISSING if row is None else str(row["run_id"])),
        FormattedCell(MISSING if row is None else str(row["job_id"])),
    )


def _selected(seed: SeedValue) -> str:
    """The selected values of the hyperparameters that vary in the space."""
    if seed.choice.problem:
        return seed.choice.problem
    if seed.search is None or seed.choice.kept or seed.choice.row is None:
        return MISSING if seed.choice.row is None else "the unmodified model"
    return setting_text(json.loads(seed.choice.row["settings"]), seed.search.settings)


def _rows(seed: SeedValue) -> str:
    """`675 rows, 3 failed`, `16 rows of 20 planned`."""
    if seed.search is None:
        return "1 row" if seed.choice.row is not None else "no row"
    rows = seed.search.rows
    failed = int((rows["status"] == "failed").sum())
    text = counted(len(rows), "row") + (f" of {len(seed.search.planned)} planned" if seed.search.missing else "")
    return text + (f", {failed} failed" if failed else "")


def _notes(layout: TableLayout, cell: LayoutCell, found: CellNumbers | None) -> tuple[str, ...]:
    conditions = f"Conditions: {' '.join(_as_arguments(cell.conditions))}."
    if found is None:
        return (conditions, "The plan has no rows that meet them.")
    notes = [conditions, f"Cell of the sweep: {found.cell.name}; {method_label(found.method, found.space)}."]
    if found.other_spaces:
        notes.append(f"Other spaces of the method in this store: {', '.join(found.other_spaces)}.")
    if any(seed.search is not None for seed in found.values):
        notes += layout.spec.selection.sentences(found.cell.measure)
    if cell.published:
        numbers = [
            f"{number(quote.mean, 2)}{'' if quote.std is None else f' ± {quote.std:.2f}'}{suffix}"
            for suffix, quote in cell.published
            if quote
        ]
        notes += [f"Published: {', '.join(numbers)}."] if numbers else []
    return tuple(notes)

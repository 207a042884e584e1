"""Traces a cell of a table to its rows: the seeds, the setting chosen on each, and the rows it was chosen from. `sap-report STORE cell`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.store.labels import MISSING, counted, method_label, number, plain
from analysis.store.load import Results
from analysis.store.selection_rule import score_column
from analysis.tables.layout import LayoutCell, Position, TableLayout, layouts
from analysis.tables.lookup import CellNumbers, SeedValue
from analysis.tables.method_rows import setting_text
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.spec import TableSpec
from analysis.tables.values import ValueFormat, value_format
from sap_core.errors import UserError

MOST = 12
"""Most cells that are printed in full."""

_ASSIGNS = "="


def trace(spec: TableSpec, results: Results, words: Sequence[str], checked: bool = False) -> tuple[Table, ...]:
    """One table per cell that all the words describe: `field=value`, a value, or a part of the label of a row, a column or a row group.

    Raises:
        UserError: no cell is described, or too many.
    """
    named = [(layout, _name(layout, at), cell) for layout in layouts(spec, results, checked) for at, cell in layout.cells.items()]
    meant = [(layout, name, cell) for layout, name, cell in named if all(_meant(word, name, cell.conditions) for word in words)]
    if not meant:
        labels = list(dict.fromkeys(label for _, name, _ in named for label in name if label))
        raise UserError(
            f"no cell of the table '{spec.name}' is described by {' '.join(words)}; "
            f"words are field=value or parts of these labels: {', '.join(labels)}"
        )
    if len(meant) > MOST:
        raise UserError(
            f"{len(meant)} cells of the table '{spec.name}' are described by {' '.join(words) or 'no words'}, at most {MOST} are shown; "
            f"give more words, such as {' '.join(_words(meant[0][2].conditions))}"
        )
    return tuple(_told(layout, name, cell) for layout, name, cell in meant)


def _name(layout: TableLayout, at: Position) -> tuple[str, ...]:
    g, r, c = at
    group, row, column = layout.row_groups[g], layout.rows[g][r], layout.columns[c]
    return layout.title, group.label, row.label, column.group, column.label


def _meant(word: str, name: Sequence[str], conditions: Mapping[str, Any]) -> bool:
    field, assigns, value = word.partition(_ASSIGNS)
    if not assigns:
        values = (str(value).casefold() for value in conditions.values())
        return any(word.casefold() in label.casefold() for label in name) or word.casefold() in values
    if field not in conditions:
        return False
    there = conditions[field]
    if isinstance(there, int | float) and not isinstance(there, bool):
        try:
            return abs(float(value) - there) <= 1e-9 * max(1.0, abs(there))
        except ValueError:
            return False
    return str(there).casefold() == value.casefold()


def _words(conditions: Mapping[str, Any]) -> list[str]:
    return [
        f"{field}{_ASSIGNS}{plain(value) if isinstance(value, float) else value}"
        for field, value in conditions.items()
        if value is not None
    ]


def _told(layout: TableLayout, name: Sequence[str], cell: LayoutCell) -> Table:
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
    if unit.kind == "large":
        unit = ValueFormat(unit.factor, 3, unit.suffix, unit.kind)
    value = None if seed.value is None else seed.value * unit.factor
    validation = None if row is None or row[rule] != row[rule] else float(row[rule]) * (100 if rule.endswith("_acc") else 1)
    return (
        FormattedCell(str(seed.seed), seed.seed),
        FormattedCell(number(value, unit.decimals), value),
        FormattedCell(number(validation, 2), validation),
        FormattedCell(_chosen(seed)),
        FormattedCell(_rows(seed)),
        FormattedCell(MISSING if row is None else str(row["run_id"])),
        FormattedCell(MISSING if row is None else str(row["job_id"])),
    )


def _chosen(seed: SeedValue) -> str:
    """The fields in which the settings of the space differ, as chosen."""
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
    told = counted(len(rows), "row") + (f" of {len(seed.search.planned)} planned" if seed.search.missing else "")
    return told + (f", {failed} failed" if failed else "")


def _notes(layout: TableLayout, cell: LayoutCell, found: CellNumbers | None) -> tuple[str, ...]:
    told = f"Conditions: {' '.join(_words(cell.conditions))}."
    if found is None:
        return (told, "Nothing of the kind is in the plan.")
    said = [told, f"Cell of the sweep: {found.cell.name}; {method_label(found.method, found.space)}."]
    if found.other_spaces:
        said.append(f"The store has other spaces of it, too: {', '.join(found.other_spaces)}.")
    if any(seed.search is not None for seed in found.values):
        said += layout.spec.selection.sentences(found.cell.measure)
    if cell.published:
        numbers = [
            f"{number(quote.mean, 2)}{'' if quote.std is None else f' ± {quote.std:.2f}'}{suffix}"
            for suffix, quote in cell.published
            if quote
        ]
        said += [f"Published: {', '.join(numbers)}."] if numbers else []
    return tuple(said)

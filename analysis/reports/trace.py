"""What is behind a place of a table: the seeds, what was chosen on each, the rows by which it was chosen. `sap-report STORE cell`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.store.labels import MISSING, counted, method_label, number, plain
from analysis.store.load import Results
from analysis.store.selection_rule import score_column
from analysis.tables.grid import Grid, Place, grid
from analysis.tables.places import Found, Pick
from analysis.tables.render import Cell, Column, Table
from analysis.tables.spec import Spec
from analysis.tables.units import Unit, unit_of_value
from sap_core.errors import UserError

MOST = 12
"""So many places are told in full; of more only the names."""

_ASSIGNS = "="


def trace(spec: Spec, results: Results, words: Sequence[str], checked: bool = False) -> tuple[Table, ...]:
    """One table per place that all the words describe: `field=value`, a value, or a part of a row's, a column's or a block's label.

    Raises:
        UserError: no place is described, or too many.
    """
    laid = grid(spec, results, checked)
    named = [(_name(laid, key), key, place) for key, place in laid.places.items()]
    meant = [(name, key, place) for name, key, place in named if all(_meant(word, name, place.conditions) for word in words)]
    if not meant:
        labels = list(dict.fromkeys(label for name, _, _ in named for label in name if label))
        raise UserError(
            f"no place of the table '{spec.name}' is described by {' '.join(words)}; "
            f"words are field=value or parts of these labels: {', '.join(labels)}"
        )
    if len(meant) > MOST:
        raise UserError(
            f"{len(meant)} places of the table '{spec.name}' are described by {' '.join(words) or 'no words'}, at most {MOST} are shown; "
            f"give more words, such as {' '.join(_words(meant[0][2].conditions))}"
        )
    return tuple(_told(laid, name, place) for name, _, place in meant)


def _name(laid: Grid, key: tuple[int, int, int]) -> tuple[str, ...]:
    b, r, c = key
    block, row, column = laid.blocks[b], laid.rows[b][r], laid.columns[c]
    return block.label, row.label, column.group, column.label


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


def _told(laid: Grid, name: Sequence[str], place: Place) -> Table:
    title = ", ".join(label for label in name if label)
    found = place.found
    unit = unit_of_value(place.value)
    measure = found.cell.measure if found else "acc"
    rule = score_column(laid.spec.selection.rule, measure)
    return Table(
        name="cell",
        cell=title,
        caption=f"{laid.spec.name}: {title}.",
        columns=(
            Column("seed", "Seed"),
            Column("value", place.value),
            Column("validation", rule),
            Column("chosen", "Chosen", numeric=False),
            Column("rows", "Rows", numeric=False),
            Column("run_id", "Run", numeric=False),
            Column("job_id", "Job", numeric=False),
        ),
        rows=tuple(_row(pick, rule, unit) for pick in found.picks) if found else (),
        notes=_notes(laid, place, found),
    )


def _row(pick: Pick, rule: str, unit: Unit) -> tuple[Cell, ...]:
    row = pick.choice.row
    if unit.kind == "large":
        unit = Unit(unit.factor, 3, unit.suffix, unit.kind)
    value = None if pick.value is None else pick.value * unit.factor
    validation = None if row is None or row[rule] != row[rule] else float(row[rule]) * (100 if rule.endswith("_acc") else 1)
    return (
        Cell(str(pick.seed), pick.seed),
        Cell(number(value, unit.decimals), value),
        Cell(number(validation, 2), validation),
        Cell(_chosen(pick)),
        Cell(_rows(pick)),
        Cell(MISSING if row is None else str(row["run_id"])),
        Cell(MISSING if row is None else str(row["job_id"])),
    )


def _chosen(pick: Pick) -> str:
    """The fields in which the settings of the space differ, as chosen."""
    if pick.choice.problem:
        return pick.choice.problem
    if pick.search is None or pick.choice.kept or pick.choice.row is None:
        return MISSING if pick.choice.row is None else "the unmodified model"
    setting = json.loads(pick.choice.row["settings"])
    varied = [name for name in setting if len({repr(some.get(name)) for some in pick.search.settings}) > 1]
    shown = [f"{name}={plain(value) if isinstance(value := setting[name], float) else value}" for name in varied]
    return ", ".join(shown) or "the only setting"


def _rows(pick: Pick) -> str:
    """`675 rows, 3 failed`, `16 rows of 20 planned`."""
    if pick.search is None:
        return "1 row" if pick.choice.row is not None else "no row"
    rows = pick.search.rows
    failed = int((rows["status"] == "failed").sum())
    told = counted(len(rows), "row") + (f" of {len(pick.search.planned)} planned" if pick.search.missing else "")
    return told + (f", {failed} failed" if failed else "")


def _notes(laid: Grid, place: Place, found: Found | None) -> tuple[str, ...]:
    told = f"Conditions: {' '.join(_words(place.conditions))}."
    if found is None:
        return (told, "Nothing of the kind is in the plan.")
    said = [told, f"Cell of the sweep: {found.cell.name}; {method_label(found.method, found.space)}."]
    if found.other_spaces:
        said.append(f"The store has other spaces of it, too: {', '.join(found.other_spaces)}.")
    if any(pick.search is not None for pick in found.picks):
        said += laid.spec.selection.sentences(found.cell.measure)
    if place.published:
        numbers = [
            f"{number(quote.mean, 2)}{'' if quote.std is None else f' ± {quote.std:.2f}'}{suffix}"
            for suffix, quote in place.published
            if quote
        ]
        said += [f"Published: {', '.join(numbers)}."] if numbers else []
    return tuple(said)

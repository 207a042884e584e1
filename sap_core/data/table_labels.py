"""Labels of tables: which texts are numbers, names or missing, and the class of each.

A spreadsheet or pandas may write the number 3 as "3.0" (where the column once had a gap), " 3" or "3e0", and a missing label as "nan".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sap_core.data.class_names import (
    ORDERS,
    ClassNames,
    canonical,
    check_look_alikes,
    listed_names,
    number,
    order_classes,
    order_note,
    shown,
)
from sap_core.data.names import printable
from sap_core.errors import UserError

MISSING = frozenset(
    {"", "nan", "NaN", "NAN", "-nan", "-NaN", "None", "NONE", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "null", "NULL", "Null", "NaT"}
)
"""Texts that are read as missing values, as in pandas."""

_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d*")


@dataclass(frozen=True)
class Labels:
    """Classes of a table.

    Attributes:
        classes: their names by number; numeric labels are their own names.
        numbers: text of a label -> number of its class; labels of no class are left out.
        remedy: the remedy for labels that are left out, for messages.
    """

    classes: ClassNames
    numbers: Mapping[str, int]
    remedy: str = "fix the table"


def number_labels(columns: Mapping[str, Sequence[str]], num_classes: int | None, class_order: str, root: Path, file: Path) -> Labels:
    """Number the labels of a table.

    If all labels are numbers, they are the numbers of the classes, 0 to `num_classes` - 1, and must be whole; with another `class_order`
    than "text" they are names. Otherwise labels are names, numbered in the order `class_order`.

    Args:
        columns: the columns of labels by name, `label` and perhaps `true_label`, stripped of spaces.
        num_classes: the expected number of classes; None: the labels determine it.
        class_order: see `sap_core.data.class_names.order_classes`.
        root: data folder.
        file: the table, for messages.

    Raises:
        UserError: a label is missing, two names look alike, or the number of names differs. The message names the first such row.
    """
    listed = frozenset(listed_names(root, class_order)) - {""}
    rows = _first_rows(columns)
    _refuse_missing(columns, listed, file)
    _refuse_decimal_commas(rows, file)
    values = {text: number(text) for text in rows}
    numeric = all(value is not None for value in values.values())
    if numeric and class_order == "text":
        highest = max((value for value in values.values() if value is not None), default=0)
        return _class_numbers(rows, int(highest) + 1 if num_classes is None else num_classes)
    # With an order of their own numbers are names, in one form each.
    named = {text: canonical(text) if numeric else text for text in rows}
    notes = check_look_alikes(named.values(), str(file), listed, lambda name: f" ({rows[name]})" if name in rows else "")
    names = set(named.values())
    notes += _mixed_note(values, rows, class_order, file)
    if num_classes is not None and len(names) != num_classes:
        # Both may be the reason of the difference, so that the advice alone would mislead.
        also = f"; {'; '.join(notes)}" if notes else ""
        raise UserError(
            f"table '{printable(file)}' contains {len(names)} different labels, but dataset.num_classes={num_classes}; "
            f"set dataset.num_classes={len(names)} or fix the table{also}"
        )
    ordered = order_classes(names, class_order, root, str(file))
    notes += order_note(ordered, class_order, str(file))
    position = {name: at for at, name in enumerate(ordered)}
    return Labels(ClassNames(tuple(ordered), notes), {text: position[name] for text, name in named.items()})


def _first_rows(columns: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return each text that occurs, with its first row in words."""
    rows: dict[str, str] = {}
    for column, texts in columns.items():
        for row, text in enumerate(texts, start=1):
            rows.setdefault(text, f"row {row}" if column == "label" else f"{column} of row {row}")
    return rows


def _refuse_missing(columns: Mapping[str, Sequence[str]], listed: frozenset[str], file: Path) -> None:
    for column, texts in columns.items():
        # A class that is really named "None" can be listed as such.
        missing = [row for row, text in enumerate(texts, start=1) if text in MISSING and text not in listed]
        if missing:
            text = texts[missing[0] - 1]
            remedy = "fill them in or delete the rows" if column == "label" else f"fill them in or delete the column {column}"
            name = f"; if {shown(text)} is the name of a class, list all classes in a file and set dataset.class_order=FILE" if text else ""
            raise UserError(
                f"{len(missing)} of {len(texts)} rows of table '{printable(file)}' have no {column}, the first is row {missing[0]} "
                f"({f'{column} {shown(text)}' if text else 'empty'}); {remedy}{name}"
            )


def _refuse_decimal_commas(rows: Mapping[str, str], file: Path) -> None:
    # As names they would be sorted as text, "10,0" before "2,0".
    commas = [text for text in rows if _DECIMAL_COMMA.fullmatch(text)]
    if commas and all(number(text.replace(",", ".")) is not None for text in rows):
        raise UserError(
            f"table '{printable(file)}' has labels that are numbers with a comma, such as '{commas[0]}' ({rows[commas[0]]}); write them as "
            "whole numbers without a comma"
        )


def _class_numbers(rows: Mapping[str, str], num_classes: int) -> Labels:
    """Return the labels of a table in which all labels are numbers."""
    numbers = {}
    for text in rows:
        value = number(text)
        if value is not None and 0 <= value < num_classes and value == value.to_integral_value():
            numbers[text] = int(value)
    return Labels(ClassNames(tuple(str(each) for each in range(num_classes))), numbers, _number_remedy(rows, num_classes))


def _number_remedy(rows: Mapping[str, str], num_classes: int) -> str:
    distinct = {canonical(text) for text in rows}
    values = sorted(value for text in distinct if (value := number(text)) is not None)
    # Complete from 0: only the option can be wrong.
    if values == list(range(len(values))):
        return f"set dataset.num_classes={len(values)} or fix the table"
    if len(distinct) == num_classes:
        return (
            f"set dataset.class_order=natural if these {num_classes} numbers are the names of the classes in the order of the network's "
            f"outputs, or fix the table"
        )
    return "fix the table"


def _mixed_note(values: Mapping[str, object], rows: Mapping[str, str], class_order: str, file: Path) -> tuple[str, ...]:
    numbers = [text for text, value in values.items() if value is not None]
    others = [text for text, value in values.items() if value is None]
    if not numbers or not others:
        return ()
    order = f"{class_order} order" if class_order in ORDERS else f"the order of '{class_order}'"
    return (
        f"labels of table '{printable(file)}' are taken as names and numbered in {order}, because {shown(others[0])} ({rows[others[0]]}) "
        f"is no number, although {shown(numbers[0])} ({rows[numbers[0]]}) is one",
    )

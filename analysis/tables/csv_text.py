"""Formats tables as CSV: numbers with full precision, one column per number, ASCII signs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from analysis.store.labels import DASH, MINUS, MISSING
from analysis.tables.render import Column, FormattedCell, Table
from sap_core.text import inert_cell

CELL, TABLE = "cell", "table"
"""Columns of the file: the titles of the table and of the row group; the name of the table, where there are several."""

SPREAD, LOW, HIGH = "_std", "_low", "_high"
"""Endings of the names of columns: the standard deviation of a number, and the ends of its interval."""

_SIGNS = {"≥": ">=", "≤": "<=", "±": "+-"}
_RANGE = re.compile(rf"(?<=\S){DASH}(?=\S)")
_NEGATIVE = re.compile(rf"{MINUS}(?=[\d.])")


def to_csv(tables: Sequence[Table]) -> str:
    """Formats several tables as one CSV file with full precision.

    The column `cell` contains the titles of the table and of the row group. Standard deviations have columns of their own, `..._std`, and
    so have the ends of intervals, `..._low` and `..._high`. What is not a number is a text: a bound (`>= 0.39`), a reason (`no gain`).
    """
    several = len({table.name for table in tables}) > 1
    lines: list[dict[str, str | float | None]] = []
    order: dict[str, None] = {}
    for table in tables:
        keys = _keys(table.columns)
        order |= dict.fromkeys(key + ending for key in keys for ending in ("", SPREAD, LOW, HIGH))
        group = ""
        for number, row in enumerate(table.rows):
            group = table.titles.get(number, group)
            # Groups have no column of their own in CSV; their title is appended to the table's.
            line: dict[str, str | float | None] = {CELL: ", ".join(part for part in (table.cell, group) if part)}
            if several:
                line[TABLE] = table.name
            for key, cell in zip(keys, row, strict=True):
                line |= _fields(key, cell)
            lines.append({key: inert_cell(value) if isinstance(value, str) else value for key, value in line.items()})
    # Tables of one report may differ in their columns; the file has all of them, in the order in which they first occur.
    given = {key for line in lines for key in line}
    # An interval without a number of its own has two columns and no third.
    given -= {key for key in given if key + LOW in given and all(line.get(key) is None for line in lines)}
    used = [CELL, *([TABLE] if several else []), *(key for key in order if key in given)]
    text = io.StringIO()
    # The same line ends on every system, so that files can be compared.
    writer = csv.DictWriter(text, used, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _keys(columns: Sequence[Column]) -> list[str]:
    """The names of the columns, made distinct: of two columns with one name, the file would have only the second."""
    found: list[str] = []
    for column in columns:
        key, count = column.key, 2
        while key in (CELL, TABLE, *found):
            key, count = f"{column.key}_{count}", count + 1
        found.append(key)
    return found


def _fields(key: str, cell: FormattedCell) -> dict[str, str | float | None]:
    """The columns of one cell."""
    line: dict[str, str | float | None] = {}
    # The number itself, not its printed form, so that CSV loses no digits.
    if cell.value is not None or cell.exact or cell.interval is None:
        line[key] = cell.value if cell.value is not None else _plain(cell.exact or cell.text)
    if cell.std is not None:
        line[key + SPREAD] = cell.std
    if cell.interval is not None:
        line[key + LOW], line[key + HIGH] = cell.interval
    return line


def _plain(text: str) -> str | None:
    """A text with ASCII signs, as programs write and read numbers; None for a value that does not exist."""
    if text == MISSING:
        return None
    for sign, plain in _SIGNS.items():
        text = text.replace(sign, plain)
    return _RANGE.sub(" to ", _NEGATIVE.sub("-", text))

"""Options that change how a finished table is printed: its rows, columns, names, decimals, caption and notes. They apply to every table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from analysis.store.labels import number
from analysis.tables.names import DisplayNames, Name, merged, parse_display_names, parse_name, plain_text
from analysis.tables.rank import ranks
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.yaml_checks import check_digit, check_keys, check_list, check_mapping
from sap_core.errors import UserError, unknown

NOTES = {"short": "at most five lines, in LaTeX", "full": "all", "none": "none"}
"""Value of the option `notes` -> which notes are printed."""

FONT_SIZES = ("small", "footnotesize", "scriptsize")

LATEX_ONLY = ("body_only", "siunitx", "label", "font_size")
"""Options that have an effect on LaTeX only."""


@dataclass(frozen=True)
class PrintOptions:
    """The options; the defaults change nothing.

    Columns are named by their name in CSV or their printed header, rows by their printed label.
    """

    columns: tuple[str, ...] = ()  # the columns to print besides the row labels, in this order; all if empty
    rows: tuple[str, ...] = ()  # the rows to print, in this order; all if empty
    drop: tuple[str, ...] = ()  # columns and rows that are left out
    rename: Mapping[str, Name] = field(default_factory=dict)  # printed row label, header or title -> new name
    names: DisplayNames = field(default_factory=dict)
    transpose: bool = False  # the columns become rows
    decimals: int | None = None
    spread: bool = True  # whether ± is printed
    notes: str = ""  # a key of NOTES; short in LaTeX and full in other formats if empty
    caption: Name | None = None  # in place of the table's own
    label: str = ""  # of \label, in place of the table's own
    body_only: bool = False  # the tabular without the float around it
    siunitx: bool = False  # S columns
    font_size: str = ""  # one of FONT_SIZES; the largest that fits if empty

    def data(self) -> dict[str, Any]:
        """The options without defaults, in their form in YAML."""
        found: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, tuple):
                value = list(value)
            elif item.name == "rename":
                value = {old: new.data() for old, new in value.items()}
            elif item.name == "names":
                value = {kind: {name: shown.data() for name, shown in own.items()} for kind, own in value.items()}
            elif isinstance(value, Name):
                value = value.data()
            if value not in ([], {}, "", None) and value is not item.default:
                found[item.name] = value
        return found

    def over(self, other: PrintOptions) -> PrintOptions:
        """These options, and those of `other` where these have their defaults; names are merged."""
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.name in self.data()}
        return replace(other, **{**given, "names": merged(other.names, self.names)})


KEYS = tuple(item.name for item in fields(PrintOptions))


def parse_print_options(data: Any, where: str) -> PrintOptions:
    """Parses the options of a mapping.

    Raises:
        UserError: a key is unknown or a value is invalid.
    """
    given = check_mapping(data or {}, where)
    check_keys(map(str, given), KEYS, where)
    arguments: dict[str, Any] = {}
    for name in ("columns", "rows", "drop"):
        if given.get(name) is not None:
            arguments[name] = tuple(map(str, check_list(given[name], f"'{name}' in {where}")))
    for name in ("transpose", "spread", "body_only", "siunitx"):
        if name in given:
            if not isinstance(given[name], bool):
                raise UserError(f"'{name}' in {where} is {given[name]!r}; it must be true or false")
            arguments[name] = given[name]
    if given.get("decimals") is not None:
        arguments["decimals"] = check_digit(given["decimals"], f"'decimals' in {where}")
    for name, allowed in (("notes", tuple(NOTES)), ("font_size", FONT_SIZES)):
        if given.get(name) is not None:
            if given[name] not in allowed:
                raise unknown(name, given[name], allowed, where)
            arguments[name] = str(given[name])
    if given.get("rename"):
        renamed = check_mapping(given["rename"], f"'rename' in {where}")
        arguments["rename"] = {str(old): parse_name(new, f"the new name of '{old}' in {where}") for old, new in renamed.items()}
    if given.get("names"):
        arguments["names"] = parse_display_names(given["names"], f"'names' in {where}")
    if given.get("caption") is not None:
        arguments["caption"] = parse_name(given["caption"], f"'caption' in {where}")
    if given.get("label") is not None:
        arguments["label"] = _label(given["label"], where)
    return PrintOptions(**arguments)


def _label(value: object, where: str) -> str:
    # These characters would end or break \label.
    if not re.fullmatch(r"[^\s{}\\%#~$^&,_]([^\s{}\\%#~$^&,]*[^\s{}\\%#~$^&,_])?", str(value)):
        raise UserError(f"label '{value}' in {where} cannot be used in \\ref; use letters, digits, '-', ':' and '_' inside, as in tab:main")
    return str(value)


def apply(tables: Sequence[Table], options: PrintOptions) -> tuple[Table, ...]:
    """Applies the options that change a table in every format.

    Raises:
        UserError: a row or column does not exist in any of the tables, or none is left.
    """
    for name, allowed in (("columns", _column_names), ("rows", _row_names), ("drop", _all_names), ("rename", _printed_names)):
        _check(getattr(options, name), tables, allowed, name)
    return tuple(_apply(table, options) for table in tables)


def _apply(table: Table, options: PrintOptions) -> Table:
    table = _selected(table, options)
    if options.decimals is not None or not options.spread:
        table = _formatted(table, options)
    if options.columns or options.rows or options.drop or options.decimals is not None:
        table = _ranked(table)
    if options.rename:
        table = _renamed(table, options.rename)
    if options.transpose:
        table = transposed(table)
    if options.caption:
        table = replace(table, caption=options.caption.printed(table.caption), own_caption=True)
    return replace(table, notes=()) if options.notes == "none" else table


def _check(given: Sequence[str] | Mapping[str, Name], tables: Sequence[Table], allowed: Callable[[Table], list[str]], what: str) -> None:
    known = list(dict.fromkeys(name for table in tables for name in allowed(table)))
    lower = set(map(_key, known))
    for name in given:
        if name.lower() not in lower:
            kind = {"columns": "column", "rows": "row", "drop": "row or column", "rename": "row, column or title"}[what]
            raise unknown(kind, name, map(plain_text, known), f"'{what}' of the table '{tables[0].name}'" if tables else "")


def _column_names(table: Table) -> list[str]:
    names = [name for column in table.columns[1:] for name in _names_of(column)]
    return list(dict.fromkeys(name for name in names if name))


def _names_of(column: Column) -> tuple[str, ...]:
    return (column.key, column.head, f"{column.group}: {column.head}" if column.group else column.head, column.group)


def _row_names(table: Table) -> list[str]:
    return list(dict.fromkeys(name for name in (*(row[0].text for row in table.rows), *table.titles.values()) if name))


def _all_names(table: Table) -> list[str]:
    return [*_column_names(table), *_row_names(table)]


def _printed_names(table: Table) -> list[str]:
    heads = [text for column in table.columns for text in (column.head, column.group)]
    return list(dict.fromkeys(text for text in (*heads, *_row_names(table)) if text))


def _selected(table: Table, options: PrintOptions) -> Table:
    """The chosen rows and columns, in the given order."""
    if not (options.columns or options.rows or options.drop):
        return table
    dropped = {name.lower() for name in options.drop}
    columns = [n for n in range(1, len(table.columns)) if not dropped & set(map(_key, _names_of(table.columns[n])))]
    if options.columns:
        wanted = [name.lower() for name in options.columns]
        columns = sorted(
            (n for n in columns if _place(wanted, _names_of(table.columns[n])) is not None),
            key=lambda n: _place(wanted, _names_of(table.columns[n])) or 0,
        )
    groups = _titles_by_row(table)
    rows = [n for n, row in enumerate(table.rows) if not dropped & {_key(row[0].text), _key(groups[n])}]
    if options.rows:
        wanted = [name.lower() for name in options.rows]
        rows = [n for n in rows if _place(wanted, (table.rows[n][0].text, groups[n])) is not None]
        # Within each row group, so that titles stay above their rows.
        order = {title: index for index, title in enumerate(dict.fromkeys(groups))}
        rows.sort(key=lambda n: (order[groups[n]], _place(wanted, (table.rows[n][0].text, groups[n])) or 0))
    if not rows or not columns:
        raise UserError(f"the options 'columns', 'rows' and 'drop' leave no {'row' if columns else 'column'} of the table '{table.name}'")
    if rows == list(range(len(table.rows))) and columns == list(range(1, len(table.columns))):
        return table
    left_out = len(rows) < len(table.rows) or len(columns) < len(table.columns) - 1
    averaged = any("average" in table.columns[n].key for n in columns) or any(table.rows[n][0].text == "Average" for n in rows)
    more = (
        ("An average is over all rows or columns of the table, including those that are not printed here.",)
        if left_out and averaged
        else ()
    )
    return replace(
        table,
        columns=(table.columns[0], *(table.columns[n] for n in columns)),
        rows=tuple((table.rows[n][0], *(table.rows[n][column] for column in columns)) for n in rows),
        notes=(*more, *table.notes),
        rules=frozenset(new for new, old in enumerate(rows) if new and any(at in table.rules for at in range(rows[new - 1] + 1, old + 1))),
        titles={new: groups[old] for new, old in enumerate(rows) if groups[old] and (not new or groups[rows[new - 1]] != groups[old])},
    )


def _key(name: str) -> str:
    """The form in which names are compared: a name that is LaTeX code by the text that it stands for."""
    return plain_text(name).lower()


def _titles_by_row(table: Table) -> list[str]:
    title, found = "", []
    for at in range(len(table.rows)):
        title = table.titles.get(at, title)
        found.append(title)
    return found


def _place(wanted: Sequence[str], names: Sequence[str]) -> int | None:
    found = [wanted.index(_key(name)) for name in names if _key(name) in wanted]
    return min(found) if found else None


_NUMBER = re.compile(r"(?P<sign>[+\u2212]?)(?P<mean>\d[\d,]*(\.\d+)?)(?P<spread> ± \d[\d,]*(\.\d+)?)?")


def _formatted(table: Table, options: PrintOptions) -> Table:
    """Numbers with other decimals or without ±. Whole numbers, such as counts of settings, keep their form."""

    def formatted(column: Column, cell: FormattedCell) -> FormattedCell:
        found = _NUMBER.fullmatch(cell.text)
        if found is None or cell.value is None or not column.numeric:
            return cell
        spread = found["spread"] if options.spread else None
        if options.decimals is None or not ("." in found["mean"] or cell.value != round(cell.value)):
            return replace(cell, text=found["sign"] + found["mean"] + (spread or ""), std=cell.std if options.spread else None)
        text = number(
            cell.value, options.decimals, sign=any(row[at].text.startswith("+") for row in table.rows for at in [index[column.key]])
        )
        if spread and cell.std is not None:
            text += f" ± {cell.std:.{options.decimals}f}"
        return replace(cell, text=text, std=cell.std if options.spread else None)

    index = {column.key: n for n, column in enumerate(table.columns)}
    rows = tuple(tuple(formatted(column, cell) for column, cell in zip(table.columns, row, strict=True)) for row in table.rows)
    return replace(table, rows=rows)


def _ranked(table: Table) -> Table:
    """Ranks the printed contenders of each column again, within each row group, because rows or decimals may have changed."""
    body = [list(row) for row in table.rows]
    starts = sorted({0, *table.titles})
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        for column in range(len(table.columns)):
            own = [row for row in range(start, end) if body[row][column].contends]
            # Values are compared as printed.
            printed = [_NUMBER.match(body[row][column].text) for row in own]
            decimals = max((len(found["mean"].partition(".")[2]) for found in printed if found), default=0)
            for row, rank in zip(own, ranks([body[row][column].value for row in own], decimals), strict=True):
                body[row][column] = replace(body[row][column], rank=rank)
    return replace(table, rows=tuple(map(tuple, body)))


def _renamed(table: Table, rename: Mapping[str, Name]) -> Table:
    new = {old.lower(): name for old, name in rename.items()}

    def name(text: str) -> str:
        return new[_key(text)].printed(plain_text(text)) if _key(text) in new else text

    return replace(
        table,
        columns=tuple(replace(column, head=name(column.head), group=name(column.group)) for column in table.columns),
        rows=tuple((replace(row[0], text=name(row[0].text)), *row[1:]) for row in table.rows),
        titles={at: name(title) for at, title in table.titles.items()},
    )


def transposed(table: Table) -> Table:
    """The columns as rows and the rows as columns; row groups become column groups and the reverse."""
    columns = [replace(table.columns[0], head="", group="")]
    for at, (row, title) in enumerate(zip(table.rows, _titles_by_row(table), strict=True), start=1):
        key = re.sub(r"[^a-z0-9.]+", "_", f"{title}_{row[0].text}".lower()).strip("_") or f"row_{at}"
        columns.append(Column(key, row[0].text + row[0].marks, title))
    rows, titles, before = [], {}, ""
    for at, column in enumerate(table.columns[1:], start=1):
        if column.group != before:
            # A column without a group ends the group before it.
            titles[at - 1], before = column.group, column.group
        rows.append((FormattedCell(column.head or column.key), *(row[at] for row in table.rows)))
    return replace(table, columns=tuple(columns), rows=tuple(rows), rules=frozenset(), titles=titles)

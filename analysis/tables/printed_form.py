"""Applies the printing options (`print_options`) that change a table in every format: rows, columns, names, decimals, caption."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from analysis.store.labels import number
from analysis.tables.names import Name, plain_text
from analysis.tables.print_options import PrintOptions
from analysis.tables.rank import ranks
from analysis.tables.render import Column, FormattedCell, Table
from sap_core.errors import UserError, unknown


def apply(tables: Sequence[Table], options: PrintOptions) -> tuple[Table, ...]:
    """Applies the options that change a table in every format.

    Raises:
        UserError: a row or column does not exist in any of the tables, or none is left; or one caption is given for several kinds.
    """
    for name, allowed in (("columns", _column_names), ("rows", _row_names), ("drop", _all_names), ("rename", _printed_names)):
        _check(getattr(options, name), tables, allowed, name)
    made: list[Table] = []
    nothing_left: UserError | None = None
    for table in tables:
        try:
            made.append(_selected(table, options))
        except UserError as error:
            nothing_left = error
    # Tables of several kinds have different columns; those without any of the named ones are left out.
    if nothing_left and not (made and len({table.name for table in tables}) > 1):
        raise nothing_left
    if options.caption and len({table.name for table in made}) > 1:
        raise UserError(
            f"one caption cannot stand over {len(made)} tables of different contents; "
            "name the part that it is for, as in sap-report STORE headline cost"
        )
    return tuple(_apply(table, options, len(made) > 1) for table in made)


def _apply(table: Table, options: PrintOptions, several: bool) -> Table:
    if options.decimals is not None or not options.spread:
        table = _formatted(table, options)
    if options.columns or options.rows or options.drop or options.decimals is not None:
        table = _ranked(table)
    if options.rename:
        table = _renamed(table, options.rename)
    if options.transpose:
        table = transposed(table)
    if options.caption:
        caption = options.caption.printed(table.caption)
        # Tables of several cells need different captions.
        table = replace(table, caption=f"{caption.rstrip('.')} ({table.cell})." if several else caption, own_caption=True)
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
    """The form in which names are compared: a name that is LaTeX code by its plain text."""
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


_DIGITS = re.compile("[1-9]")
_NUMBER = re.compile(r"(?P<bound>[≥≤] )?(?P<sign>[+\u2212]?)(?P<mean>\d[\d,]*(\.\d+)?)(?P<spread> ± \d[\d,]*(\.\d+)?)?")


def _formatted(table: Table, options: PrintOptions) -> Table:
    """Numbers and bounds with other decimals or without ±. Whole numbers, such as counts of settings, keep their form."""
    signed = [any(row[at].text.startswith("+") for row in table.rows) for at in range(len(table.columns))]
    rows = tuple(
        tuple(
            _reformatted(cell, options, sign) if column.numeric else cell
            for column, cell, sign in zip(table.columns, row, signed, strict=True)
        )
        for row in table.rows
    )
    return replace(table, rows=rows)


def _reformatted(cell: FormattedCell, options: PrintOptions, sign: bool) -> FormattedCell:
    found = _NUMBER.fullmatch(cell.text)
    if found is None:
        return cell
    bound = found["bound"] or ""
    # The number behind a bound is in its text.
    value = float((cell.exact or cell.text).removeprefix(bound).replace(",", "")) if bound else cell.value
    if value is None:
        return cell
    spread = found["spread"] if options.spread else None
    text = bound + found["sign"] + found["mean"] + (spread or "")
    if options.decimals is not None and ("." in found["mean"] or value != round(value)):
        shorter = number(value, options.decimals, sign)
        # A number is not printed as zero if it was not before.
        if bool(_DIGITS.search(shorter)) or not _DIGITS.search(found["mean"]):
            text = bound + shorter + (f" ± {cell.std:.{options.decimals}f}" if spread and cell.std is not None else "")
    return replace(cell, text=text, std=cell.std if options.spread else None)


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

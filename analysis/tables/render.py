"""The data type of a formatted table and two output formats, Markdown and terminal text. LaTeX is in `latex`, CSV in `csv_text`.

The modules of `analysis.tables` build a table once; the formats differ only in markup. Text is escaped by the format that needs it.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from analysis.store.labels import LABELS, MINUS, rule_label
from sap_core.text import one_line


@dataclass(frozen=True)
class Column:
    """A column: its name in CSV (`key`, with the unit), its printed header, and the header that it shares with others of its group."""

    key: str
    head: str
    group: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class FormattedCell:
    """One cell: the printed text, the number behind it, and its markup."""

    text: str
    value: float | None = None
    std: float | None = None
    marks: str = ""  # printed after the text
    rank: int = 0  # 1 best (bold), 2 second best (underlined), 0 none
    contends: bool = False  # whether it was compared with others of its column
    interval: tuple[float, float] | None = None  # the interval or range that the text contains; an end may be infinite
    exact: str = ""  # what CSV has in place of the text of a cell without a number: a bound with full precision


@dataclass(frozen=True)
class Table:
    """One formatted table."""

    name: str  # used in file names
    cell: str  # the cell of the sweep, or the title of the part
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[FormattedCell, ...], ...]
    notes: tuple[str, ...] = ()
    rules: frozenset[int] = frozenset()  # indices of the rows above which a horizontal rule is drawn
    titles: Mapping[int, str] = field(default_factory=dict)  # index of the first row of a row group -> its title
    own_caption: bool = False  # whether the user gave the caption, to which nothing is then added


_RULES = re.compile(rf"\b({'|'.join(LABELS['rule'])})\b")
_NEGATIVE = re.compile(r"(?<![\w.\u2013\u2212-])-(?=\.?\d)")
"""A hyphen in front of a number. One behind a letter, a digit or a point belongs to a name, a date or an exponent."""


def paper_text(text: str) -> str:
    """The text as a paper prints it: selection rules in words, negative numbers with a minus."""
    return _NEGATIVE.sub(MINUS, _RULES.sub(lambda found: rule_label(found[1]), text))


def readable(table: Table) -> Table:
    """The table with `paper_text` in place of every printed text. Names in CSV and numbers stay as they are."""
    return replace(
        table,
        caption=table.caption if table.own_caption else paper_text(table.caption),
        columns=tuple(replace(column, head=paper_text(column.head), group=paper_text(column.group)) for column in table.columns),
        rows=tuple(tuple(replace(cell, text=paper_text(cell.text)) for cell in row) for row in table.rows),
        # The name of a rule may begin a note.
        notes=tuple(
            text[:1].upper() + text[1:] if note.startswith(tuple(LABELS["rule"])) else text
            for note in table.notes
            for text in [paper_text(note)]
        ),
        titles={at: paper_text(title) for at, title in table.titles.items()},
    )


def markdown(table: Table) -> str:
    """Formats a table as GitHub Markdown: the caption above, the notes below, and group headers as part of the column headers."""
    table = readable(table)
    heads = [escape_markdown(f"{column.group}: {column.head}" if column.group else column.head) for column in table.columns]
    bar = ["---:" if column.numeric else ":---" for column in table.columns]
    body = []
    for number, row in enumerate(table.rows):
        # Markdown has no rows that span columns, so a title is a row with empty cells.
        if number in table.titles:
            body.append([f"*{escape_markdown(table.titles[number])}*", *([""] * (len(row) - 1))])
        body.append([_markdown_cell(cell) for cell in row])
    lines = ["| " + " | ".join(line) + " |" for line in (heads, bar, *body)]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join(
        [
            f"**{escape_markdown(caption_with_ranks(table, 'best in bold, second underlined'))}**",
            "",
            *lines,
            *(["", *notes] if notes else []),
            "",
        ]
    )


def terminal(table: Table, width: int = 120) -> str:
    """Formats a table as plain text. Columns that exceed `width` continue in a block below, which repeats the first column."""
    table = readable(table)
    # Columns are padded before they are folded, because folding needs their widths.
    padded = [aligned_texts(column, [row[number] for row in table.rows]) for number, column in enumerate(table.columns)]
    columns = _widened(table.columns, padded)
    blocks = [
        _terminal_block(table, columns, block) for block in fold_columns(table.columns, [len(column[0]) for column in columns], width)
    ]
    notes = [line for note in table.notes for line in textwrap.wrap(note, width, initial_indent="- ", subsequent_indent="  ")]
    return "\n".join(
        [
            *textwrap.wrap(caption_with_ranks(table, "* best, ' second"), width),
            "",
            "\n\n".join(blocks),
            *(["", *notes] if notes else []),
            "",
        ]
    )


def flat(table: Table) -> Table:
    """Moves the titles of row groups into a first column, for formats whose rows can be sorted."""
    if not table.titles:
        return table
    title, rows = "", []
    for number, row in enumerate(table.rows):
        title = table.titles.get(number, title)
        rows.append((FormattedCell(title), *row))
    return replace(table, columns=(Column("row_group", "", numeric=False), *table.columns), rows=tuple(rows), titles={})


def escape_markdown(text: str) -> str:
    """Escapes the special characters of Markdown."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", one_line(text))


def caption_with_ranks(table: Table, ranks: str) -> str:
    """The caption; if any cell is ranked, with a sentence on how ranks are marked."""
    if table.own_caption:
        return table.caption
    # A legend for marks that do not occur would confuse.
    ranked = any(cell.rank for row in table.rows for cell in row)
    return f"{table.caption} Among contenders: {ranks}." if ranked else table.caption


def _markdown_cell(cell: FormattedCell) -> str:
    text = escape_markdown(cell.text)
    text = f"**{text}**" if cell.rank == 1 else f"<u>{text}</u>" if cell.rank == 2 else text
    return text + cell.marks


def aligned_texts(column: Column, cells: Sequence[FormattedCell]) -> list[str]:
    """The header and the cells of a column, padded to equal length."""
    # Marks are padded apart from the numbers, so that digits stay aligned.
    signs = [("", "*", "'")[cell.rank] + cell.marks for cell in cells]
    sign_width = max(map(len, signs), default=0)
    texts = [cell.text + sign.ljust(sign_width) for cell, sign in zip(cells, signs, strict=True)]
    width = max(len(text) for text in (column.head, *texts))
    return [text.rjust(width) if column.numeric else text.ljust(width) for text in (column.head, *texts)]


def _widened(columns: Sequence[Column], texts: Sequence[list[str]]) -> list[list[str]]:
    """Widens the first column of a group if the group's header is longer than its columns."""
    wide, start = list(texts), 0
    for group, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        # Two spaces between columns.
        available = sum(len(texts[number][0]) + 2 for number in range(start, start + size)) - 2
        extra = len(group) + 4 - available if group else 0
        if extra > 0:
            wide[start] = [" " * extra + text for text in texts[start]]
        start += size
    return wide


def fold_columns(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[list[int]]:
    """Distributes columns over blocks no wider than `width` if possible, as few and as equal in width as possible.

    Every block starts with column 0, which contains the row labels; columns of one group are never separated.

    Args:
        columns: the columns.
        widths: their widths in characters.
        width: the width of a block in characters.
    """
    blocks = _folded(columns, widths, width)
    # The narrowest width that needs no more blocks, so that the last block does not contain a single column.
    narrowest = -(-(sum(widths) + 2 * len(widths)) // len(blocks))
    equal = (_folded(columns, widths, narrower) for narrower in range(narrowest, width))
    return next((found for found in equal if len(found) <= len(blocks)), blocks)


def _folded(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[list[int]]:
    blocks, used = [[0]], widths[0]
    # A column without a group is a run of its own: its number serves as the key, which is unique.
    for _, members in groupby(range(1, len(columns)), key=lambda number: columns[number].group or number):
        # A group is moved to the next block as a whole, because its header spans its columns.
        run = list(members)
        run_width = sum(2 + widths[number] for number in run)
        # A block keeps at least one column besides the labels, or a wide group would never be printed.
        if used + run_width > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1] += run
        used += run_width
    return blocks


def _terminal_block(table: Table, columns: Sequence[Sequence[str]], block: Sequence[int]) -> str:
    lines = ["  ".join(columns[number][0] for number in block)]
    if any(table.columns[number].group for number in block):
        lines.insert(0, _terminal_groups(table, columns, block))
    rule = "-" * len(lines[-1])
    lines.append(rule)
    for row_number in range(len(table.rows)):
        if row_number in table.rules or (row_number in table.titles and row_number):
            lines.append(rule)
        if row_number in table.titles:
            lines.append(f"[{table.titles[row_number]}]")
        lines.append("  ".join(columns[number][row_number + 1] for number in block))
    return "\n".join(line.rstrip() for line in lines)


def _terminal_groups(table: Table, columns: Sequence[Sequence[str]], block: Sequence[int]) -> str:
    parts = []
    for group, members in groupby(block, key=lambda number: table.columns[number].group):
        width = sum(len(columns[number][0]) + 2 for number in members) - 2
        parts.append(f" {group} ".center(width, "·") if group else " " * width)
    return "  ".join(parts)

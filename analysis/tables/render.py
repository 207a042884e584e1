"""A table of cells, and its four forms: LaTeX, Markdown, terminal text and CSV.

A table is built once, by a module of `analysis.tables`; the forms differ in ink alone. Text is escaped on its way to LaTeX and Markdown.
"""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

SPREAD = "_std"

_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "<": r"\textless{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$",
    "\u2013": "--", "\u2212": "$-$", "²": r"$^{2}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "": r"$^{\S}$",
}  # fmt: skip


@dataclass(frozen=True)
class Column:
    """A column: `key` names it in CSV (with its unit), `head` is shown, columns with one `group` stand under a common header."""

    key: str
    head: str
    group: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Cell:
    """What stands in one place: the text shown, the marks behind it, the number it came from, and its rank (1 best, 2 second, 0 none)."""

    text: str
    value: float | None = None
    std: float | None = None
    marks: str = ""
    rank: int = 0


@dataclass(frozen=True)
class Table:
    """One table. `rules` are the rows (by number) that open a new block."""

    name: str  # a file-name word
    cell: str  # the cell of the sweep it is about
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    rules: frozenset[int] = frozenset()
    titles: Mapping[int, str] = field(default_factory=dict)  # rows (by number) that open a block with a title of its own


@dataclass(frozen=True)
class _Page:
    """What fits: characters across and lines down, about, in a size of print."""

    environment: str
    across: str  # the length that the table spans
    size: str
    room: int
    lines: int
    tight: bool = False


_PAGES = {
    "two": (_Page("table*", "textwidth", "small", 112, 38), _Page("table*", "textwidth", "scriptsize", 160, 50, tight=True)),
    "one": (_Page("table", "columnwidth", "footnotesize", 52, 34), _Page("table", "columnwidth", "scriptsize", 72, 38, tight=True)),
}
"""By width: in ordinary and in small print, for tables that would not fit a page otherwise."""


def latex(table: Table, width: str = "two") -> str:
    """A `table*` over two columns of text, or (width="one") a `table` in one, with booktabs rules.

    Needs the packages booktabs and graphicx. Columns that do not fit the width go on in a second tabular, which repeats the first column;
    what is still too wide is shrunk. What fits no page in ordinary print is set smaller, and goes on in a second float where it must.
    """
    widths = [len(_padded(column, [row[number] for row in table.rows])[0]) for number, column in enumerate(table.columns)]
    page, blocks = _PAGES[width][0], _fold(table.columns, widths, _PAGES[width][0].room)
    depth = len(table.rows) + len(table.titles) + 4
    if depth * len(blocks) > page.lines:
        page, blocks = _PAGES[width][1], _fold(table.columns, widths, _PAGES[width][1].room)
    each = max(1, page.lines // depth)
    floats = [blocks[start : start + each] for start in range(0, len(blocks), each)]
    return "\n".join(_latex_float(table, some, page, number, len(floats)) for number, some in enumerate(floats, start=1))


def _latex_float(table: Table, blocks: Sequence[Sequence[int]], page: _Page, number: int, of: int) -> str:
    """One float: the first has the caption and the label, the last the notes."""
    caption = (
        _caption(table, "best in bold, second underlined") if number == 1 else f"{table.caption.partition('. ')[0].rstrip('.')}, continued."
    )
    name = re.sub(r"[^a-zA-Z0-9]+", "-", f"{table.name}-{table.cell}") + (f"-{number}" if number > 1 else "")
    lines = [
        rf"\begin{{{page.environment}}}[t]",
        rf"  \centering\{page.size}" + (r"\setlength{\tabcolsep}{3pt}" if page.tight else ""),
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{tab:{name}}}",
        "\n  \\par\\medskip\n".join(_latex_block(table, block, page.across) for block in blocks),
        r"  \par\smallskip",
    ]
    small = "scriptsize" if page.tight else "footnotesize"
    notes = [rf"  {{\{small}\raggedright", *(f"  {escape_latex(note)}\\par" for note in table.notes), "  }"]
    return "\n".join([*lines, *(notes if table.notes and number == of else []), rf"\end{{{page.environment}}}", ""])


def _latex_block(table: Table, block: Sequence[int], width: str) -> str:
    """One tabular with the columns of `block`."""
    columns = [table.columns[number] for number in block]
    lines = [
        rf"  \resizebox{{\ifdim\width>\{width}\{width}\else\width\fi}}{{!}}{{%",
        rf"  \begin{{tabular}}{{{''.join('r' if column.numeric else 'l' for column in columns)}}}",
        r"    \toprule",
        *_latex_groups(columns),
        "    " + " & ".join(escape_latex(column.head) for column in columns) + r" \\",
        r"    \midrule",
    ]
    for number, row in enumerate(table.rows):
        if number in table.rules or (number in table.titles and number):
            lines.append(r"    \midrule")
        if number in table.titles:
            lines.append(rf"    \multicolumn{{{len(block)}}}{{l}}{{\emph{{{escape_latex(table.titles[number])}}}}} \\")
        lines.append("    " + " & ".join(_latex_cell(row[column]) for column in block) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}}"])


def markdown(table: Table) -> str:
    """A GitHub table with its caption above and its notes below; group headers are written into the column heads."""
    heads = [escape_markdown(f"{column.group}: {column.head}" if column.group else column.head) for column in table.columns]
    bar = ["---:" if column.numeric else ":---" for column in table.columns]
    body = []
    for number, row in enumerate(table.rows):
        if number in table.titles:
            body.append([f"*{escape_markdown(table.titles[number])}*", *([""] * (len(row) - 1))])
        body.append([_markdown_cell(cell) for cell in row])
    lines = ["| " + " | ".join(line) + " |" for line in (heads, bar, *body)]
    notes = [f"- {escape_markdown(note)}" for note in table.notes]
    return "\n".join(
        [f"**{escape_markdown(_caption(table, 'best in bold, second underlined'))}**", "", *lines, *(["", *notes] if notes else []), ""]
    )


def terminal(table: Table, width: int = 120) -> str:
    """Plain text. Columns that do not fit `width` go on in a block below, which repeats the first column."""
    padded = [_padded(column, [row[number] for row in table.rows]) for number, column in enumerate(table.columns)]
    columns = _roomy(table.columns, padded)
    blocks = [_terminal_block(table, columns, block) for block in _fold(table.columns, [len(column[0]) for column in columns], width)]
    notes = [line for note in table.notes for line in textwrap.wrap(note, width, initial_indent="- ", subsequent_indent="  ")]
    return "\n".join([*textwrap.wrap(_caption(table, "* best, ' second"), width), "", "\n\n".join(blocks), "", *notes, ""])


def flat(table: Table) -> Table:
    """The table with the titles of its blocks in a first column, for forms whose rows can be sorted."""
    if not table.titles:
        return table
    title, rows = "", []
    for number, row in enumerate(table.rows):
        title = table.titles.get(number, title)
        rows.append((Cell(title), *row))
    return replace(table, columns=(Column("block", "", numeric=False), *table.columns), rows=tuple(rows), titles={})


def to_csv(tables: Sequence[Table]) -> str:
    """All tables in one, with the table's title and the row group's as first column and full precision.

    Numbers have their spread in a column of its own.
    """
    lines = []
    for table in tables:
        group = ""
        for number, row in enumerate(table.rows):
            group = table.titles.get(number, group)
            line: dict[str, str | float | None] = {"cell": ", ".join(part for part in (table.cell, group) if part)}
            for column, cell in zip(table.columns, row, strict=True):
                line[column.key] = cell.value if column.numeric else cell.text
                if cell.std is not None:
                    line[column.key + SPREAD] = cell.std
            lines.append(line)
    keys = list(dict.fromkeys(key for table in tables for column in table.columns for key in (column.key, column.key + SPREAD)))
    used = ["cell", *(key for key in keys if any(key in line for line in lines))]
    text = io.StringIO()
    writer = csv.DictWriter(text, used, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def escape_latex(text: str) -> str:
    """The text with every character that LaTeX reads as a command written out."""
    return "".join(_LATEX.get(character, character) for character in text)


def escape_markdown(text: str) -> str:
    """The text with Markdown's special characters escaped."""
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def _caption(table: Table, ranks: str) -> str:
    """The caption with, where something is ranked, how the form shows it."""
    ranked = any(cell.rank for row in table.rows for cell in row)
    return f"{table.caption} Among contenders: {ranks}." if ranked else table.caption


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line of group headers and the trimmed rules below it; nothing when no column has a group."""
    if not any(column.group for column in columns):
        return []
    heads, rules, start = [], [], 1
    for group, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        heads.append(rf"\multicolumn{{{size}}}{{c}}{{{escape_latex(group)}}}" if group else " & ".join([""] * size))
        if group:
            rules.append(rf"\cmidrule(lr){{{start}-{start + size - 1}}}")
        start += size
    return ["    " + " & ".join(heads) + r" \\", "    " + " ".join(rules)]


def _latex_cell(cell: Cell) -> str:
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text
    # marks take no room, so that the digits of a column stay aligned
    return text + (rf"\rlap{{{escape_latex(cell.marks)}}}" if cell.marks else "")


def _markdown_cell(cell: Cell) -> str:
    text = escape_markdown(cell.text)
    text = f"**{text}**" if cell.rank == 1 else f"<u>{text}</u>" if cell.rank == 2 else text
    return text + cell.marks


def _padded(column: Column, cells: Sequence[Cell]) -> list[str]:
    """Head and cells of a column as texts of one length."""
    signs = [("", "*", "'")[cell.rank] + cell.marks for cell in cells]
    room = max(map(len, signs), default=0)
    texts = [cell.text + sign.ljust(room) for cell, sign in zip(cells, signs, strict=True)]
    width = max(len(text) for text in (column.head, *texts))
    return [text.rjust(width) if column.numeric else text.ljust(width) for text in (column.head, *texts)]


def _roomy(columns: Sequence[Column], texts: Sequence[list[str]]) -> list[list[str]]:
    """The texts, the first column of a group widened where the group's header needs more room than its columns have."""
    wide, start = list(texts), 0
    for group, members in groupby(columns, key=lambda column: column.group):
        size = len(list(members))
        have = sum(len(texts[number][0]) + 2 for number in range(start, start + size)) - 2
        lack = len(group) + 4 - have if group else 0
        if lack > 0:
            wide[start] = [" " * lack + text for text in texts[start]]
        start += size
    return wide


def _fold(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[list[int]]:
    """Column numbers by block, each block opened by column 0 and no wider than `room` where that is possible; groups stay whole."""
    blocks, used = [[0]], widths[0]
    for _, members in groupby(range(1, len(columns)), key=lambda number: columns[number].group or number):
        run = list(members)
        width = sum(2 + widths[number] for number in run)
        if used + width > room and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1] += run
        used += width
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

"""Formats tables as LaTeX, with booktabs rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from analysis.tables.render import Column, FormattedCell, Table, aligned_texts, caption_with_ranks, fold_columns
from sap_core.text import one_line

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "<": r"\textless{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$",
    "\u2013": "--", "\u2212": "$-$", "²": r"$^{2}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$",
}  # fmt: skip


@dataclass(frozen=True)
class _FloatFormat:
    """The environment and font size of a float, with the approximate number of characters and lines that fit."""

    environment: str
    width: str  # the LaTeX length that the table spans
    font_size: str
    characters: int  # per line
    lines: int
    tight: bool = False  # reduces the space between columns


_FLOAT_FORMATS = {
    "two": (_FloatFormat("table*", "textwidth", "small", 112, 38), _FloatFormat("table*", "textwidth", "scriptsize", 160, 50, tight=True)),
    "one": (
        _FloatFormat("table", "columnwidth", "footnotesize", 52, 34),
        _FloatFormat("table", "columnwidth", "scriptsize", 72, 38, tight=True),
    ),
}
"""Width -> formats in normal and in small print; the latter is for tables that would not fit a page."""


def latex(table: Table, width: str = "two") -> str:
    """Formats a table as a `table*` over two columns of text, or (width="one") as a `table` in one column, with booktabs rules.

    Requires the packages booktabs and graphicx. Columns that exceed the width continue in a second tabular, which repeats the first column;
    a tabular that is still too wide is scaled down. A table that exceeds a page is set in small print, then continued in a second float.
    """
    # Widths are estimated in characters, because only LaTeX knows the font.
    widths = [len(aligned_texts(column, [row[number] for row in table.rows])[0]) for number, column in enumerate(table.columns)]
    layout, blocks = _FLOAT_FORMATS[width][0], fold_columns(table.columns, widths, _FLOAT_FORMATS[width][0].characters)
    depth = len(table.rows) + len(table.titles) + 4
    # LaTeX cannot break a float over pages, so the print is reduced first and the table split last.
    if depth * len(blocks) > layout.lines:
        layout, blocks = _FLOAT_FORMATS[width][1], fold_columns(table.columns, widths, _FLOAT_FORMATS[width][1].characters)
    # A block is never split by rows, so a float has at least one.
    blocks_per_float = max(1, layout.lines // depth)
    floats = [blocks[start : start + blocks_per_float] for start in range(0, len(blocks), blocks_per_float)]
    return "\n".join(_latex_float(table, own, layout, number, len(floats)) for number, own in enumerate(floats, start=1))


def _latex_float(table: Table, blocks: Sequence[Sequence[int]], layout: _FloatFormat, number: int, total: int) -> str:
    """One float; the first has the full caption, the last the notes."""
    # Only the first float has the whole caption; the others repeat its first sentence.
    caption = (
        caption_with_ranks(table, "best in bold, second underlined")
        if number == 1
        else f"{table.caption.partition('. ')[0].rstrip('.')}, continued."
    )
    # Special characters would break a LaTeX label.
    name = re.sub(r"[^a-zA-Z0-9]+", "-", f"{table.name}-{table.cell}") + (f"-{number}" if number > 1 else "")
    # [t], because LaTeX places floats over two columns at the top of a page only.
    lines = [
        rf"\begin{{{layout.environment}}}[t]",
        rf"  \centering\{layout.font_size}" + (r"\setlength{\tabcolsep}{3pt}" if layout.tight else ""),
        rf"  \caption{{{escape_latex(caption)}}}",
        rf"  \label{{tab:{name}}}",
        "\n  \\par\\medskip\n".join(_latex_block(table, block, layout.width) for block in blocks),
        r"  \par\smallskip",
    ]
    small = "scriptsize" if layout.tight else "footnotesize"
    notes = [rf"  {{\{small}\raggedright", *(f"  {escape_latex(note)}\\par" for note in table.notes), "  }"]
    return "\n".join([*lines, *(notes if table.notes and number == total else []), rf"\end{{{layout.environment}}}", ""])


def _latex_block(table: Table, block: Sequence[int], width: str) -> str:
    """One tabular with the columns of `block`, by index."""
    columns = [table.columns[number] for number in block]
    lines = [
        # Scaled only if it is too wide: \resizebox to the full width would enlarge narrow tables.
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


def escape_latex(text: str) -> str:
    """Escapes the special characters of LaTeX, and replaces the other characters outside ASCII that tables use."""
    # On one line: an empty line would end a cell, and a text after a line break a comment.
    return "".join(_ESCAPES.get(character, character) for character in one_line(text))


def _latex_groups(columns: Sequence[Column]) -> list[str]:
    """The line of group headers and the rules below it; empty if no column has a group."""
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


def _latex_cell(cell: FormattedCell) -> str:
    # Escaped before the markup is added, or its braces would be escaped as well.
    text = escape_latex(cell.text)
    text = rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text
    # \rlap has zero width, so that the digits of a column stay aligned
    return text + (rf"\rlap{{{escape_latex(cell.marks)}}}" if cell.marks else "")

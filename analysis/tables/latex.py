"""Formats tables as LaTeX, with booktabs rules."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from analysis.tables.latex_layout import FONT_POINTS, PAGE_LINES, WIDTHS, Fitted, fitted, group_lines
from analysis.tables.names import plain_text, split_code
from analysis.tables.print_options import PrintOptions
from analysis.tables.render import FormattedCell, Table, readable
from analysis.tables.short_texts import Texts, sentences_of, short_texts
from sap_core.text import one_line

_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}", "<": r"\textless{}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", ">": r"\textgreater{}", "|": r"\textbar{}", "±": r"$\pm$",
    "\u2013": "--", "\u2212": "$-$", "²": r"$^{2}$", "†": r"$^{\dagger}$", "‡": r"$^{\ddagger}$", "§": r"$^{\S}$", "\u00d7": r"$\times$",
    "\u2264": r"$\leq$", "\u2265": r"$\geq$", "\u2248": r"$\approx$", "\u2260": r"$\neq$", "\u221e": r"$\infty$",
    "\u2192": r"$\rightarrow$",
}  # fmt: skip
_GREEK = {
    "alpha": "\u03b1", "beta": "\u03b2", "gamma": "\u03b3", "delta": "\u03b4", "epsilon": "\u03b5", "zeta": "\u03b6", "eta": "\u03b7",
    "theta": "\u03b8", "kappa": "\u03ba", "lambda": "\u03bb", "mu": "\u03bc", "nu": "\u03bd", "xi": "\u03be", "pi": "\u03c0",
    "rho": "\u03c1",
    "sigma": "\u03c3", "tau": "\u03c4", "phi": "\u03c6", "chi": "\u03c7", "psi": "\u03c8", "omega": "\u03c9", "Gamma": "\u0393",
    "Delta": "\u0394", "Theta": "\u0398", "Lambda": "\u039b", "Sigma": "\u03a3", "Phi": "\u03a6", "Psi": "\u03a8", "Omega": "\u03a9",
}  # fmt: skip
_ESCAPES |= {letter: rf"$\{name}$" for name, letter in _GREEK.items()}

_NOTES_LEFT_OUT = "% Notes that are not printed (--notes full prints them):"


def latex(table: Table, width: str = "two", options: PrintOptions = PrintOptions()) -> str:  # noqa: B008  # frozen
    """Formats a table as a `table*` over two columns of text, or (width="one") as a `table` in one column, with booktabs rules.

    Requires the package booktabs, and siunitx with the option `siunitx`. The table is set in the largest font size that fits, see
    `analysis.tables.latex_layout`. A caption has at most three lines and the notes at most five; the other sentences follow as LaTeX
    comments, unless all notes are asked for. A table that exceeds a page is continued in a second float.
    """
    made = fitted(readable(table), width, options.font_size)
    size, depth = made.look.font_size, len(made.table.rows) + len(made.table.titles) + 4
    if options.body_only:
        comment = rf"  % set for \{size}\setlength{{\tabcolsep}}{{{made.gap:g}pt}}"
        return "\n".join([comment, *(_latex_block(made, block, options.siunitx) for block in made.blocks), ""])
    # LaTeX cannot break a float over pages. A block is never split by rows, so a float has at least one.
    blocks_per_float = max(1, PAGE_LINES[size] // depth)
    floats = [made.blocks[start : start + blocks_per_float] for start in range(0, len(made.blocks), blocks_per_float)]
    texts = short_texts(made.table, made.notes, WIDTHS[width], options.notes or "short")
    return "\n".join(_latex_float(made, own, (number, len(floats)), width, options, texts) for number, own in enumerate(floats, start=1))


def _latex_float(
    made: Fitted,
    blocks: Sequence[Sequence[int]],
    part: tuple[int, int],
    width: str,
    options: PrintOptions,
    texts: Texts,
) -> str:
    """One float; the first of several has the caption, the last the notes."""
    number, total = part
    # Only the first float has the whole caption; the others repeat its first sentence.
    shown = texts.caption if number == 1 else f"{sentences_of(texts.caption)[0].rstrip('.')}, continued."
    environment = "table*" if width == "two" else "table"
    # [t], because LaTeX places floats over two columns at the top of a page only.
    lines = [
        rf"\begin{{{environment}}}[t]",
        rf"  \centering\{made.look.font_size}\setlength{{\tabcolsep}}{{{made.gap:g}pt}}",
        rf"  \caption{{{escape_latex(shown)}}}",
        rf"  \label{{{options.label or default_label(made.table)}{'' if number == 1 else f'-{number}'}}}",
        "\n  \\par\\medskip\n".join(_latex_block(made, block, options.siunitx) for block in blocks),
    ]
    if number == total:
        small = "footnotesize" if FONT_POINTS[made.look.font_size] >= FONT_POINTS["footnotesize"] else "scriptsize"
        # One paragraph; each note on a line of its own, so that versions of the file can be compared.
        lines += (
            [r"  \par\smallskip", rf"  {{\{small}\raggedright", *(f"  {escape_latex(note)}" for note in texts.notes), r"  \par}"]
            if texts.notes
            else []
        )
        lines += [_NOTES_LEFT_OUT, *(f"% {escape_latex(' '.join(note.split()))}" for note in texts.left)] if texts.left else []
    return "\n".join([*lines, rf"\end{{{environment}}}", ""])


def default_label(table: Table) -> str:
    """`tab:comparison-digits-symmetric-0-25-small-cnn-sgd`."""
    # Special characters would break a LaTeX label.
    return "tab:" + re.sub(r"[^a-zA-Z0-9]+", "-", f"{table.name}-{plain_text(table.cell)}").strip("-")


def _latex_block(made: Fitted, block: Sequence[int], siunitx: bool) -> str:
    """One tabular with the columns of `block`, by index."""
    table, close = made.table, made.look.close
    formats = [
        _number_format([row[number] for row in table.rows], close) if siunitx and table.columns[number].numeric else "" for number in block
    ]
    kinds = [form or _kind(made, n) for n, form in zip(block, formats, strict=True)]
    lines = [
        # No space at the borders, so that the rules are as wide as the text.
        rf"  \begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
        r"    \toprule",
        *_latex_groups(made, block),
        "    " + " & ".join(_latex_head(made.heads[n], kind) for n, kind in zip(block, kinds, strict=True)) + r" \\",
        r"    \midrule",
    ]
    for number, row in enumerate(table.rows):
        if number in table.rules or (number in table.titles and number):
            lines.append(r"    \midrule")
        if table.titles.get(number):
            lines.append(rf"    \multicolumn{{{len(block)}}}{{@{{}}l}}{{\emph{{{escape_latex(table.titles[number])}}}}} \\")
        cells = [_siunitx_cell(row[n], close) if form else _latex_cell(row[n], close) for n, form in zip(block, formats, strict=True)]
        # \raggedright redefines \\, which is to end the row.
        cells = [
            rf"\raggedright\let\\\tabularnewline {text}" if n in made.paragraphs else text for n, text in zip(block, cells, strict=True)
        ]
        lines.append("    " + " & ".join(cells) + r" \\")
    return "\n".join([*lines, r"    \bottomrule", r"  \end{tabular}"])


def _kind(made: Fitted, column: int) -> str:
    if column in made.paragraphs:
        return rf"p{{{made.paragraphs[column]:.0f}pt}}"
    return "r" if made.table.columns[column].numeric else "l"


_POWER = "\ue003"
_EXPONENT = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)e([-+\u2212])0*(\d+)(?!\w)")


def escape_latex(text: str) -> str:
    """Escapes the special characters of LaTeX, and replaces the other characters outside ASCII that tables use.

    LaTeX code that the user gave on purpose (`analysis.tables.names`) stays as it is.
    """
    # On one line: an empty line would end a cell, and a text after a line break a comment.
    return "".join(_escaped(one_line(part)) if code is None else code for part, code in split_code(text))


def _escaped(text: str) -> str:
    # 1e-05 is printed as a power of ten; the marks keep its LaTeX code from being escaped.
    powers: list[str] = []

    def power(found: re.Match[str]) -> str:
        sign = "" if found[2] == "+" else "-"
        factor = "" if found[1] == "1" else found[1] + r"\times "
        powers.append(f"${factor}10^{{{sign}{found[3]}}}$")
        return _POWER

    marked = _EXPONENT.sub(power, text)
    escaped = "".join(_ESCAPES.get(character, character) for character in marked)
    # A thin space that no line breaks at.
    escaped = re.sub(r"(?<=\d) \\%", r"\\,\\%", escaped)
    return re.sub(_POWER, lambda _: powers.pop(0), escaped)


def _latex_head(lines: Sequence[str], kind: str) -> str:
    text = _stacked(lines, "r" if kind[0] in "rS" else "l")
    # siunitx would read a header as a number.
    return f"{{{text}}}" if kind.startswith("S") else text


def _stacked(lines: Sequence[str], side: str) -> str:
    text = r"\\".join(map(escape_latex, lines))
    return text if len(lines) == 1 else rf"\shortstack[{side}]{{{text}}}"


def _latex_groups(made: Fitted, block: Sequence[int]) -> list[str]:
    """The line of group headers and the rules below it; empty if no column has a group."""
    columns = made.table.columns
    if not any(columns[n].group for n in block):
        return []
    heads, rules, start = [], [], 1
    for group, members in groupby(block, key=lambda n: columns[n].group):
        own = list(members)
        if group:
            widths = [made.widths[n] for n in own]
            lines = (
                group_lines([columns[n] for n in own], widths, FONT_POINTS[made.look.font_size], made.gap) if made.look.wrap else (group,)
            )
            heads.append(rf"\multicolumn{{{len(own)}}}{{c}}{{{_stacked(lines, 'c')}}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + len(own) - 1}}}")
        else:
            heads.append(" & ".join([""] * len(own)))
        start += len(own)
    return ["    " + " & ".join(heads) + r" \\", "    " + " ".join(rules)]


def _latex_cell(cell: FormattedCell, close: bool) -> str:
    # Escaped before the markup is added, or its braces would be escaped as well.
    text = escape_latex(cell.text)
    if close:
        text = text.replace(r" $\pm$ ", r"$\pm$")
    return _marked(rf"\textbf{{{text}}}" if cell.rank == 1 else rf"\underline{{{text}}}" if cell.rank == 2 else text, cell)


def _marked(text: str, cell: FormattedCell) -> str:
    # \rlap has zero width, so that the digits of a column stay aligned
    return text + (rf"\rlap{{{escape_latex(cell.marks)}}}" if cell.marks else "")


_DECIMAL = re.compile(r"([+\u2212]?)(\d+)(?:\.(\d+))?(?: ± (\d+)(?:\.(\d+))?)?")


def _number_format(cells: Sequence[FormattedCell], close: bool) -> str:
    """The S column of some cells, with room for their longest digits; empty if none of them is a number."""
    found = [match for cell in cells if (match := _DECIMAL.fullmatch(cell.text))]
    if not found:
        return ""
    sign = "+" if any(match[1] for match in found) else ""
    before, after = (max(len(match[group] or "") for match in found) for group in (2, 3))
    # The uncertainty in units of the last digit: 0.40 has two digits, 1.23 three.
    digits = max((len((match[4] + (match[5] or "")).lstrip("0")) or 1 for match in found if match[4]), default=0)
    spread = f"({digits})" if digits else ""
    tight = ",tight-spacing=true" if close else ""
    return f"S[table-format={sign}{before}.{after}{spread},mode=text,separate-uncertainty=true,detect-weight=true{tight}]"


def _siunitx_cell(cell: FormattedCell, close: bool) -> str:
    match = _DECIMAL.fullmatch(cell.text)
    # Only numbers may stand without braces in an S column; an underlined number is a text to siunitx.
    if match is None or cell.rank == 2:
        return f"{{{_latex_cell(cell, close)}}}"
    text = cell.text.replace("\u2212", "-").replace(" ± ", r" \pm ")
    return _marked(rf"\bfseries {text}" if cell.rank == 1 else text, cell)

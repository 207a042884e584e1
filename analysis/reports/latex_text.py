"""Parses LaTeX that the program generated: the cells of tabulars, defined commands, and the sentences of captions and notes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tabular:
    """The cells of one tabular, row by row; the first rows are headers."""

    rows: tuple[tuple[str, ...], ...]
    num_headers: int

    @property
    def heads(self) -> tuple[str, ...]:
        """The headers of the columns."""
        return self.rows[self.num_headers - 1] if self.num_headers else ()


_NUMBER = re.compile(r"(?:(?<![\w.])[-+]|\$-\$|[<≤≥]\s?)?(?:\d[\d,]*\.?\d*|\.\d+)(?:e[-+]?\d+)?")
"""A number with its sign. A hyphen between a letter and a digit (as in ResNet-18) is no sign."""


def numbers_in(text: str) -> list[str]:
    """The numbers of a text with their signs, in order."""
    # A hyphen and LaTeX's minus are one sign. Trailing full stops and commas end a sentence.
    found = (
        match.group().replace("$-$", "-").replace(" ", "").rstrip(".,") for match in _NUMBER.finditer(text.replace(r"\textless{}", "<"))
    )
    return [number for number in found if number]


def marks_in(text: str) -> list[str]:
    """The marks of a text that refer to notes, in order."""
    return re.findall(r"\\d?dagger|\\S(?![A-Za-z])|[†‡§]", text)


def tabulars(lines: Sequence[str]) -> list[Tabular]:
    """Every tabular of a block, in order, however its lines are broken. What is commented out does not count."""
    text = "\n".join(_COMMENT.sub(r"\1", line) for line in lines).replace(_RAGGED, "")
    found = []
    for match in _TABULAR.finditer(text):
        rows: list[tuple[str, ...]] = []
        headers = None
        # The width and the columns stand before the rows.
        body = _without_groups(match["body"], 1 if match["kind"] == "tabular" else 2)
        for row in _split(_RULE_ARGUMENTS.sub(r"\1", body), "\\\\"):
            # The header ends at the first \midrule.
            if r"\midrule" in row and headers is None:
                headers = len(rows)
            cells = tuple(_plain(_SHORTSTACK.sub(_unstacked, cell)) for cell in _split(_RULE.sub(" ", row), "&"))
            if cells != ("",):
                rows.append(cells)
        found.append(Tabular(tuple(rows), headers or 0))
    return found


_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*")
_RAGGED = r"\raggedright\let\\\tabularnewline"
_TABULAR = re.compile(r"\\begin\{(?P<kind>tabular[*x]?)\}(?P<body>.*?)\\end\{(?P=kind)\}", re.S)
_RULE_ARGUMENTS = re.compile(r"(\\\\)\s*\[[^\]\n]*\]")
"""The space after a row, as in `\\\\[2pt]`."""
_RULE = re.compile(r"\\(?:(?:top|mid|bottom)rule|hline|addlinespace|cmidrule)(?![a-zA-Z])(?:\[[^\]]*\]|\([^)]*\)|\{[^}]*\})*")
_SHORTSTACK = re.compile(r"\\shortstack(?:\[[a-z]\])?\{((?:[^{}]|\{[^{}]*\})*)\}")


def _unstacked(found: re.Match[str]) -> str:
    """A stacked header on one line, so that it may be broken elsewhere."""
    return found[1].replace(r"\\", " ")


def _without_groups(text: str, number: int) -> str:
    """The text after its first groups in braces."""
    for _ in range(number):
        depth = 0
        for place, character in enumerate(text):
            depth += {"{": 1, "}": -1}.get(character, 0)
            if character == "}" and depth == 0:
                text = text[place + 1 :]
                break
    return text


def _split(text: str, separator: str) -> list[str]:
    """Splits LaTeX at a separator outside of braces; an escaped ampersand is part of a text."""
    parts, depth, start, place = [], 0, 0, 0
    while place < len(text):
        if depth == 0 and text.startswith(separator, place):
            parts.append(text[start:place])
            place = start = place + len(separator)
            continue
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        # A backslash and the character after it are one command.
        place += 2 if text[place] == "\\" else 1
    return [*parts, text[start:]]


def commands(lines: Sequence[str]) -> dict[str, str]:
    r"""The names and texts of the commands that `\newcommand` defines."""
    found = {}
    for line in lines:
        match = re.match(r"\s*\\(?:re|provide)?newcommand\*?\{?(\\[A-Za-z]+)\}?\{(.*?)\}\s*(?:%.*)?$", line)
        if match:
            found[match.group(1)] = match.group(2)
    return found


def left_out(lines: Sequence[str]) -> list[str]:
    """The notes of a block that it contains as comments, one text each."""
    return [_plain(line.lstrip("% ")) for line in lines if line.startswith("% ") and not line.startswith(NOT_NOTES)]


NOT_NOTES = ("% Notes that", "% needs ")
"""Beginnings of the comments of a block that are no notes."""


def prose(lines: Sequence[str]) -> list[str]:
    """The captions and notes of a block, one text each, without markup of the layout."""
    found, inside = [], False
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(r"\begin{tabular"):
            inside = True
        elif stripped.startswith(r"\end{tabular"):
            inside = False
        elif not inside and stripped and not stripped.startswith(("%", r"\newcommand", r"\label")):
            text = re.sub(r"\\(?:begin|end)\{[^}]*\}(?:\[[^\]]*\])?|\\setlength\{[^}]*\}\{[^}]*\}|\\resizebox\{.*", " ", stripped)
            text = re.sub(
                r"\\(?:caption(?:setup)?(?:\[[^\]]*\])?|par|raggedright|centering|footnotesize|scriptsize|small(?:skip)?|medskip)(?![A-Za-z])",
                " ",
                text,
            )
            text = _plain(text).removeprefix("{").removesuffix("}").strip()
            if text.strip("{} "):
                found.append(text)
    return found


def sentences(texts: Sequence[str]) -> list[str]:
    """Splits texts after full stops and semicolons that end a clause."""
    return [part for text in texts for part in re.split(r"(?<=[.;:])\s+(?=\S)", text) if part]


def _plain(text: str) -> str:
    """Normalises white space, so that a reformatted text compares equal."""
    return re.sub(r"\s+", " ", text.strip())

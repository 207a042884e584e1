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
    """Every tabular of a block, in order. Generated tabulars have one row per line."""
    found: list[Tabular] = []
    rows: list[tuple[str, ...]] = []
    # `headers` is None until the first \midrule.
    inside, headers = False, None
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(r"\begin{tabular"):
            rows, inside, headers = [], True, None
        elif stripped.startswith(r"\end{tabular") and inside:
            found.append(Tabular(tuple(rows), headers or 0))
            inside = False
        elif inside and stripped.startswith(r"\midrule"):
            headers = len(rows) if headers is None else headers
        elif inside and stripped.endswith(r"\\"):
            # An escaped ampersand is part of a text.
            rows.append(tuple(_plain(text) for text in re.split(r"(?<!\\)&", stripped.removesuffix(r"\\"))))
    return found


def commands(lines: Sequence[str]) -> dict[str, str]:
    r"""The names and texts of the commands that `\newcommand` defines."""
    found = {}
    for line in lines:
        match = re.match(r"\s*\\newcommand\{?(\\[A-Za-z]+)\}?\{(.*?)\}\s*(?:%.*)?$", line)
        if match:
            found[match.group(1)] = match.group(2)
    return found


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

r"""Names that the user gives: plain text, which LaTeX escapes, or LaTeX code on purpose, such as `latex:SAP~\cite{kodge2025sap}`.

A name in YAML is a text, or a mapping `{text: SAP, latex: 'SAP~\cite{kodge2025sap}'}` with one form for LaTeX and one for all other
formats. A text that starts with `latex:` is LaTeX code alone; other formats then print the name that it replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.store.labels import LABELS, display_names
from analysis.tables.yaml_checks import check_keys, check_mapping
from sap_core.errors import UserError
from sap_core.yaml_files import read_yaml

_START, _BETWEEN, _END = "\ue000", "\ue001", "\ue002"
"""Enclose LaTeX code and its plain text within a text; characters for private use, which no name contains otherwise."""

_CODE = re.compile(f"({_START}.*?{_BETWEEN}.*?{_END})")

PREFIX = "latex:"
"""Start of a text that is LaTeX code."""

_in_latex: ContextVar[bool] = ContextVar("in_latex", default=False)


@dataclass(frozen=True)
class Name:
    """A name that the user gave; `latex` is code that LaTeX prints in place of the text."""

    text: str
    latex: str = ""

    def printed(self, replaced: str) -> str:
        """The text for the format of the context; `replaced` if the user gave only LaTeX code and the format is another."""
        if self.latex and _in_latex.get():
            return f"{_START}{self.latex}{_BETWEEN}{self.text or replaced}{_END}"
        return self.text or replaced

    def data(self) -> Any:
        """The form in YAML."""
        if not self.latex:
            return self.text
        return {"text": self.text, "latex": self.latex} if self.text else PREFIX + self.latex


def split_code(text: str) -> Iterator[tuple[str, str | None]]:
    """The parts of a text: (text, None), or (text, LaTeX code that is printed in its place)."""
    for part in _CODE.split(text):
        code, _, own = part.strip(_START + _END).partition(_BETWEEN)
        yield (own, code) if part.startswith(_START) else (part, None)


def plain_text(text: str) -> str:
    """The text without LaTeX code."""
    return "".join(part for part, _ in split_code(text))


def parse_name(data: Any, where: str) -> Name:
    """Parses a name.

    Raises:
        UserError: it is neither a text or number nor a mapping of `text` and `latex`, or its LaTeX code has unbalanced braces.
    """
    if isinstance(data, Mapping):
        check_keys(map(str, data), ("text", "latex"), where)
        found = Name(str(data.get("text") or ""), str(data.get("latex") or ""))
    elif isinstance(data, str) and data.startswith(PREFIX):
        found = Name("", data.removeprefix(PREFIX).strip())
    elif isinstance(data, str | int | float) and not isinstance(data, bool):
        found = Name(str(data))
    else:
        raise UserError(f"{where} is {data!r}; it must be a text or {{text: ..., latex: ...}}")
    if not (found.text or found.latex):
        raise UserError(f"{where} is empty; give a name")
    if _depth(found.latex) != 0 or "\n" in found.latex or re.search(r"(?<!\\)%", found.latex):
        raise UserError(
            f"{where} is not LaTeX code that can stand in a table: '{found.latex}'; close every brace and write \\% for a percent sign"
        )
    return Name(*(re.sub(f"[{_START}{_BETWEEN}{_END}]", "", part) for part in (found.text, found.latex)))


def _depth(code: str) -> int:
    """The number of braces that are opened and not closed; negative if one is closed first."""
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", code):
        depth += 1 if brace == "{" else -1
        if depth < 0:
            break
    return depth


DisplayNames = Mapping[str, Mapping[str, Name]]
"""Field of `LABELS` -> name in the rows -> printed name."""


def parse_display_names(data: Any, where: str) -> DisplayNames:
    """Parses printed names by field.

    Raises:
        UserError: a field is unknown, or a name is invalid.
    """
    given = check_mapping(data or {}, where)
    check_keys(map(str, given), tuple(LABELS), where)
    return {
        str(field): {
            str(name): parse_name(shown, f"{field}.{name} in {where}")
            for name, shown in check_mapping(names or {}, f"'{field}' in {where}").items()
        }
        for field, names in given.items()
    }


def read_display_names(path: Path) -> DisplayNames:
    """Reads a file of printed names, see `parse_display_names`.

    Raises:
        UserError: the file cannot be read, is not YAML, or has an unknown field.
    """
    # Every name is text, also one that looks like a number.
    return parse_display_names(read_yaml(path, lambda _: True).data, f"'{path}'")


def has_latex(names: DisplayNames) -> bool:
    """Whether LaTeX prints one of the names in another form than other formats."""
    return any(shown.latex for own in names.values() for shown in own.values())


def merged(names: DisplayNames, more: DisplayNames) -> DisplayNames:
    """Both; those of `more` take precedence."""
    return {field: {**names.get(field, {}), **more.get(field, {})} for field in dict.fromkeys([*names, *more])}


@contextmanager
def printing(names: DisplayNames, latex: bool = False) -> Iterator[None]:
    """A context in which tables and figures print the user's names, as LaTeX code where it is given and `latex` is true."""
    token = _in_latex.set(latex)
    resolved = {
        field: {name: shown.printed(LABELS.get(field, {}).get(name, name)) for name, shown in own.items()} for field, own in names.items()
    }
    try:
        with display_names(resolved):
            yield
    finally:
        _in_latex.reset(token)

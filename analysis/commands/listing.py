"""The tables and figures of reports with one line on each, from the first line of the files that define them.

Nothing is imported for it, so that help and the completion of shells answer at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import analysis.plots
import analysis.tables
from sap_core.command_line import examples

_DEFINED = re.compile(r'"""(?:Table|Figure)s? ((?:`\w+`(?:, | and )?)+): (.+?)(?:""")?$')


@cache
def table_lines() -> Mapping[str, str]:
    """Name -> description of every table, those computed in Python first."""
    folder = Path(next(iter(analysis.tables.__path__)))
    described = {path.stem: _first_line(path).lstrip("# ") for path in sorted((folder / "specs").glob("*.yaml"))}
    return _defined(folder) | described


@cache
def plot_lines() -> Mapping[str, str]:
    """Name -> description of every figure."""
    return _defined(Path(next(iter(analysis.plots.__path__))))


def epilog(title: str, lines: Mapping[str, str], *lines_of_examples: str) -> str:
    """The end of a command's help: a list with one line on each entry, then examples."""
    width = max(map(len, lines))
    return "\n".join([f"{title}:", *(f"  {name:<{width}}  {line}" for name, line in lines.items()), "", examples(*lines_of_examples)])


def _defined(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.py")):
        if match := _DEFINED.match(_first_line(path)):
            found |= dict.fromkeys(re.findall(r"`(\w+)`", match[1]), re.sub(r" \(`[\w.]+`\)", "", match[2]))
    return found


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().rstrip("\n")

"""The table of options that were read from the files of a user's data set and checkpoint, as a sweep prints it before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_HEAD = ("key", "value", "change by", "read from")
TYPE, FILES = "KEY=VALUE", "the files"
"""How a value is changed: by KEY=VALUE on the command line, or by other files, because a typed value must agree with them."""


@dataclass(frozen=True)
class OptionLine:
    """One option: its value, how it is changed (`TYPE` or `FILES`), and where it was read."""

    key: str
    value: Any
    change: str
    source: str


@dataclass(frozen=True)
class OptionsTable:
    """The options of one data set with one network."""

    title: str
    lines: tuple[OptionLine, ...]

    def __str__(self) -> str:
        rows = [_HEAD, *((line.key, as_typed(line.value), line.change, line.source) for line in self.lines)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD) - 1)]
        texts = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]
        typed = next((line for line in self.lines if line.change == TYPE), None)
        note = [f"  another value is set on the command line, as in {typed.key}={as_typed(typed.value)}"] if typed else []
        return "\n".join([self.title, *(f"  {text}" for text in texts), *note])


def as_typed(value: Any) -> str:
    """Return a value as it is typed on the command line."""
    if isinstance(value, list | tuple):
        return "[" + ",".join(as_typed(item) for item in value) + "]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def as_override(key: str, values: Sequence[float]) -> str:
    """Return KEY=[...] with three decimals each, such as trainer.preprocess.mean=[0.485,0.456,0.406]."""
    return f"{key}=[{','.join(f'{value:.3f}' for value in values)}]"

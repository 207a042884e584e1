"""Reads what comments of a YAML file say: about the file, and about each of its keys."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

LABEL = re.compile(r"(Source|Cost|Command|Expected|Data|Needs|Differences)\b[^:.]{0,40}: ")
"""Begins a line of the comment at the top that is a paragraph of its own."""
_COMMENT = re.compile(r"""^((?:[^#'"]|"[^"]*"|'[^']*'|(?<!\s)#)*?)\s*#\s?(.*)$""")


@dataclass(frozen=True)
class Commented:
    """A YAML file: the paragraphs of the comment at its top, the first of which is one line; its values; key path -> comment."""

    summary: str
    paragraphs: list[str]
    values: dict[str, Any]
    comments: dict[tuple[str, ...], str]

    def entries(self, *under: str) -> Iterator[tuple[str, Any, str]]:
        """(key, value, comment) of each key below a path; a mapping whose keys have comments is flattened to dotted keys."""
        values = self.values
        for key in under:
            values = values[key]
        yield from self._entries(values, under, len(under))

    def _entries(self, values: Mapping[str, Any], path: tuple[str, ...], depth: int) -> Iterator[tuple[str, Any, str]]:
        for key, value in values.items():
            inner = (*path, str(key))
            if isinstance(value, dict) and any(other[: len(inner)] == inner and other != inner for other in self.comments):
                yield from self._entries(value, inner, depth)
            else:
                yield ".".join(inner[depth:]), value, self.comments.get(inner, "")


def read(path: Path) -> Commented:
    """Reads a file of `conf/`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    length = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    head = [line.lstrip("# ") for line in lines[:length] if not line.startswith("# @package")]
    summary, *more = head or [""]
    return Commented(summary, _paragraphs(more), yaml.safe_load("\n".join(lines)) or {}, _comments(lines[length:]))


def _paragraphs(lines: list[str]) -> list[str]:
    found: list[str] = []
    for line in lines:
        if not found or LABEL.match(line):
            found.append(line)
        else:
            found[-1] += f" {line}"
    return found


def _comments(lines: list[str]) -> dict[tuple[str, ...], str]:
    """Key path -> comment: the one at the end of the key's line with the lines that continue it, or the lines right above the key."""
    found: dict[tuple[str, ...], str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    column = -1
    for line in lines:
        matched = _COMMENT.match(line)
        content, comment = (matched[1], matched[2]) if matched else (line, "")
        if not content.strip():
            if comment and path and line.index("#") == column:
                found[tuple(key for _, key in path)] += f" {comment}"
            else:
                above = [*above, comment] if comment else []
            continue
        key = re.match(r"""( *)(?:"([^"]+)"|([\w.@/-]+)):(?: |$)""", content)
        if key:
            path = [*(step for step in path if step[0] < len(key[1])), (len(key[1]), key[2] or key[3])]
            if comment or above:
                found[tuple(name for _, name in path)] = re.sub(r"\s+", " ", comment or " ".join(above))
        above, column = [], line.index("#", len(content)) if comment else -1
    return found

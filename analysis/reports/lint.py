"""Generated LaTeX against the store that it was made from: every number that was touched since, by row and column."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from analysis.reports import generated_block as recipes
from analysis.store.labels import counted
from analysis.store.load import Results
from sap_core.errors import UserError


@dataclass(frozen=True)
class Block:
    """A generated part of a file."""

    recipe: recipes.Recipe
    rows: str  # what the head says of the store
    first_line: int
    body: tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """One cell of a tabular (or one LaTeX command) as it stands in a text."""

    what: str
    text: str


def lint(path: Path, results: Results) -> tuple[str, int]:
    """(what was found, in words; 1 when a number was touched, 0 otherwise).

    Raises:
        UserError: the file cannot be read, or holds nothing that `sap-report` made.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"'{path}' cannot be read ({reason}); give a .tex file that sap-report made") from error
    found = list(blocks(text))
    if not found:
        raise UserError(f"'{path}' holds nothing that sap-report made (no line '{recipes.OPENS.strip()} ...'); make it with --format latex")
    said, touched = [], 0
    for block in found:
        sentences, count = _compare(block, results)
        touched += count
        said += [f"{path.name}, line {block.first_line}, {block.recipe.table}: {sentence}" for sentence in sentences]
    said.append(f"{counted(len(found), 'generated block')}, {counted(touched, 'touched cell')}.")
    return "\n".join(said), int(touched > 0)


def blocks(text: str) -> Iterator[Block]:
    """The generated parts of a text.

    Raises:
        UserError: one has no end, or its head is damaged.
    """
    lines = text.splitlines()
    place = 0
    while place < len(lines):
        if not lines[place].startswith(recipes.OPENS):
            place += 1
            continue
        end = next((n for n in range(place + 1, len(lines)) if lines[n].startswith(recipes.CLOSES)), None)
        if end is None:
            raise UserError(f"the generated block in line {place + 1} has no last line '{recipes.CLOSES}'; make the table again")
        rows = lines[place + 1].removeprefix(recipes.ROWS)
        yield Block(recipes.read(lines[place].removeprefix(recipes.OPENS)), rows, place + 1, tuple(lines[place + 2 : end]))
        place = end + 1


def _compare(block: Block, results: Results) -> tuple[list[str], int]:
    """(sentences, how many cells differ)."""
    source = None if block.rows == recipes.rows_text(None) else results
    fresh = next(blocks(recipes.generated(block.recipe, source)))
    mine, theirs = places(block.body), places(fresh.body)
    said = []
    if source is not None and block.rows != fresh.rows:
        said.append(f"made from other rows ({block.rows}; now {fresh.rows}), which may be why numbers differ")
    touched = 0
    for here, there in zip_longest(mine, theirs):
        if here is None or there is None:
            touched += 1
            said.append(f"{there.what} is missing in the file" if here is None else f"{here.what} is not in the store's table")
        elif here.text != there.text:
            touched += 1
            said.append(f"{there.what} says {here.text or 'nothing'}, the store gives {there.text or 'nothing'}")
    if not touched:
        others = sum(one != other for one, other in zip_longest(_words(block.body), _words(fresh.body)))
        said += [f"no number was touched; {counted(others, 'other line')} differ (caption, notes or layout)"] if others else []
    return said, touched


def places(lines: Sequence[str]) -> list[Place]:
    """Every cell of every tabular, by its row and column, and every LaTeX command that is defined."""
    found: list[Place] = []
    number, heads, inside, above = 0, [""], False, True
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(r"\newcommand"):
            name, _, rest = stripped.partition("}{")
            found.append(Place(name.removeprefix(r"\newcommand{"), rest.partition("}")[0]))
        if stripped.startswith(r"\begin{tabular}"):
            number, heads, inside, above = number + 1, [""], True, True
        elif stripped.startswith(r"\end{tabular}"):
            inside = False
        elif inside and stripped.startswith(r"\midrule"):
            above = False
        elif inside and stripped.endswith(r"\\"):
            cells = [_plain(text) for text in re.split(r"(?<!\\)&", stripped.removesuffix(r"\\"))]
            if above:
                heads = cells
            row = cells[0] or "the head"
            for column, text in enumerate(cells):
                head = heads[column] if column < len(heads) and heads[column] else f"column {column + 1}"
                column_name = f"'{head}'"
                found.append(Place(f"tabular {number}, row '{row}', {head if above else column_name}", text))
    return found


def _words(lines: Sequence[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip() and not line.strip().endswith(r"\\")]


def _plain(text: str) -> str:
    """A cell as a reader sees it: without bold, underline and the room that marks do not take."""
    return re.sub(r"\s+", " ", text.strip())

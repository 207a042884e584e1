"""Compares generated LaTeX with the store that it was made from and names every number that was changed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from analysis.reports import generated_block
from analysis.store.labels import counted
from analysis.store.load import Results
from sap_core.errors import UserError


@dataclass(frozen=True)
class Block:
    """A generated block of a file."""

    recipe: generated_block.Recipe
    rows: str  # the digest of the rows in its second line
    first_line: int  # counted from 1
    body: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One cell of a tabular, or one LaTeX command, in a text."""

    location: str  # such as "tabular 1, row 'SAP', '25 %'"
    text: str


def lint(path: Path, results: Results) -> tuple[str, int]:
    """Checks a file; returns the findings as text, and 1 if a number was changed, otherwise 0.

    Raises:
        UserError: the file cannot be read, or contains no generated block.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise UserError(f"'{path}' cannot be read ({reason}); give a .tex file that sap-report generated") from error
    if text.startswith(generated_block.FIGURE_START):
        return f"{path.name}: a figure; its caption is not compared with the store.", 0
    found = list(blocks(text))
    if not found:
        raise UserError(
            f"'{path}' contains no block that sap-report generated (no line '{generated_block.BLOCK_START.strip()} ...'); "
            "generate it with sap-report STORE table NAME --format latex"
        )
    messages, changed = [], 0
    for block in found:
        sentences, count = _compare(block, results)
        changed += count
        messages += [f"{path.name}, line {block.first_line}, {block.recipe.table}: {sentence}" for sentence in sentences]
    messages.append(f"{counted(len(found), 'generated block')}, {counted(changed, 'changed cell')}.")
    return "\n".join(messages), int(changed > 0)


def blocks(text: str) -> Iterator[Block]:
    """Yields the generated blocks of a text.

    Raises:
        UserError: a block has no last line, or its first line is damaged.
    """
    lines = text.splitlines()
    # A block ends with a line of its own, so text around and between blocks is skipped.
    index = 0
    while index < len(lines):
        if not lines[index].startswith(generated_block.BLOCK_START):
            index += 1
            continue
        # A block that was cut while pasting must not swallow the rest of the paper.
        end = next((n for n in range(index + 1, len(lines)) if lines[n].startswith(generated_block.BLOCK_END)), None)
        if end is None:
            raise UserError(
                f"the generated block in line {index + 1} has no last line '{generated_block.BLOCK_END}'; generate the table again"
            )
        recipe = generated_block.parse_recipe(lines[index].removeprefix(generated_block.BLOCK_START))
        rows = lines[index + 1].removeprefix(generated_block.BLOCK_ROWS)
        yield Block(recipe, rows, index + 1, tuple(lines[index + 2 : end]))
        index = end + 1


def _compare(block: Block, results: Results) -> tuple[list[str], int]:
    """Compares a block with a fresh one; returns sentences and the number of cells that differ."""
    # A block of published numbers alone needs no store.
    source = None if block.rows == generated_block.rows_digest(None) else results
    # The table is generated again from its recipe and parsed like the file, so both sides have gone through the same code.
    fresh = next(blocks(generated_block.generated_latex(block.recipe, source)))
    in_file, in_store = entries(block.body), entries(fresh.body)
    messages = []
    # A changed store is a reason for changed numbers, and is named before them.
    if source is not None and block.rows != fresh.rows:
        messages.append(f"the rows of the store have changed since ({block.rows}; now {fresh.rows}), so numbers may differ")
    changed = 0
    # Entry by entry in order, because a changed label must not make the numbers of its row disappear from the comparison.
    for here, there in zip_longest(in_file, in_store):
        if here is None or there is None:
            changed += 1
            messages.append(f"{there.location} is missing in the file" if here is None else f"{here.location} is not in the store's table")
        elif here.text != there.text:
            changed += 1
            messages.append(f"{there.location} is {here.text or 'empty'} in the file and {there.text or 'empty'} in the store")
    if not changed:
        # Captions and notes may be edited freely; they are mentioned and change no exit code.
        others = sum(one != other for one, other in zip_longest(_other_lines(block.body), _other_lines(fresh.body)))
        messages += [f"no number differs, but {counted(others, 'other line')} (caption, notes or layout)"] if others else []
    return messages, changed


def entries(lines: Sequence[str]) -> list[Entry]:
    """Lists every cell of every tabular, located by row and column, and every LaTeX command that is defined."""
    found: list[Entry] = []
    # `above` is true before the \midrule, that is, in the header.
    number, heads, inside, above = 0, [""], False, True
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(r"\newcommand"):
            name, _, rest = stripped.partition("}{")
            found.append(Entry(name.removeprefix(r"\newcommand{"), rest.partition("}")[0]))
        if stripped.startswith(r"\begin{tabular}"):
            number, heads, inside, above = number + 1, [""], True, True
        elif stripped.startswith(r"\end{tabular}"):
            inside = False
        elif inside and stripped.startswith(r"\midrule"):
            above = False
        # Generated tabulars have one row per line.
        elif inside and stripped.endswith(r"\\"):
            # An escaped ampersand is part of a text.
            cells = [_plain(text) for text in re.split(r"(?<!\\)&", stripped.removesuffix(r"\\"))]
            if above:
                heads = cells
            row = cells[0] or "header"
            for column, text in enumerate(cells):
                head = heads[column] if column < len(heads) and heads[column] else f"column {column + 1}"
                column_name = f"'{head}'"
                found.append(Entry(f"tabular {number}, row '{row}', {head if above else column_name}", text))
    return found


def _other_lines(lines: Sequence[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip() and not line.strip().endswith(r"\\")]


def _plain(text: str) -> str:
    """Normalises white space, so that a reformatted cell compares equal."""
    return re.sub(r"\s+", " ", text.strip())

"""Compares generated LaTeX with the store that it was made from and names every number that was changed by hand.

A block is generated again from its recipe. Cells of its tabulars are compared by row and column, so that a deleted or renamed row does not
make the numbers of its neighbours differ; captions and notes are compared sentence by sentence, number by number. Words may be edited: they
are mentioned and change no exit code. A number, a mark of a cell (such as a dagger), bold print, and what a sentence claims may not
(`verdict_words`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

from analysis.reports import generated_block
from analysis.reports.latex_text import Tabular, commands, left_out, marks_in, numbers_in, prose, sentences, tabulars
from analysis.reports.verdict_words import differs, named, states_result
from analysis.store.labels import LABELS, counted
from analysis.store.load import Results
from sap_core.errors import UserError


@dataclass(frozen=True)
class Block:
    """A generated block of a file."""

    recipe: generated_block.Recipe
    rows: str  # the digest of the rows in its second line
    first_line: int  # counted from 1
    body: tuple[str, ...]


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
    messages: list[str] = []
    changed: Counter[str] = Counter()
    for block in found:
        sentences, counts = _compare(block, results)
        changed += counts
        messages += [f"{path.name}, line {block.first_line}, {block.recipe.table}: {sentence}" for sentence in sentences]
    total = [counted(len(found), "generated block"), counted(changed[NUMBER], "changed number")]
    messages.append(", ".join([*total, *([counted(changed[CLAIM], "changed claim")] if changed[CLAIM] else [])]) + ".")
    return "\n".join(messages), int(changed.total() > 0)


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


def _compare(block: Block, results: Results) -> tuple[list[str], Counter[str]]:
    """Compares a block with a fresh one; returns sentences and the numbers of changed numbers and claims."""
    # A block of published numbers alone needs no store.
    source = None if block.rows == generated_block.rows_digest(None) else results
    # The block is generated again from its recipe and parsed like the file, so both sides have gone through the same code.
    fresh = next(blocks(generated_block.generated_latex(block.recipe, source)))
    messages = []
    # A changed store is a reason for changed numbers, and is named before them.
    if source is not None and block.rows != fresh.rows:
        messages.append(f"the rows of the store have changed since ({block.rows}; now {fresh.rows}), so numbers may differ")
    names = _names(fresh.body)
    changes = [*_tabulars(block.body, fresh.body, names), *_commands(block.body, fresh.body), *_prose(block.body, fresh.body, names)]
    changed = Counter(kind for _, kind in changes if kind != WORDS)
    messages += [sentence for sentence, _ in changes]
    if changes and not changed:
        messages.append(f"no number differs, but {counted(len(changes), 'place')} in words or layout")
    return messages, changed


def _names(lines: Sequence[str]) -> tuple[str, ...]:
    """The names of methods and data: those that the program knows and the labels of the block's rows, without their spaces."""
    labels = [row[0] for table in tabulars(lines) for row in table.rows[table.num_headers :]]
    labels += [part for label in labels for part in label.split(" against ")]
    known = [name for field in ("method", "dataset", "network", "trainer") for name in LABELS[field].values()]
    # Names of the author's own may be citations; by their first words they are found in prose, too.
    own = [_uncited(label).partition(" (")[0].strip(" ~") for label in labels]
    return tuple(dict.fromkeys([*known, *(name for name in own if re.search("[A-Za-z]", name) and " against " not in name)]))


NUMBER, CLAIM, WORDS = "number", "claim", "words"

Change = tuple[str, str]
"""A sentence, and what was changed: a number, a mark or the place of one; what a sentence claims; or words and layout alone."""


def _tabulars(in_file: Sequence[str], in_store: Sequence[str], names: Sequence[str]) -> Iterator[Change]:
    here, there = tabulars(in_file), tabulars(in_store)
    for number, (mine, fresh) in enumerate(zip(here, there, strict=False), start=1):
        yield from _rows(f"tabular {number}", mine, fresh, names)
    for number in range(len(here), len(there)):
        yield f"tabular {number + 1} is missing in the file", NUMBER
    for number in range(len(there), len(here)):
        yield f"tabular {number + 1} is not in the store's table", NUMBER


def _rows(place: str, mine: Tabular, fresh: Tabular, names: Sequence[str]) -> Iterator[Change]:
    # By their whole text, so that a deleted row is distinguished from its neighbours, also where rows have the same label.
    texts = [[" & ".join(row) for row in table.rows] for table in (mine, fresh)]
    for here, there in _aligned(texts[0], texts[1]):
        if here is None and there is not None:
            yield f"{place}, row '{_name(fresh, there)}' is missing in the file", NUMBER
        elif there is None and here is not None:
            yield f"{place}, row '{_name(mine, here)}' is not in the store's table", NUMBER
        elif here is not None and there is not None:
            yield from _cells(place, fresh, there, mine.rows[here], fresh.rows[there], names)


def _name(table: Tabular, index: int) -> str:
    return table.rows[index][0] or "header"


def _cells(place: str, table: Tabular, index: int, here: Sequence[str], there: Sequence[str], names: Sequence[str]) -> Iterator[Change]:
    header = index < table.num_headers
    for column in range(max(len(here), len(there))):
        mine, fresh = (row[column] if column < len(row) else "" for row in (here, there))
        if mine == fresh:
            continue
        head = table.heads[column] if column < len(table.heads) and table.heads[column] else f"column {column + 1}"
        quoted = f"'{head}'"
        where = f"{place}, row '{_name(table, index)}', {head if header else quoted}"
        # Labels may be reworded, as long as their numbers stay. Another's name would put numbers beside the wrong method.
        others = (
            [text for n, text in enumerate(there) if n != column] if header else [row[0] for n, row in enumerate(table.rows) if n != index]
        )
        taken = _bare(mine) != _bare(fresh) and _bare(mine) in map(_bare, filter(None, others))
        # A label about two methods claims which of them is the first.
        claimed = len(named(fresh, names)) > 1 and differs(mine, fresh, names)
        edited = numbers_in(_uncited(mine)) != numbers_in(fresh) or marks_in(mine) != marks_in(fresh)
        kind = NUMBER if not (header or column == 0) or taken or edited else CLAIM if claimed else WORDS
        verb = "is named" if kind == WORDS else "is"
        yield f"{where} {verb} {mine or 'empty'} in the file and {fresh or 'empty'} in the store", kind


def _bare(label: str) -> str:
    """A label without references, markup and punctuation; by it two labels are the same."""
    words = re.sub(r"\\[a-zA-Z]+(?:\{[0-9]+\}\{[^{}]*\})?", " ", _uncited(label)).casefold()
    return " ".join(re.findall(r"\w+", words)) or label


def _uncited(text: str) -> str:
    """The text without keys of references, which contain years."""
    return re.sub(r"\\[a-z]*cite[a-z]*\{[^}]*\}", "", text)


def _commands(in_file: Sequence[str], in_store: Sequence[str]) -> Iterator[Change]:
    here, there = commands(in_file), commands(in_store)
    for name, fresh in there.items():
        if name not in here:
            yield f"{name} is missing in the file", NUMBER
        elif here[name] != fresh:
            yield f"{name} is {here[name] or 'empty'} in the file and {fresh or 'empty'} in the store", NUMBER
    yield from ((f"{name} is not in the store's numbers", NUMBER) for name in here if name not in there)


def _prose(in_file: Sequence[str], in_store: Sequence[str], names: Sequence[str]) -> Iterator[Change]:
    """Compares captions and notes, sentence by sentence."""
    printed, there = sentences(prose(in_store)), sentences([*prose(in_store), *left_out(in_store)])
    # Notes in comments are compared as well, because the author may print them; they may also be deleted.
    here = sentences([*prose(in_file), *left_out(in_file)])
    known = [number for sentence in there for number in numbers_in(sentence)]
    for mine, fresh in _aligned([_masked(one) for one in here], [_masked(one) for one in there], similar=True):
        if mine is None and fresh is not None:
            if fresh >= len(printed):
                continue
            yield f"the sentence '{_short(there[fresh])}' is missing in the file", WORDS
        elif fresh is None and mine is not None:
            # A sentence of the author's own; numbers and results that the block does not contain cannot be checked.
            foreign = [number for number in numbers_in(here[mine]) if number not in known]
            result = states_result(here[mine], names)
            reason = f", and neither is its number {', '.join(foreign)}" if foreign else ", and neither is what it claims" if result else ""
            yield f"the sentence '{_short(here[mine])}' is not the store's{reason}", NUMBER if foreign else CLAIM if result else WORDS
        elif mine is not None and fresh is not None and here[mine] != there[fresh]:
            found, expected = numbers_in(here[mine]), numbers_in(there[fresh])
            if found != expected:
                pairs = [f"{one} in the file and {other} in the store" for one, other in zip(found, expected, strict=False) if one != other]
                more = [] if len(found) == len(expected) else [f"{len(found)} numbers in the file and {len(expected)} in the store"]
                yield f"the sentence '{_short(there[fresh])}' has {', '.join([*pairs, *more])}", NUMBER
            elif differs(here[mine], there[fresh], names):
                yield f"the sentence '{_short(there[fresh])}' claims something else in the file: '{_short(here[mine])}'", CLAIM
            else:
                yield f"the sentence '{_short(there[fresh])}' is worded differently", WORDS


def _masked(sentence: str) -> str:
    """The sentence without its numbers, by which a sentence is recognised whose numbers were changed."""
    return re.sub(r"[0-9]+([.,][0-9]+)*", "#", sentence)


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= 60 else sentence[:57] + "..."


def _aligned(here: Sequence[str], there: Sequence[str], similar: bool = False) -> Iterator[tuple[int | None, int | None]]:
    """Pairs the entries of two lists in order: equal ones, then the others between them.

    Others are paired by position where both lists have equally many, otherwise (and if `similar`) by likeness; what remains is alone.
    """
    for tag, first, last, start, stop in SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        mine, fresh = list(range(first, last)), list(range(start, stop))
        if tag == "equal" or (len(mine) == len(fresh) and not similar):
            yield from zip(mine, fresh, strict=True)
            continue
        for index in mine:
            likeness = {other: SequenceMatcher(None, here[index], there[other], autojunk=False).ratio() for other in fresh}
            best = max(likeness, key=lambda other: likeness[other], default=None)
            if best is not None and likeness[best] >= _ALIKE:
                fresh.remove(best)
                yield index, best
            else:
                yield index, None
        yield from ((None, other) for other in fresh)


_ALIKE = 0.6
"""Likeness from which two entries count as one that was edited."""

"""Shortens captions to three lines and notes to five, as a paper has room for; what is left out goes elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.tables.notes import SHORT_NOTES
from analysis.tables.render import Table, readable
from analysis.tables.text_width import count_lines

CAPTION_LINES, NOTE_LINES = 3, 5
"""The most lines of a caption and of the notes below a table."""

LEGEND = "Best in bold, second best underlined."

_CAPTION_POINTS, _NOTE_POINTS = 10.0, 8.0

_SENTENCE_ENDS = re.compile(r"(?<=[.])(?<!e\.g\.)(?<!i\.e\.) (?=[A-Z0-9\u2020\u2021§])")


@dataclass(frozen=True)
class Texts:
    """The caption and the notes that are printed, and the sentences that are not."""

    caption: str
    notes: tuple[str, ...]
    left: tuple[str, ...]


def sentences_of(text: str) -> list[str]:
    """The sentences of a caption."""
    return _SENTENCE_ENDS.split(text)


def short_texts(table: Table, first: Sequence[str], width: float, notes: str) -> Texts:
    """The texts of a table.

    Args:
        table: the table.
        first: notes that must be printed, such as what was abbreviated.
        width: of a line of text in points.
        notes: a key of `print_options.NOTES`.
    """
    ranked = any(cell.rank for row in table.rows for cell in row)
    sentences = [table.caption] if table.own_caption else sentences_of(table.caption)
    legend = [LEGEND] if ranked and not table.own_caption else []
    if notes == "full":
        return Texts(" ".join([*sentences, *legend]), (*first, *table.notes), ())
    caption, others = [*sentences[:1], *legend], []
    for sentence in sentences[1:]:
        # `Table 10: ` precedes the caption.
        fits = count_lines(f"Table 10: {' '.join([*caption, sentence])}", _CAPTION_POINTS, width) <= CAPTION_LINES
        if fits and sentence[0] not in SHORT_NOTES:
            # The legend of the ranks comes last.
            caption.insert(len(caption) - len(legend), sentence)
        else:
            others.append(sentence)
    if notes == "none":
        return Texts(" ".join(caption), (), (*first, *others, *table.notes))
    marks = "".join(cell.marks for row in table.rows for cell in row)
    # Marks and abbreviations in the table must be explained; everything else is printed as far as there is room.
    printed = [*(text for mark, text in SHORT_NOTES.items() if mark in marks), *first]
    left: list[str] = []
    for note in (*others, *table.notes):
        fits = count_lines(" ".join([*printed, note]), _NOTE_POINTS, width) <= NOTE_LINES
        (printed if fits and note[:1] not in SHORT_NOTES else left).append(note)
    return Texts(" ".join(caption), tuple(printed), tuple(left))


def with_short_notes(table: Table, width: float) -> Table:
    """The table with its short notes alone, for formats other than LaTeX."""
    return replace(table, notes=short_texts(readable(table), (), width, "short").notes)


def all_notes(tables: Sequence[Table]) -> str:
    """The captions and all notes of some tables as Markdown; empty if there are none."""
    parts = []
    for table in map(readable, tables):
        if table.notes:
            parts.append("\n".join([f"**{table.caption}**", "", *(f"- {note}" for note in table.notes), ""]))
    return "\n".join(parts)

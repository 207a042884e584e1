"""Fits a table to the width of a page: font size, space between columns, headers of several lines, abbreviations, columns left out.

A table is never scaled, which conferences forbid. The steps of `_LOOKS` are tried in order, and the first that fits is used; only a table
that fits at none of them is continued in a second tabular.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.tables.render import Column, FormattedCell, Table, fold_columns
from analysis.tables.text_width import text_width, words_of, wrapped

WIDTHS = {"two": 504.0, "one": 237.0}
"""Columns of a page -> width in points: 7 and 3.3 inches, as in the styles of AAAI, ICML and CVPR."""

FONT_POINTS = {"small": 9.0, "footnotesize": 8.0, "scriptsize": 7.0}
"""Font size -> its size in points in a text of 10 points."""

PAGE_LINES = {"small": 40, "footnotesize": 45, "scriptsize": 50}
"""Font size -> approximate number of table lines on a page, besides caption and notes."""

_GAPS = (5.0, 4.0, 3.0, 2.5, 2.0)
"""Values of tabcolsep in points, half of the space between two columns."""

DROPPED_FIRST: Mapping[str, tuple[str | tuple[str, ...], ...]] = {
    "comparison": ("failed", "standalone_seconds", "standalone_giga_flops", "trusted_label_precision", "unmodified_kept", "settings",
                   "mislabelled_", "giga_flops", "information"),
    "cost": ("standalone_sample_", "peak_memory", "sample_", "select_", "prepare_", "correct_", "evaluate_", "train_seconds",
             "standalone_giga_flops", "standalone_per_amortised"),
    "search": ("sample_", "distinct", "standalone_seconds", "trials", "searches"),
    "chosen": ("rule",),
    "tests": ("by_seed", "seeds", ("one_", "other_"), "welch_holm_p", "welch_p"),
    "claims": ("seeds", "power", "cells", "required_points"),
    "headline": ("unmodified_kept", "settings", "test_64", "default_test"),
    "headline-cost": ("trials_to_90", "trials_to_99", "seconds_to_90", "default_", "seconds_to_99"),
    "headline-comparisons": ("seeds", "settings_ratio", "sap_ahead_large", "seeds_needed", "detectable_points", "sap_ahead_small",
                             "cost_ratio"),
}  # fmt: skip
"""Table -> columns by the start of their name in CSV, in the order in which they are left out for width; those of a tuple together."""

_DROPPED_OF_ALL = ("num_", "kept", "settings", "seeds")
"""The same for every table, after its own."""

_SHORT_HEADS = {
    "amortised": "amort.", "standalone": "stand.", "difference": "diff.", "published": "publ.", "Information used": "Samples",
    "validation, given labels": "val., given", "validation, correctly labelled part": "val., correct", "Improvement": "Improv.",
    "Average": "Avg.", "Verified samples": "Verified", "Kept vanilla": "Kept",
}  # fmt: skip
_SHORT_WORDS = {" retain": " R", " forget": " F", " trusted": " T"}
_WORDS_NOTE = "Samples: R retain, F forget, T trusted."


@dataclass(frozen=True)
class Look:
    """One way to set a table."""

    font_size: str
    wrap: bool = False  # headers of several lines
    close: bool = False  # no space around ±
    short: bool = False  # abbreviations
    drop: bool = False  # columns of DROPPED_FIRST are left out one by one
    spread: bool = True  # whether ± is printed
    paragraph: bool = False  # the widest column of text has lines of a fixed width


_LOOKS = {
    "two": (
        Look("small"), Look("small", wrap=True), Look("small", wrap=True, close=True), Look("footnotesize", wrap=True, close=True),
        Look("footnotesize", wrap=True, close=True, short=True), Look("footnotesize", wrap=True, close=True, short=True, paragraph=True),
        Look("footnotesize", wrap=True, close=True, short=True, drop=True),
    ),
    "one": (
        Look("small"), Look("small", wrap=True), Look("footnotesize", wrap=True, close=True),
        Look("footnotesize", wrap=True, close=True, short=True), Look("scriptsize", wrap=True, close=True, short=True),
        Look("scriptsize", wrap=True, close=True, short=True, drop=True),
        Look("scriptsize", wrap=True, close=True, short=True, drop=True, paragraph=True),
        Look("scriptsize", wrap=True, close=True, short=True, spread=False),
        Look("scriptsize", wrap=True, close=True, short=True, drop=True, spread=False),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Fitted:
    """A table that fits, in one or several blocks of columns."""

    table: Table
    look: Look
    gap: float  # tabcolsep in points
    heads: tuple[tuple[str, ...], ...]  # the lines of each header
    widths: tuple[float, ...]  # of each column in points
    paragraphs: Mapping[int, float]  # index of a column of text -> width of its lines in points
    blocks: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]  # what was abbreviated or left out


def fitted(table: Table, width: str, font_size: str = "") -> Fitted:
    """Fits a table.

    Args:
        table: the table; its texts are those that are printed.
        width: a key of `WIDTHS`.
        font_size: the only font size to use; all if empty.
    """
    available = WIDTHS[width]
    looks = [look for look in _LOOKS[width] if not font_size or look.font_size == font_size]
    # A font size that no step has is used with the steps of the last one.
    looks = looks or [replace(look, font_size=font_size) for look in _LOOKS[width][1:]]
    for look in looks:
        for candidate, notes in _candidates(table, look):
            heads, widths = _measured(candidate, look)
            paragraphs: dict[int, float] = {}
            if look.paragraph and sum(widths) + 2 * _GAPS[-1] * len(widths) > available:
                paragraphs = _paragraph(candidate, look, widths, available - 2 * _GAPS[-2] * len(widths))
                widths = [paragraphs.get(n, own) for n, own in enumerate(widths)]
            for gap in _GAPS:
                if sum(widths) + 2 * gap * len(widths) <= available:
                    return Fitted(candidate, look, gap, heads, tuple(widths), paragraphs, (tuple(range(len(widths))),), notes)
    # Two readable parts are better than one that lacks what the table is about.
    look = replace(looks[-1], drop=False, spread=True, short=False)
    heads, widths = _measured(table, look)
    paragraphs = {n: 0.4 * available for n, own in enumerate(widths) if not table.columns[n].numeric and own > 0.4 * available}
    gap = _GAPS[2]
    in_points = [round(paragraphs.get(n, own) + 2 * gap - 2) for n, own in enumerate(widths)]
    return Fitted(
        table, look, gap, heads, tuple(widths), paragraphs, tuple(map(tuple, fold_columns(table.columns, in_points, int(available)))), ()
    )


def _paragraph(table: Table, look: Look, widths: Sequence[float], available: float) -> dict[int, float]:
    """The widest column of text with the width that the other columns leave; empty if its words are longer than that."""
    texts = [n for n, column in enumerate(table.columns) if not column.numeric]
    if not texts:
        return {}
    widest = max(texts, key=lambda n: widths[n])
    room = available - sum(widths) + widths[widest]
    words = (word for row in table.rows for word in words_of(row[widest].text))
    longest = max((text_width(word, FONT_POINTS[look.font_size]) for word in words), default=0.0)
    return {widest: room} if room >= max(40.0, longest) else {}


def _candidates(table: Table, look: Look) -> Iterator[tuple[Table, tuple[str, ...]]]:
    """The table with the abbreviations of a look, then with one column less at a time."""
    notes: list[str] = []
    full = table
    if not look.spread:
        stripped = replace(table, rows=tuple(tuple(_without_spread(cell) for cell in row) for row in table.rows))
        if stripped == table:
            return
        table = stripped
        intervals = any(cell.interval and cell.text.endswith(")") for row in full.rows for cell in row)
        notes.append(f"Standard deviations{' and intervals in brackets' if intervals else ''} are left out for width.")
    short, note = _shortened(table) if look.short else (table, "")
    yield short, tuple(notes + ([note] if note else []))
    dropped: list[Column] = []
    for start in (*DROPPED_FIRST.get(table.name, ()), *_DROPPED_OF_ALL) if look.drop else ():
        removed = [column for column in table.columns[1:] if column.key.startswith(start)]
        if removed and len(table.columns) - len(removed) > 2:
            dropped += removed
            table = _without(table, removed)
            short, note = _shortened(table)
            yield short, (*notes, *([note] if note else []), f"Columns left out for width: {', '.join(_names_of(dropped, full))}.")


def _names_of(dropped: Sequence[Column], table: Table) -> list[str]:
    """The headers of some columns; a group that is left out as a whole is named once."""
    whole = {column.group for column in dropped} - {column.group for column in table.columns if column not in dropped}
    names = (column.group if column.group in whole else f"{column.group}: {column.head}" for column in dropped)
    return list(dict.fromkeys(name.removeprefix(": ") or column.head for name, column in zip(names, dropped, strict=True)))


def _without(table: Table, removed: Sequence[Column]) -> Table:
    kept = [n for n, column in enumerate(table.columns) if column not in removed]
    return replace(table, columns=tuple(table.columns[n] for n in kept), rows=tuple(tuple(row[n] for n in kept) for row in table.rows))


def _without_spread(cell: FormattedCell) -> FormattedCell:
    if " ± " in cell.text and cell.std is not None:
        return replace(cell, text=cell.text.partition(" ± ")[0])
    # `88.4 (83.8-92.2)`: an interval behind its number.
    return replace(cell, text=cell.text.partition(" (")[0]) if cell.interval and cell.text.endswith(")") else cell


def _shortened(table: Table) -> tuple[Table, str]:
    """The table with abbreviations, and the note that explains them."""

    def short(text: str) -> str:
        for word, letter in _SHORT_WORDS.items():
            text = text.replace(word, letter)
        return text

    columns = tuple(
        replace(column, head=_SHORT_HEADS.get(column.head, column.head), group=_SHORT_HEADS.get(column.group, column.group))
        for column in table.columns
    )
    about_samples = {n for n, column in enumerate(table.columns) if column.key == "information"}
    rows = tuple(
        tuple(replace(cell, text=short(cell.text)) if n in about_samples else cell for n, cell in enumerate(row)) for row in table.rows
    )
    return replace(table, columns=columns, rows=rows), _WORDS_NOTE if rows != table.rows else ""


def _measured(table: Table, look: Look) -> tuple[tuple[tuple[str, ...], ...], list[float]]:
    """The lines of each header and the width of each column in points."""
    points = FONT_POINTS[look.font_size]
    heads, widths = [], []
    for n, column in enumerate(table.columns):
        cells = [row[n] for row in table.rows]
        texts = [cell.text.replace(" ± ", "±") if look.close else cell.text for cell in cells]
        body = max((text_width(text, points, cell.rank == 1) for text, cell in zip(texts, cells, strict=True)), default=0.0)
        # Marks have no width of their own in the tabular, but need room behind the last column.
        lines = _wrapped_head(column.head, points, body) if look.wrap else (column.head,)
        heads.append(lines)
        widths.append(max(body, *(text_width(line, points) for line in lines)))
    _widen_groups(table.columns, widths, points, look.wrap)
    return tuple(heads), widths


def _wrapped_head(text: str, points: float, width: float) -> tuple[str, ...]:
    """The lines of a header over a column of some width: at most three, and as many as its words need."""
    longest_word = max(text_width(word, points) for word in words_of(text))
    return tuple(wrapped(text, points, max(width, longest_word, text_width(text, points) / 3)))


def group_lines(columns: Sequence[Column], widths: Sequence[float], points: float, gap: float) -> tuple[str, ...]:
    """The lines of the header that adjacent columns share."""
    return _wrapped_head(columns[0].group, points, sum(widths) + 2 * gap * (len(widths) - 1))


def _widen_groups(columns: Sequence[Column], widths: list[float], points: float, wrap: bool) -> None:
    """Widens the columns of a group whose header is longer than them."""
    start = 0
    while start < len(columns):
        end = start + 1
        while end < len(columns) and columns[end].group == columns[start].group:
            end += 1
        if columns[start].group:
            members, gap = widths[start:end], _GAPS[-1]
            lines = group_lines(columns[start:end], members, points, gap) if wrap else (columns[start].group,)
            longest = max(text_width(line, points) for line in lines)
            extra = max(0.0, longest - sum(members) - 2 * gap * (len(members) - 1)) / len(members)
            widths[start:end] = [own + extra for own in members]
        start = end

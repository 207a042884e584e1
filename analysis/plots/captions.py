"""Captions, titles and legends of figures.

A figure for print has neither a title nor sentences inside; they form its caption (`caption_of`). With several panels each has a letter and
what tells it apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from analysis.plots.styles import CHARACTER_WIDTH, TEXT_GREY, TWO_COLUMNS, PageWidth
from analysis.tables.render import paper_text

Figure = Any
"""A figure of Matplotlib, which is imported only where something is drawn."""


def caption_of(figure: Figure) -> str:
    """The caption: the title, the panels and the note on how to read the figure, as sentences."""
    title, subtitles, note = getattr(figure, _CAPTION, ("", [], ""))
    known = [subtitle.replace("\n", ", ") for subtitle in subtitles if subtitle]
    panels_text = (
        f": {known[0]}" if len(known) == 1 else ": " + "; ".join(f"({_letter(n)}) {text}" for n, text in enumerate(known)) if known else ""
    )
    parts = [f"{title}{panels_text}".strip().rstrip(".") + ".", note.strip().rstrip(".") + "." if note else ""]
    return paper_text(" ".join(part for part in parts if part))


_CAPTION = "caption_of_sap_sweep"
"""Attribute of a figure with (title, subtitles of the panels, note)."""


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26)


def _differing(subtitles: Sequence[str]) -> list[str]:
    """The parts of each subtitle that not all of them have: the noise rate, if the panels differ in nothing else."""
    parts = [re.split(r"[;,\n] ?", subtitle) for subtitle in subtitles]
    return [", ".join(part for part in own if not all(part in other for other in parts)) for own in parts]


def set_titles(figure: Figure, title: str, subtitles: Sequence[str], page: PageWidth = TWO_COLUMNS, room: float = 1.25) -> None:
    """Sets the title and the panels' subtitles of the caption; draws them only on a page with `titled`.

    Without it, several panels are labelled by a letter and the parts in which their subtitles differ.

    Args:
        figure: the figure.
        title: the title of the figure.
        subtitles: one per panel; wrapped to the panel's width.
        page: the width of the figure.
        room: divides the width that a subtitle may fill; larger where long tick labels take part of a panel's width.
    """
    setattr(figure, _CAPTION, (title, list(subtitles), ""))
    axes = [axis for axis in figure.axes if axis.get_visible()]
    grid = axes[0].get_subplotspec().get_gridspec()
    if not page.titled:
        if len(axes) > 1:
            short = [page.wrap(f"({_letter(n)}) {text}", grid.ncols * room) for n, text in enumerate(_differing(subtitles))]
            for axis, text in zip(axes, short, strict=True):
                axis.set_title(paper_text(text), loc="left", fontsize=page.small)
            _add_lines(figure, page, grid.nrows * (1 + max(text.count("\n") for text in short)))
        return
    texts = [page.wrap(subtitle, grid.ncols * room) for subtitle in subtitles]
    figure.suptitle(page.wrap(title), x=0.012, ha="left", fontsize=page.font_size + 1, fontweight="bold")
    for axis, text in zip(axes, texts, strict=True):
        axis.set_title(paper_text(text), loc="left", color=TEXT_GREY, fontsize=page.small)
    _add_lines(figure, page, 1 + page.wrap(title).count("\n") + grid.nrows * (1 + max(text.count("\n") for text in texts)))


def _add_lines(figure: Figure, page: PageWidth, lines: float) -> None:
    """Increases the figure's height by a number of lines of text, so that panels keep theirs."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + lines * page.line_height)


def legend_below(figure: Figure, note: str, page: PageWidth = TWO_COLUMNS, columns: int = 2) -> None:
    """Draws one legend for all panels below them, each name once; the note on how to read the figure is part of the caption."""
    _set_note(figure, note)
    # Panels repeat the names of curves; a dictionary keeps each once, in the order of the first panel.
    entries = {name: handle for axis in figure.axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    longest = max((len(name) for name in entries), default=0)
    # A legend wider than the figure would be cut off at its borders.
    fitting = max(1, int(page.width * 72 / ((CHARACTER_WIDTH * longest + 5) * page.font_size)))
    # "outside": constrained layout then reserves the room, so that the legend covers no panel.
    shown = page.wrap(paper_text(note), 1.05) if page.titled else ""
    across = min(columns, fitting)
    if entries:
        legend = figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=across, title=shown or None)
        legend.get_title().set(color=TEXT_GREY, multialignment="center")
    _add_lines(figure, page, (1.5 + shown.count("\n") if shown else 0.5) + 1.15 * -(-len(entries) // across))


def note_below(figure: Figure, note: str, page: PageWidth = TWO_COLUMNS) -> None:
    """Sets the note on how to read a figure without a legend; draws it only on a page with `titled`."""
    _set_note(figure, note)
    if not page.titled:
        return
    figure.supxlabel(page.wrap(paper_text(note), 1.05), fontsize=page.small, color=TEXT_GREY, multialignment="center")
    _add_lines(figure, page, 1 + page.wrap(note, 1.05).count("\n"))


def _set_note(figure: Figure, note: str) -> None:
    title, subtitles, _ = getattr(figure, _CAPTION, ("", [], ""))
    setattr(figure, _CAPTION, (title, subtitles, note))

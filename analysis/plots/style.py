"""The look of the figures, in one place. Matplotlib is loaded when a figure is drawn, never before.

Colours are Okabe and Ito's, which colour-blind readers can tell apart; line styles and markers differ too, so that grey print works.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Figure = Any
Axes = Any

TEXT_GREY = "0.25"

_SETTINGS = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "0.4", "axes.linewidth": 0.8, "axes.grid": True,
    "grid.color": "0.92", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False, "legend.handlelength": 2.6,
    "figure.dpi": 100, "savefig.dpi": 200, "pdf.fonttype": 42, "ps.fonttype": 42, "figure.constrained_layout.use": True,
    "hatch.linewidth": 0.7,
}  # fmt: skip


@dataclass(frozen=True)
class Page:
    """The place on a page that a figure is made for: it is printed at this width, so letters have the size they are given."""

    name: str  # one | two
    width: float  # inches
    size: float  # points of most letters
    across: int  # panels in a row, at most

    @property
    def line(self) -> float:
        """Height of a line of text in inches."""
        return 1.35 * self.size / 72

    def fold(self, text: str, across: float = 1) -> str:
        """The text in lines that fit a panel when so many stand in a row; line breaks stay."""
        room = max(20, int(self.width / across * 72 / (0.52 * self.size)))
        return "\n".join(textwrap.fill(line, room) for line in text.split("\n"))


ONE = Page("one", 3.3, 7.0, 1)
TWO = Page("two", 7.0, 8.5, 3)
PAGES = {page.name: page for page in (ONE, TWO)}
"""A column, and the width of a page of two columns (AAAI: 3.3 and 7 inches)."""


@dataclass(frozen=True)
class Style:
    """How one method's line is drawn."""

    color: str
    line: Any
    marker: str
    width: float = 1.3
    band: float = 0.10  # opacity of the spread
    front: int = 3  # drawing order

    @property
    def curve(self) -> dict[str, Any]:
        """The arguments of a line with markers."""
        return {
            "color": self.color, "linestyle": self.line, "linewidth": self.width, "zorder": self.front, "marker": self.marker,
            "markersize": 4 + self.width,
        }  # fmt: skip


_MAIN = {
    "sap": [Style("#0072B2", "-", "o", 2.2, 0.18, 7), Style("#56B4E9", (0, (5, 1.5)), "s", 1.7, 0.12, 6),
            Style("#004466", (0, (2, 1)), "v", 1.7, 0.10, 6), Style("#7F9FBF", (0, (6, 1.5, 1, 1.5)), "P", 1.5, 0.10, 6)],
    "scrub": [Style("#D55E00", "-", "D", 2.2, 0.18, 5), Style("#E69F00", (0, (5, 1.5)), "^", 1.7, 0.12, 5)],
}  # fmt: skip
_OTHERS = [
    Style("#009E73", (0, (4, 1.5, 1, 1.5)), "v"), Style("#CC79A7", (0, (2, 1.2)), "P"), Style("#8C8C8C", (0, (1, 1)), "X"),
    Style("#B8A200", (0, (6, 1.5, 1, 1.5, 1, 1.5)), "<"),
]  # fmt: skip


HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++", "oo")
"""Fillings of bars, which grey print can tell apart."""

FILLS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#F0E442")


def series(count: int) -> list[Style]:
    """Styles of lines that have an order (layers by depth, sizes): colours from dark to light, with markers and lines in turn."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    lines, markers = ("-", (0, (5, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (1, 1))), "osD^vPX<"
    shades = [colormaps["viridis"](0.92 * place / max(1, count - 1)) for place in range(count)]
    return [Style(to_hex(shade), lines[place % 4], markers[place % 8], 1.2) for place, shade in enumerate(shades)]


def styles(methods: Sequence[str]) -> list[Style]:
    """A style for each entry of `methods` (one entry per space): SAP and SCRUB strong, the others light."""
    given: list[Style] = []
    others = [method for method in methods if method not in _MAIN]
    for place, method in enumerate(methods):
        if method in _MAIN:
            family, turn = _MAIN[method], methods[:place].count(method)
        else:
            family, turn = _OTHERS, len([other for other in methods[:place] if other in others])
        given.append(family[turn % len(family)])
    return given


def look(page: Page = TWO) -> AbstractContextManager[None]:
    """Inside, matplotlib draws without a screen, in this project's look and with the page's letters."""
    import matplotlib

    matplotlib.use("Agg")
    letters = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), page.size)
    small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize", "legend.title_fontsize"), page.size - 0.5)
    return matplotlib.rc_context({**_SETTINGS, **letters, **small})


def panels(count: int, page: Page = TWO, height: float = 0.62, across: int | None = None, below: float = 3.5) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels on a page, at most `across` (or as many as suit the page) in a row, `height` times as tall as
    wide, each with room for so many lines of text `below`.
    """
    from matplotlib import pyplot

    most = across or (2 if count == 4 and page.across > 2 else page.across)
    columns = min(count, most)
    lines = -(-count // columns)
    wide = page.width / columns
    size = (page.width, lines * (height * wide + below * page.line) + page.line)  # headings and legend make room for themselves
    figure, grid = pyplot.subplots(lines, columns, figsize=size, squeeze=False)
    axes = list(grid.flat)
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def level(axis: Axes, value: float, text: str, line: Any) -> None:
    """A horizontal line with its name in the right margin."""
    axis.axhline(value, color=TEXT_GREY, linestyle=line, linewidth=1, zorder=2)
    where = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    axis.annotate(text, (1, value), color=TEXT_GREY, fontsize="small", **where)


def log_axis(axis: Axes, ticks: Sequence[float] | None = None) -> None:
    """A logarithmic x axis with plain numbers, at the given ticks or at the powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_xticks(ticks)
        axis.xaxis.set_minor_locator(NullLocator())


def headings(figure: Figure, title: str, subtitles: Sequence[str], page: Page = TWO, room: float = 1.25) -> None:
    """One bold title for the whole figure; a grey text above each panel, folded to its width (`room`: more where names stand beside it)."""
    axes = [axis for axis in figure.axes if axis.get_visible()]
    grid = axes[0].get_subplotspec().get_gridspec()
    texts = [page.fold(subtitle, grid.ncols * room) for subtitle in subtitles]
    figure.suptitle(page.fold(title), x=0.012, ha="left", fontsize=page.size + 1, fontweight="bold")
    for axis, text in zip(axes, texts, strict=True):
        axis.set_title(text, loc="left", color=TEXT_GREY, fontsize=page.size - 0.5)
    _grow(figure, page, 1 + page.fold(title).count("\n") + grid.nrows * (1 + max(text.count("\n") for text in texts)))


def _grow(figure: Figure, page: Page, lines: float) -> None:
    """Makes the figure so many lines of text higher."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + lines * page.line)


def labels(axes: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Labels at the left of each line of panels and below the lowest panel of each column."""
    for place, axis in enumerate(axes):
        spot = axis.get_subplotspec()
        if spot.is_first_col():
            axis.set_ylabel(y_label)
        if place + spot.get_gridspec().ncols >= len(axes):
            axis.set_xlabel(x_label)


def legend_below(figure: Figure, how: str, page: Page = TWO, columns: int = 2) -> None:
    """One legend for all panels, below them, each name once, under a line that says how the figure is to be read."""
    entries = {name: handle for axis in figure.axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    widest = max((len(name) for name in entries), default=0)
    fitting = max(1, int(page.width * 72 / ((0.52 * widest + 5) * page.size)))
    legend = figure.legend(
        entries.values(), entries.keys(), loc="outside lower center", ncols=min(columns, fitting), title=page.fold(how, 1.05)
    )
    legend.get_title().set(color=TEXT_GREY, multialignment="center")
    _grow(figure, page, 1.5 + page.fold(how, 1.05).count("\n") + 1.15 * -(-len(entries) // min(columns, fitting)))


def note_below(figure: Figure, how: str, page: Page = TWO) -> None:
    """The line that says how a figure without a legend is to be read."""
    figure.supxlabel(page.fold(how, 1.05), fontsize=page.size - 0.5, color=TEXT_GREY, multialignment="center")
    _grow(figure, page, 1 + page.fold(how, 1.05).count("\n"))


def save(figure: Figure, form: str, path: Path) -> None:
    """Writes the figure as png or pdf, without a date inside, so that the same store gives the same bytes."""
    figure.savefig(path, format=form, metadata={"CreationDate": None} if form == "pdf" else None)


def close(figure: Figure) -> None:
    """Gives the figure's memory back."""
    from matplotlib import pyplot

    pyplot.close(figure)

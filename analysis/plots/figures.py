"""Shared appearance of all figures: page widths, line styles, subplots, axes, captions and legends.

A figure for print has neither a title nor sentences inside; they form its caption (`caption_of`). With several panels each has a letter and
what tells it apart.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish; line styles and markers differ as well, for grey print.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.store.labels import Measure
from analysis.tables.render import paper_text
from analysis.tuning.intervals import FEW_SEEDS

# Matplotlib takes half a second to import, so every function imports it itself: tables and text reports do without.
Figure = Any
Axes = Any

TEXT_GREY = "0.25"

_RC_PARAMS = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "0.4", "axes.linewidth": 0.8, "axes.grid": True,
    "grid.color": "0.92", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False, "legend.handlelength": 2.6,
    # Type 42 embeds TrueType fonts; conferences reject Matplotlib's default, Type 3.
    "figure.dpi": 100, "savefig.dpi": 200, "pdf.fonttype": 42, "ps.fonttype": 42, "figure.constrained_layout.use": True,
    "hatch.linewidth": 0.7,
}  # fmt: skip

_CHARACTER_WIDTH = 0.52
"""Mean width of a character as a multiple of the font size, for folding text before it is drawn."""


@dataclass(frozen=True)
class PageWidth:
    """The printed width of a figure. Figures are made at the size they are printed, so that text has the stated font size on paper."""

    name: str  # one | two
    width: float  # inches
    font_size: float  # points
    max_panels: int  # in one row
    titled: bool = False  # whether the caption is drawn inside the figure

    @property
    def small(self) -> float:
        """The size of small print in points. Below 7 points conferences reject a figure."""
        return max(7.0, self.font_size - 0.5)

    @property
    def line_height(self) -> float:
        """The height of a line of text in inches."""
        return 1.35 * self.font_size / 72

    def wrap(self, text: str, panels: float = 1) -> str:
        """Breaks a text into lines that fit one of `panels` panels in a row; existing line breaks stay."""
        # The average width of a character is an estimate, because text is measured only when it is drawn.
        characters = max(20, int(self.width / panels * 72 / (_CHARACTER_WIDTH * self.font_size)))
        return "\n".join(textwrap.fill(line, characters) for line in text.split("\n"))


ONE_COLUMN = PageWidth("one", 3.3, 7.5, 1)
TWO_COLUMNS = PageWidth("two", 7.0, 8.5, 3)
PAGE_WIDTHS = {page.name: page for page in (ONE_COLUMN, TWO_COLUMNS)}
"""One column and the full width of a page of two columns (AAAI: 3.3 and 7 inches)."""


@dataclass(frozen=True)
class LineStyle:
    """The colour, dashes and marker of one curve."""

    color: str
    linestyle: Any
    marker: str
    width: float = 1.3
    band_alpha: float = 0.10  # opacity of the band of the spread
    zorder: int = 3

    @property
    def curve(self) -> dict[str, Any]:
        """The arguments of `Axes.plot` for a line with markers."""
        return {
            "color": self.color, "linestyle": self.linestyle, "linewidth": self.width, "zorder": self.zorder, "marker": self.marker,
            "markersize": 4 + self.width,
        }  # fmt: skip


_MAIN_METHODS = {
    "sap": [LineStyle("#0072B2", "-", "o", 2.2, 0.18, 7), LineStyle("#56B4E9", (0, (5, 1.5)), "s", 1.7, 0.12, 6),
            LineStyle("#004466", (0, (2, 1)), "v", 1.7, 0.10, 6), LineStyle("#7F9FBF", (0, (6, 1.5, 1, 1.5)), "P", 1.5, 0.10, 6)],
    "scrub": [LineStyle("#D55E00", (0, (8, 2)), "D", 2.2, 0.18, 5), LineStyle("#E69F00", (0, (5, 1.5)), "^", 1.7, 0.12, 5)],
}  # fmt: skip
_OTHER_METHODS = [
    LineStyle("#009E73", (0, (4, 1.5, 1, 1.5)), "v"), LineStyle("#CC79A7", (0, (2, 1.2)), "P"), LineStyle("#8C8C8C", (0, (1, 1)), "X"),
    LineStyle("#B8A200", (0, (6, 1.5, 1, 1.5, 1, 1.5)), "<"),
]  # fmt: skip


HATCHES = ("", "////", "....", "xxxx", "----", "\\\\\\\\", "++", "oo")
"""Hatches of bars, distinguishable in grey print."""

FILLS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#F0E442")
"""Fill colours of bars and markers."""


def ordered_styles(count: int) -> list[LineStyle]:
    """Styles of curves with a natural order (layers by depth, sizes): colours from dark to light, dashes and markers in turn."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    dashes, markers = ("-", (0, (5, 1.5)), (0, (4, 1.5, 1, 1.5)), (0, (1, 1))), "osD^vPX<"
    # viridis ends in a yellow that is invisible on white paper
    shades = [colormaps["viridis"](0.8 * index / max(1, count - 1)) for index in range(count)]
    return [LineStyle(to_hex(shade), dashes[index % 4], markers[index % 8], 1.2) for index, shade in enumerate(shades)]


def method_styles(methods: Sequence[str]) -> list[LineStyle]:
    """One style per entry of `methods`, which names a method once per search space: bold lines for SAP and SCRUB, thin ones for others."""
    found: list[LineStyle] = []
    others = [method for method in methods if method not in _MAIN_METHODS]
    for index, method in enumerate(methods):
        if method in _MAIN_METHODS:
            # The n-th space of a method gets its n-th style, so a method keeps its colour family.
            family, turn = _MAIN_METHODS[method], methods[:index].count(method)
        else:
            family, turn = _OTHER_METHODS, len([other for other in methods[:index] if other in others])
        found.append(family[turn % len(family)])
    return found


def rc_context(page: PageWidth = TWO_COLUMNS) -> AbstractContextManager[None]:
    """A context in which Matplotlib draws without a display, with the project's settings and the font size of the page width."""
    import matplotlib

    # Reports are written on servers and in batch jobs, which have no display.
    matplotlib.use("Agg")
    text = dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), page.font_size)
    small = dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize", "legend.title_fontsize"), page.small)
    return matplotlib.rc_context({**_RC_PARAMS, **text, **small})


def panels(
    count: int, page: PageWidth = TWO_COLUMNS, height: float = 0.62, across: int | None = None, below: float = 3.5
) -> tuple[Figure, list[Axes]]:
    """Creates a figure with `count` panels.

    Args:
        count: the number of panels.
        page: the width of the figure.
        height: the height of a panel as a multiple of its width.
        across: the most panels in a row; that of the page width if None.
        below: the space below each panel in lines of text.
    """
    from matplotlib import pyplot

    # Two by two rather than three and one.
    most = across or (2 if count == 4 and page.max_panels > 2 else page.max_panels)
    columns = min(count, most)
    rows = -(-count // columns)
    panel_width = page.width / columns
    # titles and legends add their own height when they are drawn, see `_add_lines`
    size = (page.width, rows * (height * panel_width + below * page.line_height) + page.line_height)
    # The height follows from the number of rows, so that panels keep their shape on any page.
    figure, grid = pyplot.subplots(rows, columns, figsize=size, squeeze=False)
    axes = list(grid.flat)
    # Panels that a row of the grid has too many.
    for axis in axes[count:]:
        axis.set_visible(False)
    return figure, axes[:count]


def reference_line(axis: Axes, value: float, text: str, linestyle: Any) -> None:
    """Draws a horizontal line with its name in the right margin."""
    axis.axhline(value, color=TEXT_GREY, linestyle=linestyle, linewidth=1, zorder=2)
    position = {"xycoords": ("axes fraction", "data"), "xytext": (4, 0), "textcoords": "offset points", "va": "center"}
    # In the margin, where it cannot cover a curve.
    axis.annotate(text, (1, value), color=TEXT_GREY, fontsize=max(7.0, _font_size() - 1), **position)


def log_axis(axis: Axes, ticks: Sequence[float] | None = None) -> None:
    """Makes the x axis logarithmic, with plain numbers at the given ticks or at the powers of ten."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: paper_text(f"{value:g}")))
    axis.xaxis.set_minor_formatter(NullFormatter())
    if ticks is not None:
        axis.set_xticks(ticks)
        # Minor ticks between given values would suggest values that were not tried.
        axis.xaxis.set_minor_locator(NullLocator())


def _font_size() -> float:
    import matplotlib

    return float(matplotlib.rcParams["font.size"])


MANY_SEEDS = FEW_SEEDS
"""With fewer seeds the single seeds are drawn, because a standard deviation of so few says little; otherwise whiskers of one."""

MAX_BANDS = 3
"""The most bands in one panel; more hide each other."""


def draw_spread(axis: Axes, place: float, values: Sequence[float], style: LineStyle, horizontal: bool = False) -> None:
    """Draws single seeds at one place of an axis as small hollow markers, or with many seeds a whisker of one standard deviation."""
    if len(values) < 2:
        return
    if len(values) < MANY_SEEDS:
        places = [place] * len(values)
        marks = {"marker": style.marker, "markersize": 2.8, "markerfacecolor": "none", "markeredgewidth": 0.6, "color": style.color}
        at = (values, places) if horizontal else (places, values)
        axis.plot(*at, linestyle="none", zorder=style.zorder - 1, **marks)
        return
    from statistics import fmean, stdev

    middle, spread = fmean(values), stdev(values)
    centre = (middle, place) if horizontal else (place, middle)
    bar = {"xerr" if horizontal else "yerr": spread}
    axis.errorbar(*centre, **bar, color=style.color, elinewidth=0.8, capsize=2, linestyle="none", zorder=style.zorder - 1)


def gain_label(measure: Measure) -> str:
    """The label of an axis with paired gains: `Gain in test accuracy (points)`."""
    return f"Gain in test {measure.name}" + (" (points)" if measure.unit else "")


def spread_sentence(seeds: int) -> str:
    """Explains the marks of `draw_spread` in a caption."""
    if seeds == 1:
        return "One seed."
    return "Small markers: single seeds." if seeds < MANY_SEEDS else "Whiskers: one sample standard deviation over the seeds."


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

    Without it, several panels are told apart by a letter and what differs between their subtitles.

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


def label_axes(axes: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Labels the y axes of the first column and the x axes of the lowest panel of each column."""
    for index, axis in enumerate(axes):
        spec = axis.get_subplotspec()
        if spec.is_first_col():
            axis.set_ylabel(y_label)
        # The lowest visible panel of its column, which is not in the last row if that is incomplete.
        if index + spec.get_gridspec().ncols >= len(axes):
            axis.set_xlabel(x_label)


def legend_below(figure: Figure, note: str, page: PageWidth = TWO_COLUMNS, columns: int = 2) -> None:
    """Draws one legend for all panels below them, each name once; the note on how to read the figure is part of the caption."""
    _set_note(figure, note)
    # Panels repeat the names of curves; a dictionary keeps each once, in the order of the first panel.
    entries = {name: handle for axis in figure.axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    longest = max((len(name) for name in entries), default=0)
    # A legend wider than the figure would be cut off at its borders.
    fitting = max(1, int(page.width * 72 / ((_CHARACTER_WIDTH * longest + 5) * page.font_size)))
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


def save(figure: Figure, form: str, path: Path) -> None:
    """Writes the figure as png or pdf. The file contains no date, so that the same store gives the same bytes."""
    figure.savefig(path, format=form, metadata={"CreationDate": None} if form == "pdf" else None)


def close(figure: Figure) -> None:
    """Releases the figure's memory."""
    from matplotlib import pyplot

    pyplot.close(figure)

"""Subplots and axes of figures, and what their modules share: `styles` and `captions`, whose names are also found here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.plots.captions import Figure as Figure
from analysis.plots.captions import caption_of as caption_of
from analysis.plots.captions import legend_below as legend_below
from analysis.plots.captions import note_below as note_below
from analysis.plots.captions import set_titles as set_titles
from analysis.plots.styles import FILLS as FILLS
from analysis.plots.styles import HATCHES as HATCHES
from analysis.plots.styles import ONE_COLUMN as ONE_COLUMN
from analysis.plots.styles import PAGE_WIDTHS as PAGE_WIDTHS
from analysis.plots.styles import TEXT_GREY as TEXT_GREY
from analysis.plots.styles import TWO_COLUMNS as TWO_COLUMNS
from analysis.plots.styles import LineStyle as LineStyle
from analysis.plots.styles import PageWidth as PageWidth
from analysis.plots.styles import method_styles as method_styles
from analysis.plots.styles import ordered_styles as ordered_styles
from analysis.plots.styles import rc_context as rc_context
from analysis.store.labels import Measure
from analysis.tables.render import paper_text
from analysis.tuning.intervals import FEW_SEEDS

Axes = Any


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


def label_axes(axes: Sequence[Axes], x_label: str, y_label: str) -> None:
    """Labels the y axes of the first column and the x axes of the lowest panel of each column."""
    for index, axis in enumerate(axes):
        spec = axis.get_subplotspec()
        if spec.is_first_col():
            axis.set_ylabel(y_label)
        # The lowest visible panel of its column, which is not in the last row if that is incomplete.
        if index + spec.get_gridspec().ncols >= len(axes):
            axis.set_xlabel(x_label)


def save(figure: Figure, form: str, path: Path) -> None:
    """Writes the figure as png or pdf. The file contains no date, so that the same store gives the same bytes."""
    figure.savefig(path, format=form, metadata={"CreationDate": None} if form == "pdf" else None)


def close(figure: Figure) -> None:
    """Releases the figure's memory."""
    from matplotlib import pyplot

    pyplot.close(figure)

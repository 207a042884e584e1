"""The appearance of all figures: page widths, colours, line styles, hatches, Matplotlib's settings.

The colours are those of Okabe and Ito, which colour-blind readers can distinguish; line styles and markers differ as well, for grey print.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

# Matplotlib takes half a second to import, so every function imports it itself: tables and text reports do without.

TEXT_GREY = "0.25"

_RC_PARAMS = {
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": "0.4", "axes.linewidth": 0.8, "axes.grid": True,
    "grid.color": "0.92", "grid.linewidth": 0.8, "axes.axisbelow": True, "legend.frameon": False, "legend.handlelength": 2.6,
    # Type 42 embeds TrueType fonts; conferences reject Matplotlib's default, Type 3.
    "figure.dpi": 100, "savefig.dpi": 200, "pdf.fonttype": 42, "ps.fonttype": 42, "figure.constrained_layout.use": True,
    "hatch.linewidth": 0.7,
}  # fmt: skip

CHARACTER_WIDTH = 0.52
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
        characters = max(20, int(self.width / panels * 72 / (CHARACTER_WIDTH * self.font_size)))
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

"""Draws the values of single seeds, which a mean and a spread over fewer than `FEW_SEEDS` seeds would hide."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.plots import figures
from analysis.store.stats import Summary
from analysis.tuning.intervals import FEW_SEEDS

NOTE = "dots: single seeds"


def draw_seeds(axis: figures.Axes, points: Iterable[tuple[float, Summary]], style: figures.LineStyle) -> None:
    """Draws a dot for every seed.

    Args:
        axis: the axes.
        points: the horizontal position and the numbers over the seeds, in the unit of the axis.
        style: the style of the curve that the seeds belong to.
    """
    dots = [(x, value) for x, summary in points if 1 < summary.n < FEW_SEEDS for value in summary.values]
    if dots:
        xs, ys = zip(*dots, strict=True)
        axis.plot(xs, ys, marker=".", markersize=3, color=style.color, linestyle="none", zorder=style.zorder)

"""Formats the numbers of the report on tuning cost, for its sentences and its tables alike."""

from __future__ import annotations

import math
from collections.abc import Callable

from analysis.store.labels import MEASURES, MISSING, counted, method_label, number
from analysis.tuning.anytime import Unit
from analysis.tuning.head_to_head import Chance
from analysis.tuning.headline import Headline, HeadToHead, SearchSummary
from analysis.tuning.intervals import Bounds

UNITS: dict[Unit, tuple[str, float]] = {
    "seconds": ("s", 1.0),
    "flops": ("GFLOP", 1e-9),
    "passes": ("sample-passes", 1.0),
    "trials": ("", 1),
}
"""Unit of cost -> (symbol, factor from the stored to the printed value)."""


def percent(share: float) -> str:
    """`95 %`."""
    return f"{100 * share:.0f} %"


def label_of(search: SearchSummary | HeadToHead) -> str:
    """The printed name of a method and its space."""
    return method_label(search.method, search.space)


def bounds_text(bounds: Bounds | None, show: Callable[[float], str]) -> str:
    """`16.7`; `≥ 16.7` or `≤ 16.7` where only a bound is known; a dash where nothing is."""
    if bounds is None or (bounds.low == 0 and math.isinf(bounds.high)):
        return MISSING
    if bounds.exact:
        return show(bounds.low)
    if math.isinf(bounds.high):
        return f"≥ {show(bounds.low)}"
    return f"≤ {show(bounds.high)}" if bounds.low == 0 else f"{show(bounds.low)} to {show(bounds.high)}"


def significant(value: float) -> str:
    """Three significant digits without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def ratio_text(bounds: Bounds | None) -> str:
    """A ratio of costs with three significant digits."""
    return bounds_text(bounds, significant)


def interval_text(interval: tuple[float, float], decimals: int) -> str:
    """`−0.35 to +6.99`."""
    return " to ".join(number(end, decimals, sign=True) for end in interval)


def chance_text(chance: Chance) -> str:
    """Two decimals; a probability that is neither 0 nor 1 is not printed as one of them."""
    text = f"{chance.value:.2f}"
    if text == "1.00" and chance.value < 1:
        return "> 0.99"
    return "< 0.01" if text == "0.00" and chance.value > 0 else text


def seeds_text(seeds: int | None) -> str:
    """`8 seeds`; None is more than 10,000."""
    return "more than 10,000 seeds" if seeds is None else counted(seeds, "seed")


def factor_of(headline: Headline) -> float:
    """The factor from a stored to a printed score."""
    return MEASURES[headline.cell.measure].factor


def decimals_of(headline: Headline) -> int:
    """The printed decimals of a score."""
    return MEASURES[headline.cell.measure].decimals

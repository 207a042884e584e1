"""Ranges of hyperparameters, refused in one sentence."""

from __future__ import annotations

from sap_core.errors import UserError


def within(where: str, interval: str, **values: float) -> None:
    """Checks that numbers lie in an interval, written as in books: "(0, 1]" is above 0 and at most 1; "inf" is no bound.

    Raises:
        UserError: the first that lies outside (or is not a number at all: NaN).
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    for name, value in values.items():
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise UserError(f"{where}.{name}={value:g} is out of range; it must lie in {interval}")

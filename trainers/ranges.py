"""Range checks of hyperparameters."""

from __future__ import annotations

from sap_core.errors import UserError


def check(where: str, interval: str, **values: float) -> None:
    """Checks that all values lie in an interval in mathematical notation: "(0, 1]" is above 0 and at most 1; "inf" is no bound.

    Raises:
        UserError: names the first value that lies outside. NaN always does.
    """
    low, high = (float(bound) for bound in interval[1:-1].split(","))
    for name, value in values.items():
        # Comparisons that hold inside the interval, because NaN fails every comparison.
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise UserError(f"{where}.{name}={value:g} is out of range; it must lie in {interval}")

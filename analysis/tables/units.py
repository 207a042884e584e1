"""In which unit and with how many decimals a value of a row is printed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """Stored value x factor = printed value."""

    factor: float
    decimals: int
    suffix: str  # of the column's name in CSV
    kind: str  # share | points | score | large | number | times
    sign: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.kind in ("share", "points", "score")


def unit_of_value(value: str) -> Unit:
    """The unit of a column of rows, or of what a table computes from them."""
    if value in ("gain", "optimism"):
        return Unit(100, 2, "points", "points" if value == "gain" else "number", sign=True)
    if value.endswith(("_acc", "_precision", "_rate", "_rate_true")):
        return Unit(100, 2, "percent", "share")
    if value.endswith("_r2"):
        return Unit(1, 4, "", "score")
    if "flops" in value:
        return Unit(1e-9, 0, "giga", "large")
    if value.endswith(("_seconds", "_forwards", "_backwards", "_alone")):
        return Unit(1, 0, "", "large")
    if value.endswith("_bytes"):
        return Unit(2**-20, 0, "megabytes", "large")
    return Unit(1, 0, "", "number")

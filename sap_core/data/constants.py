"""Checks the constants that normalise inputs: a mean and a standard deviation per channel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from sap_core.errors import UserError

_SMALLEST, _LARGEST = 1.2e-38, 3.4e38
"""Range of the positive numbers that float32 holds with full precision: inputs are normalised in it."""


def check_constants(mean: Any, std: Any, where: str, channels: int | None = None) -> None:
    """Check that inputs can be normalised: (input - mean) / std.

    Args:
        mean: one number per channel; empty, as `std`: no normalisation.
        std: one number per channel.
        where: option that contains them, such as "dataset".
        channels: number of channels of the inputs; None: unknown.

    Raises:
        UserError: other than one finite number per channel each, or a standard deviation that is not above 0.
    """
    allowed = f"one number per channel{f' ({channels})' if channels is not None else ''}, deviations above 0"
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, Sequence) or isinstance(values, str) or not all(map(_is_number, values)):
            raise UserError(f"{where}.{name}={_plain(values)} is no list of finite numbers; give mean and std {allowed}")
    if len(mean) != len(std) or (channels is not None and len(mean) not in (0, channels)):
        raise UserError(f"{where}.mean has {len(mean)} and {where}.std {len(std)} numbers; give both {allowed}, or leave both out")
    if any(not value >= _SMALLEST for value in std):
        raise UserError(f"{where}.std={_plain(std)} must contain only numbers above 0, because inputs are divided by it")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) <= _LARGEST


def _plain(values: Any) -> str:
    return str(list(values)) if isinstance(values, tuple | list) else repr(values)

"""Conversion to float64, which Apple's GPUs do not have: there the tensor moves to the CPU, as does everything computed from it."""

from __future__ import annotations

import torch
from torch import Tensor

NO_FLOAT64 = ("mps",)
"""Types of devices without float64."""


def to_float64(x: Tensor) -> Tensor:
    """Return `x` as float64, on its own device or, if that has no float64, on the CPU."""
    return where_float64_is(x).to(torch.float64)


def where_float64_is(x: Tensor) -> Tensor:
    """Return `x` on its own device or, if that has no float64, on the CPU."""
    return x.cpu() if x.device.type in NO_FLOAT64 else x

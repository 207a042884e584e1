"""What the noise kinds share: checks, and who is hit.

Who is hit and what their labels become are drawn from two separate streams, with one draw per sample whatever the rate. So, under one key,
the samples that a rate of 0.10 corrupts are among those of 0.25, with the same wrong labels: rates can be compared pairwise.
Shapes: N samples, M samples picked.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


def check_rate(rate: float) -> None:
    """Refuses what is no share of the labels."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"noise.rate={rate!r} is no share of the labels; allowed are numbers from 0 up to, but not including, 1")


def check_labels(labels: Tensor, classes: Classes, kind: str) -> None:
    """Refuses targets that are no classes."""
    if labels.is_floating_point() or classes.num < 2:
        raise UserError(f"noise={kind} needs class labels, and this data set has none; use noise=none")


def pick(num: int, rate: float, rng: Stream) -> Tensor:
    """(M,) exactly int(rate * num) positions without repeats, as the reference counts them."""
    return rng.child("which").permutation(num)[: int(rate * num)]


def batch_for(shape: tuple[int, ...]) -> int:
    """How many inputs of this shape make a batch of about 16 MiB of float32, so that large images need no large memory."""
    return max(1, 2**22 // math.prod(shape))


def hit(num: int, rate: float, rng: Stream) -> Tensor:
    """(M,) the positions that are hit when each is with probability `rate`, independently."""
    return torch.nonzero(torch.rand(num, generator=rng.child("which").generator()) < rate).flatten()


def check_numbers(labels: Tensor, kind: str) -> None:
    """Refuses classes."""
    if not labels.is_floating_point():
        raise UserError(f"noise={kind} corrupts numbers, and this data set has classes; use noise=symmetric or pairflip")


def centre_and_spread(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation over the samples, of each target."""
    return targets.mean(0), targets.std(0, correction=0)

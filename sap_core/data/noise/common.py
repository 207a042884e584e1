"""Common code of the noise kinds: checks of options, and the selection of samples.

The selected samples and their wrong labels are drawn from two separate streams, with one draw per sample for every rate. So, for one key,
the samples that a rate of 0.10 corrupts are among those of 0.25, with the same wrong labels, and rates can be compared pairwise.

Shapes: N samples, M selected samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


def check_rate(rate: float) -> None:
    """Check that a noise rate is in [0, 1).

    Raises:
        UserError: it is not.
    """
    # bool is a subclass of int: `noise.rate=true` is a mistake, not the rate 1.
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"noise.rate={rate!r} is not a fraction of the labels; allowed are numbers of at least 0 and below 1")


def check_labels(labels: Tensor, classes: Classes, kind: str) -> None:
    """Check that the labels are classes.

    Raises:
        UserError: they are regression targets, or there are fewer than two classes.
    """
    if labels.is_floating_point() or classes.num < 2:
        raise UserError(f"noise={kind} needs class labels, but this data set has none; use noise=none")


def pick(num: int, rate: float, rng: Stream) -> Tensor:
    """Return (M,) random positions without repetition; M = int(rate * num), as in SAP's released code."""
    # A prefix of one permutation: samples of a lower rate are among those of a higher one.
    return rng.child("which").permutation(num)[: int(rate * num)]


def batch_for(shape: tuple[int, ...]) -> int:
    """Return the number of inputs of a shape that make a batch of about 16 MiB of float32, to limit memory for large images."""
    return max(1, 2**22 // math.prod(shape))


def hit(num: int, rate: float, rng: Stream) -> Tensor:
    """Return (M,) positions, each selected independently with probability `rate`."""
    # One uniform number per sample is compared with the rate, which nests rates, too.
    return torch.nonzero(torch.rand(num, generator=rng.child("which").generator()) < rate).flatten()


def check_numbers(labels: Tensor, kind: str) -> None:
    """Check that the labels are regression targets.

    Raises:
        UserError: they are classes.
    """
    if not labels.is_floating_point():
        raise UserError(f"noise={kind} corrupts regression targets, but this data set has classes; use noise=symmetric or pairflip")


def centre_and_spread(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each target over the samples."""
    # The population's deviation (divided by N): all samples are known.
    return targets.mean(0), targets.std(0, correction=0)

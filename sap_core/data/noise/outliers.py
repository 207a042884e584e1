"""Outlier noise for regression: targets are shifted up or down by a large distance. Specific to this project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import centre_and_spread, check_numbers, check_rate, pick
from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Outliers:
    """Exactly int(rate * N) targets are shifted by `size` standard deviations of all targets, up or down with equal probability.

    The released code of PRL (Liu et al., ICML 2021) contains no regression noise.
    """

    name: ClassVar[str] = "outliers"
    version: ClassVar[int] = 1
    rate: float
    size: float = 5.0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if not self.size > 0:
            raise UserError(f"noise.size={self.size!r} is a distance in standard deviations; it must be above 0")

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_numbers(labels, "outliers")
        which = pick(len(labels), self.rate, rng)
        # The spread of the true targets, before any of them is moved.
        _, spread = centre_and_spread(labels)
        given = labels.clone()
        # Drawn for every sample, so that the direction does not depend on the rate.
        up = torch.rand(len(labels), generator=rng.child("label").generator()) < 0.5
        step = torch.where(up[which], self.size, -self.size).to(labels.dtype)
        # Reshaped for targets of several dimensions: all of a sample's targets move in the same direction.
        given[which] = labels[which] + step.reshape(-1, *[1] * (labels.ndim - 1)) * spread
        return given

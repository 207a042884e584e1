"""Random draws of training steps, from named streams: made on the CPU, so that every device sees the same ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta

from sap_core.seeding import Stream


def beta(rng: Stream, alpha: float, count: int) -> Tensor:
    """(count,) draws from Beta(alpha, alpha), float32 in [0, 1]."""
    shape = torch.full((count,), alpha, dtype=torch.float64)
    with rng.scope():  # torch's Beta knows the global generator only
        drawn: Tensor = Beta(shape, shape).sample()
    return drawn.float()


def coins(rng: Stream, count: int) -> Tensor:
    """(count,) fair coins, bool."""
    return torch.rand(count, generator=rng.generator()) < 0.5


def choices(rng: Stream, weights_B: Tensor, count: int) -> Tensor:
    """(count,) positions in `weights_B`, drawn with replacement in proportion to the weights, on their device.

    By inversion of the cumulative sum, so that a GPU need not wait for the CPU.
    """
    cumulative = weights_B.double().cumsum(0)
    drawn = torch.rand(count, generator=rng.generator(), dtype=torch.float64).to(cumulative.device) * cumulative[-1]
    return torch.searchsorted(cumulative, drawn, right=True).clamp(max=len(weights_B) - 1)

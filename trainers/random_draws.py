"""Random numbers for training steps, drawn on the CPU from named streams, so that every device gets the same ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta

from sap_core.seeding import Stream


def beta(rng: Stream, alpha: float, count: int) -> Tensor:
    """Returns (count,) draws from Beta(alpha, alpha), float32 in [0, 1]."""
    # In float64: with a small alpha most draws lie next to 0 or 1.
    shape = torch.full((count,), alpha, dtype=torch.float64)
    # torch's Beta accepts no generator, so the global one is seeded from the stream.
    with rng.scope():
        drawn: Tensor = Beta(shape, shape).sample()
    return drawn.float()


def coins(rng: Stream, count: int) -> Tensor:
    """Returns (count,) fair coin flips, bool."""
    return torch.rand(count, generator=rng.generator()) < 0.5


def choices(rng: Stream, weights_B: Tensor, count: int) -> Tensor:
    """Draws (count,) indices into `weights_B` with replacement, in proportion to the weights; the result is on their device."""
    # By inversion of the cumulative sum: only uniform draws come from the CPU, and the weights need not leave the GPU.
    cumulative = weights_B.double().cumsum(0)
    drawn = torch.rand(count, generator=rng.generator(), dtype=torch.float64).to(cumulative.device) * cumulative[-1]
    # Clamped, because rounding may reach the end of the last bin.
    return torch.searchsorted(cumulative, drawn, right=True).clamp(max=len(weights_B) - 1)

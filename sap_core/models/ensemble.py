"""Ensemble of networks, the result of trainers that train two networks.

Shapes: B batch, C outputs, K networks.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Computes the mean of the logits of its networks."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C) from inputs (B, ...)."""
        logits_KBC = torch.stack([net(inputs) for net in self.nets])
        # Logits and not probabilities, so that the ensemble is a network with logits like any other, for losses and correctors.
        return logits_KBC.mean(0)

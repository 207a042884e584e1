"""Context manager for evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode and disable gradients within a block, then restore the training flag of each module.

    A plain `model.train()` afterwards would also switch modules whose flag was false before, such as frozen batch norms.
    """
    # Flag by flag, and restored even after an error: the network belongs to the caller.
    training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag

"""Evaluation mode, and norms that do not have one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


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


def batch_statistics(model: nn.Module) -> str | None:
    """Return the name of the first batch norm that normalises by the statistics of the batch in evaluation mode, too, or None.

    Such a norm has no running statistics, so that the outputs for an image depend on the others of its batch, and it cannot normalise a
    single one.
    """
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return name
    return None

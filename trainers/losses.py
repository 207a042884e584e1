"""Losses by kind of task.

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

from sap_core.api import Kind

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, given labels) -> the mean over the batch, a tensor without dimensions."""


def squared_error(outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error; labels are (B,) for one output and (B, C) for several."""
    return functional.mse_loss(outputs_BC.reshape(labels.shape), labels.to(outputs_BC.dtype))


def loss_for(kind: Kind) -> Loss:
    """Cross-entropy for classes, mean squared error for numbers."""
    return functional.cross_entropy if kind == "classification" else squared_error

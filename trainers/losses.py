"""Losses by kind of task.

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import TaskType

Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, given labels) -> the mean over the batch, a tensor without dimensions."""


def squared_error(outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error; labels are (B,) for one output and (B, C) for several."""
    return functional.mse_loss(outputs_BC.reshape(labels.shape), labels.to(outputs_BC.dtype))


def huber(outputs_BC: Tensor, labels: Tensor, delta: float) -> Tensor:
    """Twice the mean of Huber's loss (1964): the squared error of residuals up to `delta`, and its tangent beyond."""
    return 2 * functional.huber_loss(outputs_BC.reshape(labels.shape), labels.to(outputs_BC.dtype), delta=delta)


def loss_for(kind: TaskType, delta: float | None = None) -> Loss:
    """Cross-entropy for classes; mean squared error, or Huber's loss with this `delta`, for numbers."""
    if kind == "classification":
        return functional.cross_entropy
    return squared_error if delta is None else partial(huber, delta=delta)


def losses_for(kind: TaskType, delta: float | None = None) -> Loss:
    """As `loss_for`, but (B,): sample by sample, not the mean over the batch."""
    if kind == "classification":
        return partial(functional.cross_entropy, reduction="none")
    mean = loss_for(kind, delta)
    return torch.func.vmap(mean)

"""Loss functions by type of task.

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
"""(outputs (B, C), given labels) -> the mean over the batch, zero-dimensional."""


def squared_error(outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """Mean squared error. Labels are (B,) for one output and (B, C) for several."""
    return functional.mse_loss(outputs_BC.reshape(labels.shape), labels.to(outputs_BC.dtype))


def huber(outputs_BC: Tensor, labels: Tensor, delta: float) -> Tensor:
    """Twice the mean of Huber's loss (1964): the squared error for residuals up to `delta`, its tangent beyond."""
    # torch's has half the square: doubled, it equals the squared error for small residuals, and a rate chosen for one suits the other.
    return 2 * functional.huber_loss(outputs_BC.reshape(labels.shape), labels.to(outputs_BC.dtype), delta=delta)


def loss_for(kind: TaskType, delta: float | None = None) -> Loss:
    """Returns cross-entropy for classification; mean squared error, or Huber's loss with `delta`, for regression."""
    if kind == "classification":
        return functional.cross_entropy
    return squared_error if delta is None else partial(huber, delta=delta)


def losses_for(kind: TaskType, delta: float | None = None) -> Loss:
    """As `loss_for`, but without the mean: the loss of each sample, (B,)."""
    if kind == "classification":
        return partial(functional.cross_entropy, reduction="none")
    mean = loss_for(kind, delta)
    # The mean over a single sample is a mean over its outputs, whatever the shape of its target.
    return torch.func.vmap(mean)

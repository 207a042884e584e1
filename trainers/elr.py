"""ELR, early-learning regularisation: keeps predictions close to a running average of earlier predictions for the same sample.

Liu, Niles-Weed, Razavian and Fernandez-Granda, "Early-learning regularization prevents memorization of noisy labels", NeurIPS 2020
(equations 6 and 9). Reference: github.com/shengliu66/ELR (beta 0.7 and strength 3 for CIFAR-10, 0.9 and 7 for CIFAR-100).

    t_i <- beta * t_i + (1 - beta) * p_i / sum(p_i)       p clamped to [1e-4, 1 - 1e-4], without gradients; t = 0 at the start
    L_i = CE_i + strength * log(1 - <t_i, p_i>)

Shapes: B batch, C classes, U universe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import ranges
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD

CLAMP = 1.0e-4
"""Bound of probabilities away from 0 and 1, which keeps log(1 - <t, p>) finite; the reference's value."""


@dataclass(frozen=True)
class ELR:
    """Cross-entropy with the regulariser. The targets t are returned as `Fitted.per_sample["targets"]`, (U, C), 0 for unseen samples."""

    name: ClassVar[str] = "elr"
    version: ClassVar[int] = 1

    beta: float = 0.7
    strength: float = 3.0  # lambda in the paper
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "[0, 1)", beta=self.beta)
        ranges.check("trainer", "[0, inf)", strength=self.strength)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        # By universe position: a row is found by a batch's index, also where the training split was pruned.
        targets_UC = torch.zeros(task.train.universe, task.num_outputs, device=task.device)
        fitted = self.recipe.fit_losses("elr", task, run, partial(self.losses, targets_UC=targets_UC), {"targets": targets_UC})
        return Fitted(fitted.model, {**fitted.per_sample, "targets": targets_UC})

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext, targets_UC: Tensor) -> Tensor:
        """Updates the targets of the batch in place and returns the (B,) regularised losses L_i."""
        p_BC = logits_BC.softmax(1).clamp(CLAMP, 1 - CLAMP)
        # Targets are constants of this step's gradient; the regulariser's gradient comes from p alone.
        predicted_BC = p_BC.detach() / p_BC.detach().sum(1, keepdim=True)
        index = batch.index.to(targets_UC.device)
        # In place: the table is part of each checkpoint.
        targets_UC[index] = self.beta * targets_UC[index] + (1 - self.beta) * predicted_BC
        agreement_B = (targets_UC[index] * p_BC).sum(1)
        return functional.cross_entropy(logits_BC, batch.labels, reduction="none") + self.strength * (1 - agreement_B).log()

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

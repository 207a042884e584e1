"""A network in training with its optimiser, loss and cost meter: what a training step works with.

Shapes: B batch, C outputs, U universe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sap_core.api import Batch, RecordsForgetting, Task
from sap_core.cost import CostMeter
from sap_core.errors import UserError
from sap_core.roles import with_flattened
from trainers.loop import StepReport
from trainers.losses import Loss

FORGOTTEN = "forgotten"
"""Key of the forgetting counts in `Fitted.per_sample`."""


@dataclass(frozen=True, eq=False)
class ForgettingCounts:
    """Number of forgetting events of each sample, updated in place by every mini-batch and part of every checkpoint.

    A forgetting event (Toneva et al., ICLR 2019) is a sample that was classified correctly when it was last seen and is not now.
    """

    forgotten: Tensor  # (U,) int32: forgetting events; -1 for samples that were never classified correctly
    right: Tensor  # (U,) bool: was the sample classified correctly when it was last seen?

    @classmethod
    def start(cls, universe: int, device: torch.device) -> ForgettingCounts:
        """The counts before the first mini-batch."""
        return cls(torch.full((universe,), -1, dtype=torch.int32, device=device), torch.zeros(universe, dtype=torch.bool, device=device))

    def update(self, batch: Batch, outputs_BC: Tensor) -> None:
        """Counts the events of a mini-batch, given its (B, C) outputs in train mode."""
        index_B = batch.index.to(self.right.device)
        # From the outputs of the pass that trains, so that counting takes no pass of its own.
        right_B = outputs_BC.argmax(1) == batch.labels
        count_B = self.forgotten[index_B] + (self.right[index_B] & ~right_B)
        # The first correct prediction turns -1 into 0.
        self.forgotten[index_B] = torch.where(right_B, count_B.clamp(min=0), count_B)
        self.right[index_B] = right_B

    @property
    def tables(self) -> dict[str, Tensor]:
        """Entries of `TrainingState.tables`."""
        return {FORGOTTEN: self.forgotten, "right": self.right}


@dataclass(frozen=True, eq=False)
class Learner:
    """A network in training. It counts the forward and backward passes made through it."""

    model: nn.Module  # in train mode
    optimiser: Optimizer
    loss: Loss  # cross-entropy for classes, squared error for numbers: (outputs, labels) -> mean over the batch
    is_classification: bool
    meter: CostMeter
    loss_per_sample: Loss  # the same loss without the mean: (outputs, labels) -> (B,)
    history: ForgettingCounts | None = None  # updated by `report`; None: not recorded
    forward_pass: Callable[[Tensor], Tensor] | None = None  # compiled or in reduced precision (`trainers.speed`); None: the network itself

    def forward(self, inputs_B: Tensor, update_norm: bool = True) -> Tensor:
        """Returns (B, C) outputs in train mode. With `update_norm=False` batch norm keeps its running statistics unchanged."""
        # Counted where passes are made, so that no step can forget to.
        self.meter.count(forwards=len(inputs_B))
        with nullcontext() if update_norm else frozen_running_statistics(self.model):
            outputs_BC: Tensor = self.model(inputs_B) if self.forward_pass is None else self.forward_pass(inputs_B)
        return outputs_BC

    def backward(self, loss: Tensor, count: int) -> None:
        """Replaces the gradients by those of `loss`, which was computed from `count` samples."""
        # Replaced, not accumulated: SAM makes two backward passes before one step.
        self.optimiser.zero_grad()
        loss.backward()
        self.meter.count(backwards=count)

    def descend(self, loss: Tensor, count: int) -> None:
        """Makes one step of the optimiser along the gradients of `loss`, which was computed from `count` samples."""
        self.backward(loss, count)
        self.optimiser.step()

    def report(self, batch: Batch, loss: Tensor, outputs_BC: Tensor | None = None, kept: Tensor | None = None) -> StepReport:
        """Reports a step to the training curve: its loss and, where `outputs_BC` of unmixed inputs are passed, accuracy on given labels."""
        sums: Mapping[str, Tensor] = {"loss": loss.detach() * len(batch.labels)}
        if self.is_classification and outputs_BC is not None:
            # A soft label has no class that could be predicted correctly.
            if self.history is not None and batch.labels.ndim == 1:
                self.history.update(batch, outputs_BC)
            sums = {**sums, "running_acc": (outputs_BC.argmax(1) == batch.labels).sum()}
        return StepReport(len(batch.labels), sums, kept)


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, norm layers in train mode normalise by batch statistics as usual, but update neither running statistics nor counters."""
    # Not evaluation mode, which would normalise by the running statistics, and not momentum 0, which would still count batches.
    tracking = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    try:
        for module in tracking:
            module.track_running_stats = False  # type: ignore[assignment]
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]


def records_forgetting(trainer: object) -> bool:
    """Does a trainer return forgetting counts? True for recipes that train one network on unmixed samples."""
    declared = (part.records_forgetting for part in with_flattened(trainer) if isinstance(part, RecordsForgetting))
    # The trainer's own declaration comes before its recipe's.
    return next(declared, False)


def require_classes(task: Task, trainer: str) -> None:
    """Checks that the task is a classification.

    Raises:
        UserError: it is a regression.
    """
    if task.kind != "classification":
        raise UserError(f"trainer '{trainer}' needs classes, but this task is a regression; use trainer=sgd, sam or mixup")


def require_hard_labels(batch: Batch, trainer: str) -> None:
    """Checks that labels are class numbers, for losses that are not defined on class probabilities or mixed labels.

    Raises:
        UserError: the labels are not (B,) integers.
    """
    if batch.labels.ndim != 1 or batch.labels.is_floating_point():
        raise UserError(
            f"trainer '{trainer}' needs one class per sample, but these labels are soft targets of shape {tuple(batch.labels.shape)}; "
            f"use trainer=mixup or sgd for mixed or soft labels"
        )

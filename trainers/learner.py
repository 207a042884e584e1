"""What a training step works with: a network, its optimiser, and the books on its passes.

Shapes: B batch, C outputs.
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
"""The name under which trainers hand out forgetting events (`Fitted.per_sample`)."""


@dataclass(frozen=True, eq=False)
class ForgettingCounts:
    """What became of each sample's prediction, mini-batch by mini-batch. Changed in place; part of every checkpoint.

    A forgetting event (Toneva et al., ICLR 2019) is a sample that was right when it was last seen and is wrong now.
    """

    forgotten: Tensor  # (U,) int32: forgetting events; -1 for samples that were never right
    right: Tensor  # (U,) bool: was it right when it was last seen?

    @classmethod
    def start(cls, universe: int, device: torch.device) -> ForgettingCounts:
        """Nothing was seen yet."""
        return cls(torch.full((universe,), -1, dtype=torch.int32, device=device), torch.zeros(universe, dtype=torch.bool, device=device))

    def see(self, batch: Batch, outputs_BC: Tensor) -> None:
        """Takes in the outputs of a mini-batch in train mode."""
        place_B = batch.index.to(self.right.device)
        right_B = outputs_BC.argmax(1) == batch.labels
        count_B = self.forgotten[place_B] + (self.right[place_B] & ~right_B)
        self.forgotten[place_B] = torch.where(right_B, count_B.clamp(min=0), count_B)
        self.right[place_B] = right_B

    @property
    def tables(self) -> dict[str, Tensor]:
        """For checkpoints."""
        return {FORGOTTEN: self.forgotten, "right": self.right}


@dataclass(frozen=True, eq=False)
class Learner:
    """A network that is being trained. Forward and backward passes that go through it are booked by it."""

    model: nn.Module  # in train mode
    optimiser: Optimizer
    loss: Loss  # cross-entropy for classes, squared error for numbers: (outputs, labels) -> mean over the batch
    classes: bool  # is there an accuracy?
    meter: CostMeter
    each: Loss  # the same loss sample by sample: (outputs, labels) -> (B,)
    history: ForgettingCounts | None = None  # of its reports; None: nobody asks
    call: Callable[[Tensor], Tensor] | None = None  # the network's pass as `trainers.speed` makes it; None: the network itself

    def forward(self, inputs_B: Tensor, update_norm: bool = True) -> Tensor:
        """(B, C) outputs in train mode. `update_norm` False leaves the running statistics of batch norm as they are."""
        self.meter.count(forwards=len(inputs_B))
        with nullcontext() if update_norm else frozen_running_statistics(self.model):
            outputs_BC: Tensor = self.model(inputs_B) if self.call is None else self.call(inputs_B)
        return outputs_BC

    def backward(self, loss: Tensor, count: int) -> None:
        """Fresh gradients of `loss`, which came from `count` samples."""
        self.optimiser.zero_grad()
        loss.backward()
        self.meter.count(backwards=count)

    def descend(self, loss: Tensor, count: int) -> None:
        """One step of the optimiser along the gradients of `loss`."""
        self.backward(loss, count)
        self.optimiser.step()

    def report(self, batch: Batch, loss: Tensor, outputs_BC: Tensor | None = None, kept: Tensor | None = None) -> StepReport:
        """What the curve gets of a step: the loss descended and, given the outputs of unmixed inputs, the accuracy on given labels."""
        sums: Mapping[str, Tensor] = {"loss": loss.detach() * len(batch.labels)}
        if self.classes and outputs_BC is not None:
            if self.history is not None and batch.labels.ndim == 1:
                self.history.update(batch, outputs_BC)
            sums = {**sums, "running_acc": (outputs_BC.argmax(1) == batch.labels).sum()}
        return StepReport(len(batch.labels), sums, kept)


@contextmanager
def frozen_running_statistics(model: nn.Module) -> Iterator[None]:
    """Norm layers in train mode use the batch's statistics, as always, but leave their running ones and their counters alone."""
    tracking = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    try:
        for module in tracking:
            module.track_running_stats = False  # type: ignore[assignment]
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]


def records_forgetting(trainer: object) -> bool:
    """Does a trainer hand out forgetting events? Those do whose recipe trains one network on unmixed samples."""
    declared = (part.records_forgetting for part in with_flattened(trainer) if isinstance(part, RecordsForgetting))
    return next(declared, False)  # the trainer's own declaration counts before that of its recipe


def require_classes(task: Task, trainer: str) -> None:
    """Refuses tasks that have no classes.

    Raises:
        UserError: a regression task.
    """
    if task.kind != "classification":
        raise UserError(f"trainer '{trainer}' needs classes, but this task is a regression; use trainer=sgd, sam or mixup")


def require_hard_labels(batch: Batch, trainer: str) -> None:
    """Refuses soft targets: rows of class probabilities, or mixed labels, for a loss that reads one class per sample.

    Raises:
        UserError: labels that are not (B,) whole numbers.
    """
    if batch.labels.ndim != 1 or batch.labels.is_floating_point():
        raise UserError(
            f"trainer '{trainer}' reads one class per sample, but these labels are soft targets of shape {tuple(batch.labels.shape)}; "
            f"use trainer=mixup or sgd for mixed or soft labels"
        )

"""What a training step works with: a network, its optimiser, and the books on its passes.

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from sap_core.api import Batch, Task
from sap_core.cost import CostMeter
from sap_core.errors import UserError
from trainers.loop import Report
from trainers.losses import Loss


@dataclass(frozen=True, eq=False)
class Learner:
    """A network that is being trained. Forward and backward passes that go through it are booked by it."""

    model: nn.Module  # in train mode
    optimiser: Optimizer
    loss: Loss  # cross-entropy for classes, squared error for numbers: (outputs, labels) -> mean over the batch
    classes: bool  # is there an accuracy?
    meter: CostMeter
    each: Loss  # the same loss sample by sample: (outputs, labels) -> (B,)

    def forward(self, inputs_B: Tensor, update_norm: bool = True) -> Tensor:
        """(B, C) outputs in train mode. `update_norm` False leaves the running statistics of batch norm as they are."""
        self.meter.count(forwards=len(inputs_B))
        with nullcontext() if update_norm else running_statistics_kept(self.model):
            outputs_BC: Tensor = self.model(inputs_B)
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

    def report(self, batch: Batch, loss: Tensor, outputs_BC: Tensor | None = None, kept: Tensor | None = None) -> Report:
        """What the curve gets of a step: the loss descended and, given the outputs of unmixed inputs, the accuracy on given labels."""
        sums: Mapping[str, Tensor] = {"loss": loss.detach() * len(batch.labels)}
        if self.classes and outputs_BC is not None:
            sums = {**sums, "running_acc": (outputs_BC.argmax(1) == batch.labels).sum()}
        return Report(len(batch.labels), sums, kept)


@contextmanager
def running_statistics_kept(model: nn.Module) -> Iterator[None]:
    """Norm layers in train mode use the batch's statistics, as always, but leave their running ones and their counters alone."""
    tracking = [module for module in model.modules() if getattr(module, "track_running_stats", False)]
    try:
        for module in tracking:
            module.track_running_stats = False  # type: ignore[assignment]
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True  # type: ignore[assignment]


def classes_only(task: Task, trainer: str) -> None:
    """Refuses tasks that have no classes.

    Raises:
        UserError: a regression task.
    """
    if task.kind != "classification":
        raise UserError(f"trainer '{trainer}' needs classes, but this task is a regression; use trainer=sgd, sam or mixup")


def hard_labels(batch: Batch, trainer: str) -> None:
    """Refuses soft targets: rows of class probabilities, or mixed labels, for a loss that reads one class per sample.

    Raises:
        UserError: labels that are not (B,) whole numbers.
    """
    if batch.labels.ndim != 1 or batch.labels.is_floating_point():
        raise UserError(
            f"trainer '{trainer}' reads one class per sample, but these labels are soft targets of shape {tuple(batch.labels.shape)}; "
            f"use trainer=mixup or sgd for mixed or soft labels"
        )

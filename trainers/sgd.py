"""Plain training on the given labels by stochastic gradient descent: the baseline that every corrector starts from.

Source: SAP's released training script (SGD with Nesterov momentum 0.9, rate 0.01, weight decay 5e-4, batch 64, 350 epochs, crop and
flip). Deviations: `halve_every_11` says openly what that script's scheduler does; `until_train_acc` is ours.

Shapes: B batch, N training samples, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sap_core.api import Batch, Fitted, Passes, Run, Samples, Sizes, Task
from sap_core.errors import UserError, at_least
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import End, Moment, Parts, Report, Training, train
from trainers.losses import loss_for

EVALUATION_BATCH = 256


@dataclass(frozen=True)
class SGD:
    """Trains `task.build(0)` on `task.train` with cross-entropy (classes) or mean squared error (numbers).

    With `until_train_acc` the training ends after the first epoch whose number is a multiple of `check_every` and whose network, in
    evaluation mode, predicts at least that share of the given training labels (plain views); `epochs` stays the limit. A fixed interval
    keeps the cost of checking known: one forward pass over the training set each time.
    """

    version: ClassVar[int] = 1

    epochs: int = 350
    learning_rate: float = 0.01
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5.0e-4
    batch_size: int = 64
    schedule: optim.Schedule = "halve_every_11"
    decay_epochs: tuple[int, ...] = ()  # for schedule="step": the last epochs before the rate changes
    decay_rate: float = 0.1  # for schedule="step": the factor
    until_train_acc: float | None = None
    check_every: int = 5

    def __post_init__(self) -> None:
        optim.check_schedule(self.schedule, "trainer 'sgd'")
        object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))  # a YAML list cannot be hashed
        at_least("trainer", 1, epochs=self.epochs, batch_size=self.batch_size, check_every=self.check_every)

    def fit(self, task: Task, run: Run) -> Fitted:
        """Trains, or continues what `run.saved()` holds.

        Raises:
            UserError: `until_train_acc` is set for a regression task, which has no accuracy.
            Stopped: by `run.epoch`.
        """
        if self.until_train_acc is not None and task.kind != "classification":
            raise UserError("until_train_acc of trainer 'sgd' needs classes, but this task is a regression; set it to null")
        model = task.build(0).to(task.device)
        optimiser = optim.sgd(model.parameters(), self.learning_rate, self.momentum, self.weight_decay, self.nesterov)
        loss_of = loss_for(task.kind)

        def batches(moment: Moment) -> Iterable[Batch]:
            return task.train.batches(self.batch_size, moment.rng, views=("augmented",))

        def step(batch: Batch, moment: Moment) -> Report:
            outputs_BC = model(batch.inputs)
            loss = loss_of(outputs_BC, batch.labels)
            optim.descend(loss, optimiser)
            count = len(batch.labels)
            run.meter.count(forwards=count, backwards=count)
            sums = {"loss": loss.detach() * count}
            if task.kind == "classification":
                sums["running_acc"] = (outputs_BC.argmax(1) == batch.labels).sum()
            return Report(count, sums)

        def finish(moment: Moment) -> End:
            if self.until_train_acc is None or moment.epoch % self.check_every:
                return End()
            accuracy = given_accuracy(model, task.train)
            run.meter.count(forwards=len(task.train))
            return End(accuracy >= self.until_train_acc, {"given_acc": accuracy})

        parts = Parts({"net": model}, {"net": optimiser})
        train(Training(model, parts, batches, step, self.rate, finish), self.epochs, stream(task.seed, "train"), run, task.device)
        return Fitted(model.eval())

    def rate(self, epoch: int) -> float:
        """The learning rate of `epoch` (from 1)."""
        return optim.rate_at(self.schedule, self.learning_rate, epoch, self.epochs, self.decay_epochs, self.decay_rate)

    def forecast(self, sizes: Sizes) -> Passes:
        """Sample-passes of all epochs, checks included."""
        checks = 0 if self.until_train_acc is None else self.epochs // self.check_every
        return Passes(forwards=(self.epochs + checks) * sizes.train, backwards=self.epochs * sizes.train)


@torch.no_grad()
def given_accuracy(model: nn.Module, samples: Samples) -> float:
    """The share of given labels that `model`, put into eval mode, predicts from plain views."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64)
    for batch in samples.batches(EVALUATION_BATCH):
        predicted_B: Tensor = model(batch.inputs).argmax(1)
        right = right + (predicted_B == batch.labels).sum().cpu()
    return int(right) / len(samples)

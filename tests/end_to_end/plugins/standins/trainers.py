"""Trainers of the kinds that later methods will be: two networks, memory of every sample, slow, and one that cannot yet run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from sap_core.models.ensemble import Ensemble
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext, EpochEnd, EpochTotals, StepReport, Training, TrainingState, train

RATE, BATCH = 0.05, 24


@dataclass(frozen=True)
class TwoNetworks:
    """Each network learns from the half of a batch that the other one finds easier."""

    name: ClassVar[str] = "two_networks"
    version: ClassVar[int] = 1

    epochs: int = 3

    def fit(self, task: Task, run: Run) -> Fitted:
        nets = [task.build(0), task.build(1)]
        optimisers = [_optimiser(net) for net in nets]

        def step(batch: Batch, context: EpochContext) -> StepReport:
            losses = [_losses(net, batch, run) for net in nets]
            easy = [loss.detach().argsort()[: len(batch.labels) // 2] for loss in losses]
            for which, optimiser in enumerate(optimisers):
                optim.descend(losses[which][easy[1 - which]].mean(), optimiser)
            return StepReport(len(batch.labels), {"loss": losses[0].detach().sum()}, batch.index[easy[0]])

        parts = TrainingState({"one": nets[0], "two": nets[1]}, {"one": optimisers[0], "two": optimisers[1]})
        both = Ensemble(nets)
        train(Training(both, parts, _batches(task), step, _constant), self.epochs, stream(task.seed, "train"), run, task.device)
        return Fitted(both.eval())

    def forecast(self, sizes: Sizes) -> Passes:
        return Passes(2 * self.epochs * sizes.train, 2 * self.epochs * sizes.train)


@dataclass(frozen=True)
class Remembering:
    """Keeps a running mean of every sample's loss."""

    name: ClassVar[str] = "remembering"
    version: ClassVar[int] = 1

    epochs: int = 3

    def fit(self, task: Task, run: Run) -> Fitted:
        net = task.build(0)
        optimiser = _optimiser(net)
        memory = torch.full((task.train.universe,), float("nan"), dtype=torch.float64)

        def step(batch: Batch, context: EpochContext) -> StepReport:
            losses = _losses(net, batch, run)
            old, new = memory[batch.index], losses.detach().double()
            memory[batch.index] = torch.where(old.isnan(), new, 0.7 * old + 0.3 * new)
            optim.descend(losses.mean(), optimiser)
            return StepReport(len(batch.labels), {"loss": losses.detach().sum()})

        parts = TrainingState({"net": net}, {"net": optimiser}, {"memory": memory})
        train(Training(net, parts, _batches(task), step, _constant), self.epochs, stream(task.seed, "train"), run, task.device)
        return Fitted(net.eval(), {"memory": memory})

    def forecast(self, sizes: Sizes) -> Passes:
        return Passes(self.epochs * sizes.train, self.epochs * sizes.train)


@dataclass(frozen=True)
class Slow:
    """Rests before every batch, so that a test can stop it in the middle of an epoch; tells where it is through a file."""

    name: ClassVar[str] = "slow"
    version: ClassVar[int] = 1

    epochs: int = 4
    rest_seconds: float = 0.1

    def fit(self, task: Task, run: Run) -> Fitted:
        net = task.build(0)
        optimiser = optim.sgd(net.parameters(), RATE, 0.9, 0.0)
        where = os.environ.get("STANDINS_WHERE")

        def batches(context: EpochContext) -> Iterator[Batch]:
            for number, batch in enumerate(task.train.batches(BATCH, context.rng, ("augmented",))):
                if where:
                    with open(where, "a") as file:  # noqa: PTH123
                        file.write(f"{context.epoch} {number}\n")
                time.sleep(self.rest_seconds)
                yield batch

        def step(batch: Batch, context: EpochContext) -> StepReport:
            losses = _losses(net, batch, run)
            optim.descend(losses.mean(), optimiser)
            return StepReport(len(batch.labels), {"loss": losses.detach().sum()})

        def finish(context: EpochContext, totals: EpochTotals) -> EpochEnd:
            return EpochEnd(scalars={"moment": float(context.epoch)})

        training = Training(net, TrainingState({"net": net}, {"net": optimiser}), batches, step, _constant, finish)
        train(training, self.epochs, stream(task.seed, "train"), run, task.device)
        return Fitted(net.eval())

    def forecast(self, sizes: Sizes) -> Passes:
        return Passes(self.epochs * sizes.train, self.epochs * sizes.train)


@dataclass(frozen=True)
class Mended:
    """Fails unless the environment says that it was mended."""

    name: ClassVar[str] = "mended"
    version: ClassVar[int] = 1

    epochs: int = 1

    def fit(self, task: Task, run: Run) -> Fitted:
        if not os.environ.get("STANDINS_MENDED"):
            raise RuntimeError("not mended yet")
        return Remembering(self.epochs).fit(task, run)

    def forecast(self, sizes: Sizes) -> Passes:
        return Remembering(self.epochs).forecast(sizes)


def _optimiser(net: nn.Module) -> torch.optim.SGD:
    return optim.sgd(net.parameters(), RATE, 0.9, 0.0)


def _losses(net: nn.Module, batch: Batch, run: Run) -> Tensor:
    run.meter.count(forwards=len(batch.labels), backwards=len(batch.labels))
    return functional.cross_entropy(net(batch.inputs), batch.labels, reduction="none")


def _batches(task: Task):
    return lambda context: task.train.batches(BATCH, context.rng, ("augmented",))


def _constant(epoch: int) -> float:
    return RATE

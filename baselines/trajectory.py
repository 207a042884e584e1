"""A network on its way through training epochs that settings share: forked where they part, given up where it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import SGD

from sap_core.api import Batch, Run
from trainers import optim
from trainers.loop import Moment, Report, one_pass

BatchLoss = Callable[[nn.Module, Batch], Tensor]
"""(network in train mode, mini-batch) -> the loss to descend, a tensor without dimensions."""


@dataclass
class Trajectory:
    """A network with its optimiser. A diverged one stays as it is: every parameter NaN, no further training."""

    model: nn.Module
    optimiser: SGD
    diverged: bool = False

    @classmethod
    def start(cls, model: nn.Module, momentum: float, weight_decay: float) -> Trajectory:
        """At a copy of `model`, which stays untouched."""
        copy = deepcopy(model)
        return cls(copy, optim.sgd(copy.parameters(), 0.0, momentum, weight_decay))

    def fork(self) -> Trajectory:
        """A second trajectory from this point: parameters, buffers and momentum copied."""
        copy = deepcopy(self.model)
        settings = self.optimiser.param_groups[0]
        optimiser = optim.sgd(copy.parameters(), settings["lr"], settings["momentum"], settings["weight_decay"])
        optim.load_state(optimiser, optim.state_of(self.optimiser))
        return Trajectory(copy, optimiser, self.diverged)

    def descend(self, batches: Iterable[Batch], loss_of: BatchLoss, rate: float, moment: Moment, run: Run, device: torch.device) -> None:
        """One pass over `batches` in train mode, one step per batch at learning rate `rate`.

        A loss that is not finite is noticed at the pass's end: looking earlier would make a GPU wait after every step.
        """
        if self.diverged:
            return
        optim.set_rate(self.optimiser, rate)
        self.model.train()

        def step(batch: Batch, moment: Moment) -> Report:
            loss = loss_of(self.model, batch)
            optim.descend(loss, self.optimiser)
            count = len(batch.labels)
            run.meter.count(forwards=count, backwards=count)
            return Report(count, {"loss": loss.detach() * count})

        totals = one_pass(batches, step, moment, device)
        if not math.isfinite(totals.means["loss"]):
            self.give_up()

    @torch.no_grad()
    def give_up(self) -> None:
        """Marks the trajectory as diverged, in a way that anyone who looks at the weights sees."""
        self.diverged = True
        for parameter in self.model.parameters():
            parameter.fill_(math.nan)

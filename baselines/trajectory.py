"""A network on its way through epochs that settings share: read off on the way, forked where they part, given up where it diverges."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from baselines.last_layers import NOTHING_FROZEN, Frozen
from sap_core.api import Batch, Run
from trainers import optim
from trainers.loop import EpochContext, StepReport, one_pass

B = TypeVar("B", Batch, tuple[Batch, ...])
"""One mini-batch, or several that make one step together."""

Loss = Callable[[nn.Module, B], Tensor]
"""(network in train mode, batch) -> the loss to descend, a tensor without dimensions."""

Rate = float | Callable[[int], float]
"""A learning rate, or one for each step of a pass, counted from 0."""


def no_constraint(model: nn.Module) -> None:
    """What follows a step where nothing holds the weights."""


@dataclass
class Trajectory:
    """A network with its optimiser. A diverged one stays as it is: every parameter NaN, no further training."""

    model: nn.Module
    optimiser: Optimizer
    frozen: Frozen = NOTHING_FROZEN  # in evaluation mode and without gradients through all passes
    constraint: Callable[[nn.Module], None] = no_constraint  # what follows each step, to hold weights in place
    diverged: bool = False

    @classmethod
    def start(cls, model: nn.Module, momentum: float, weight_decay: float, frozen: Frozen = NOTHING_FROZEN) -> Trajectory:
        """At a copy of `model`, which stays untouched; stochastic gradient descent."""
        copy = deepcopy(model)
        return cls(copy, optim.sgd(frozen.trainable(copy), 0.0, momentum, weight_decay), frozen)

    @classmethod
    def start_adam(cls, model: nn.Module) -> Trajectory:
        """At a copy of `model`, which stays untouched; Adam with torch's defaults."""
        copy = deepcopy(model)
        return cls(copy, Adam([parameter for parameter in copy.parameters() if parameter.requires_grad]))

    def fork(self) -> Trajectory:
        """A second trajectory from this point: parameters, buffers and the optimiser's memory copied."""
        model, optimiser = deepcopy((self.model, self.optimiser))  # in one go, so that the copied optimiser knows the copied weights
        return Trajectory(model, optimiser, self.frozen, self.constraint, self.diverged)

    def descend(self, batches: Iterable[B], loss_of: Loss[B], rate: Rate, context: EpochContext, run: Run, device: torch.device) -> None:
        """One pass over `batches` in train mode, one step per batch at learning rate `rate`.

        A loss that is not finite is noticed at the pass's end: looking earlier would make a GPU wait after every step.
        """
        if self.diverged:
            return
        done = 0

        def step(batch: B, context: EpochContext) -> StepReport:
            nonlocal done
            optim.set_rate(self.optimiser, rate(done) if callable(rate) else rate)
            done += 1
            loss = loss_of(self.model, batch)
            optim.descend(loss, self.optimiser)
            self.constraint(self.model)
            parts = (batch,) if isinstance(batch, Batch) else batch
            count = sum(len(part.labels) for part in parts)
            run.meter.count(forwards=count, backwards=count)
            return StepReport(count, {"loss": loss.detach() * count})

        self.model.train()
        with self.frozen.applied(self.model):
            totals = one_pass(batches, step, context, device)
        if not math.isfinite(totals.means["loss"]):
            self.mark_diverged()

    def models_at(self, epochs: Sequence[int], advance: Callable[[int], None], run: Run) -> Iterator[tuple[int, nn.Module]]:
        """(position, network) for settings that ask for so many `epochs`, fewest first; `advance` takes the trajectory through an epoch."""
        for epoch in range(1, max(epochs) + 1):
            users = [position for position, wanted in enumerate(epochs) if wanted >= epoch]
            with run.meter("correct", used_by=users):
                advance(epoch)
            for position in users:
                if epochs[position] == epoch:
                    yield position, self.model.eval()

    @torch.no_grad()
    def mark_diverged(self) -> None:
        """Marks the trajectory as diverged, in a way that anyone who looks at the weights sees."""
        self.diverged = True
        for parameter in self.model.parameters():
            parameter.fill_(math.nan)

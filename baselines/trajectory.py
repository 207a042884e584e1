"""Training of one network along epochs that several settings share: returned where a setting ends, forked where settings differ."""

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
from sap_core.models.copies import copied, memo_of
from trainers import optim
from trainers.loop import EpochContext, StepReport, one_pass

B = TypeVar("B", Batch, tuple[Batch, ...])
"""One mini-batch, or several that are used in one step."""

Loss = Callable[[nn.Module, B], Tensor]
"""(network in train mode, batch) -> the loss to minimise, zero-dimensional."""

Rate = float | Callable[[int], float]
"""A learning rate, or a function of the step in a pass, counted from 0."""


def no_constraint(model: nn.Module) -> None:
    """The default constraint, which leaves the weights as they are after a step."""


@dataclass
class Trajectory:
    """A network with its optimiser. Once it has diverged all parameters are NaN, and it is not trained further."""

    model: nn.Module
    optimiser: Optimizer
    frozen: Frozen = NOTHING_FROZEN  # in evaluation mode and without gradients during all passes
    constraint: Callable[[nn.Module], None] = no_constraint  # called after each step, such as to reset masked weights
    diverged: bool = False

    @classmethod
    def start(cls, model: nn.Module, momentum: float, weight_decay: float, frozen: Frozen = NOTHING_FROZEN) -> Trajectory:
        """Starts at a copy of `model` with stochastic gradient descent."""
        # The given network belongs to the caller. The rate 0 is a placeholder: each pass sets its own.
        copy = copied(model)
        return cls(copy, optim.sgd(frozen.trainable(copy), 0.0, momentum, weight_decay), frozen)

    @classmethod
    def start_adam(cls, model: nn.Module) -> Trajectory:
        """Starts at a copy of `model` with Adam in torch's defaults."""
        # Bad Teacher and amnesiac relabelling use Adam in their reference code, with torch's defaults but for the rate.
        copy = copied(model)
        return cls(copy, Adam(optim.trainable(copy.parameters())))

    def fork(self) -> Trajectory:
        """Returns a copy that continues from here: parameters, buffers and the optimiser's state."""
        # In one deepcopy, so that the copied optimiser refers to the copied weights.
        model, optimiser = deepcopy((self.model, self.optimiser), memo_of(self.model))
        return Trajectory(model, optimiser, self.frozen, self.constraint, self.diverged)

    def descend(self, batches: Iterable[B], loss_of: Loss[B], rate: Rate, context: EpochContext, run: Run, device: torch.device) -> None:
        """Makes one pass over `batches` in train mode, one step per batch at learning rate `rate`."""
        # A pass over NaN would take as long as any other and change nothing.
        if self.diverged:
            return
        # Steps of this pass, for rates that change from step to step (`scrub_steps`).
        done = 0

        def step(batch: B, context: EpochContext) -> StepReport:
            nonlocal done
            optim.set_rate(self.optimiser, rate(done) if callable(rate) else rate)
            done += 1
            loss = loss_of(self.model, batch)
            optim.descend(loss, self.optimiser)
            # After the step: weight decay and momentum also move weights that have no gradient.
            self.constraint(self.model)
            # NegGrad+ takes a retain and a forget batch in one step, and its cost is that of both.
            batches_of_step = (batch,) if isinstance(batch, Batch) else batch
            count = sum(len(each.labels) for each in batches_of_step)
            run.meter.count(forwards=count, backwards=count)
            # The loss stays on its device, see below.
            return StepReport(count, {"loss": loss.detach() * count})

        # In this order: train mode is set for all modules, and inside the context the frozen ones return to evaluation mode.
        self.model.train()
        with self.frozen.applied(self.model):
            totals = one_pass(batches, step, context, device)
        # Checked once per pass: reading the loss after every step would make the GPU wait.
        if not math.isfinite(totals.means["loss"]):
            self.mark_diverged()

    def models_at(self, epochs: Sequence[int], advance: Callable[[int], None], run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Yields (position, network) for settings of `epochs` epochs each, fewest first; `advance` trains the trajectory for one epoch."""
        for epoch in range(1, max(epochs) + 1):
            # An epoch is booked for all settings that last at least as long, so that shared costs add up to what was spent.
            users = [position for position, wanted in enumerate(epochs) if wanted >= epoch]
            with run.meter("correct", used_by=users):
                advance(epoch)
            for position in users:
                # On loan until the caller asks for the next one; the next pass puts the network back into train mode.
                if epochs[position] == epoch:
                    yield position, self.model.eval()

    @torch.no_grad()
    def mark_diverged(self) -> None:
        """Marks the trajectory as diverged and sets all parameters to NaN, which every consumer of the weights notices."""
        self.diverged = True
        for parameter in self.model.parameters():
            # Integers have no NaN.
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.fill_(math.nan)

"""ELR+: early-learning regularisation with two networks, weight averaging, and mixup.

Liu, Niles-Weed, Razavian and Fernandez-Granda, "Early-learning regularization prevents memorization of noisy labels", NeurIPS 2020.
Reference: github.com/shengliu66/ELR, folder ELR_plus (model/loss.py and trainer/trainer.py at e2221cef, config_*.json at bf96a901). For
network k and the average a of the weights of the *other* network, in mini-batch number s = 1, 2, ... of the training:

    t_i <- beta t_i + (1 - beta) p_a(x_i)                      network k's running targets, on unmixed samples; p_a is not clamped
    l ~ Beta(alpha, alpha), l <- max(l, 1 - l);  x', y', q = l (x, y, t) + (1 - l) (x, y, t) of a random permutation
    L = CE(f_k(x'), y') + ramp(s, ramp_steps) * strength * mean log(1 - <q, p_k(x')>)      p_k clamped to [1e-4, 1 - 1e-4]
    average of k's weights <- a * average + (1 - a) * weights

with ramp(s, n) = exp(-5 (1 - min(s, n) / n)^2), and 1 if n = 0. The decay a is

    decay * ramp(s + 1, decay_steps)      for averaging=ramp (CIFAR)
    min(1 - 1 / (s + 1), decay)           for averaging=mean (Clothing1M, WebVision): the mean of all weights until that is above `decay`

With `sharpen` (the reference: 100 classes) y' becomes y' q, normalised. The two networks are returned, which answer with the mean of their
logits, as the reference evaluates them; the averages only make targets. They have their own batch statistics, as in the reference.

Deviations: both networks train on the same mini-batches in turn (the reference: one full epoch each, so its targets come from an average
that is one epoch older or newer); the averages start as copies of the networks (the reference: with other initial weights).

Shapes: B batch, C classes, U universe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from sap_core.errors import at_least
from trainers import random_draws, ranges
from trainers.elr import CLAMP
from trainers.learner import Learner, require_classes, require_hard_labels
from trainers.loop import EpochContext, StepReport
from trainers.sgd import FLAT, SGD, Learners


@dataclass(frozen=True, eq=False)
class RegulariserState:
    """State of one network's regulariser."""

    targets: Tensor  # (U, C) running targets, 0 for unseen samples
    average: nn.Module  # of the network's weights


@dataclass(frozen=True)
class ELRPlus:
    """Two networks that regularise each other. Targets are returned as `Fitted.per_sample["targets0"]` and `["targets1"]`, (U, C)."""

    name: ClassVar[str] = "elr_plus"
    version: ClassVar[int] = 2  # 2: targets are not clamped, and both ramps count the current step
    records_forgetting: ClassVar[bool] = False  # two networks on mixed samples

    beta: float = 0.7
    strength: float = 3.0  # lambda in the paper
    alpha: float = 1.0  # of mixup's Beta(alpha, alpha); 0: no mixup
    decay: float = 0.997  # of the weight averages
    averaging: Literal["ramp", "mean"] = "ramp"  # how the decay rises to this value
    decay_steps: int = 40_000  # steps over which it rises with averaging=ramp
    ramp_steps: int = 0  # steps over which the regulariser's weight rises to `strength`
    sharpen: bool = False
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "[0, 1)", beta=self.beta, decay=self.decay)
        ranges.check("trainer", "[0, inf)", strength=self.strength, alpha=self.alpha)
        at_least("trainer", 0, decay_steps=self.decay_steps, ramp_steps=self.ramp_steps)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only. Returns both networks as an ensemble."""
        require_classes(task, "elr_plus")
        zeros = partial(torch.zeros, task.train.universe, task.num_outputs, device=task.device)
        # The averages are built as the networks are, from the same streams, so they start as copies.
        memories = tuple(RegulariserState(zeros(), task.build(which).to(task.device).train()) for which in range(2))
        steps = torch.zeros((), dtype=torch.int64)
        tables = {"steps": steps, **{f"targets{which}": memory.targets for which, memory in enumerate(memories)}}
        for which, memory in enumerate(memories):
            # A state dict refers to the average's own tensors, so a checkpoint that is copied into the tables restores the average.
            tables |= {f"average{which}.{name}": value for name, value in memory.average.state_dict().items()}
        step = partial(self.step, memories=memories, steps=steps)
        fitted = self.recipe.fit_networks(2, task, run, step, tables, self.recipe.batches(task), as_ensemble=True)
        return Fitted(fitted.model, {f"targets{which}": memory.targets for which, memory in enumerate(memories)})

    def step(
        self, learners: Learners, batch: Batch, context: EpochContext, memories: tuple[RegulariserState, ...], steps: Tensor
    ) -> StepReport:
        """Makes one step of each network and updates each average."""
        require_hard_labels(batch, "elr_plus")
        # A tensor, so that checkpoints hold it: both ramps count steps over all epochs, from 1.
        steps += 1
        number = int(steps)
        losses = [
            self.learn(
                learner, memories[which], memories[1 - which].average, batch, EpochContext(context.epoch, context.rng.child(which)), number
            )
            for which, learner in enumerate(learners)
        ]
        return learners[0].report(batch, torch.stack(losses).mean())

    def learn(self, learner: Learner, own: RegulariserState, other: nn.Module, batch: Batch, context: EpochContext, number: int) -> Tensor:
        """Makes one step of a network, whose targets follow the other network's average, and returns the loss."""
        count, index = len(batch.labels), batch.index.to(own.targets.device)
        with torch.no_grad():
            # Targets come from unmixed samples under the other network's average. That pass does not go through a learner, so it is counted
            # here.
            predicted_BC = other(batch.inputs).softmax(1)
            learner.meter.count(forwards=count)
            own.targets[index] = self.beta * own.targets[index] + (1 - self.beta) * predicted_BC
        share = float(random_draws.beta(context.rng.child("mix"), self.alpha, 1)) if self.alpha else 1.0
        # The first sample of a mixture has the larger share.
        share = max(share, 1 - share)
        partner_B = context.rng.child("partner").permutation(count).to(index.device)

        def mixed(values: Tensor) -> Tensor:
            return share * values + (1 - share) * values[partner_B]

        # Labels and targets are mixed as the images are.
        y_BC, q_BC = mixed(functional.one_hot(batch.labels, predicted_BC.shape[1]).to(predicted_BC)), mixed(own.targets[index])
        logits_BC = learner.forward(mixed(batch.inputs))
        loss = self.loss(logits_BC, y_BC, q_BC, _ramp(number, self.ramp_steps))
        learner.descend(loss, count)
        _update_average(own.average, learner.model, self.average_decay(number))
        return loss.detach()

    def average_decay(self, number: int) -> float:
        """Returns a after step `number`, counted from 1."""
        if self.averaging == "mean":
            return min(1 - 1 / (number + 1), self.decay)
        # One step ahead of the regulariser's ramp, as in the reference.
        return self.decay * _ramp(number + 1, self.decay_steps)

    def loss(self, logits_BC: Tensor, y_BC: Tensor, q_BC: Tensor, ramp: float) -> Tensor:
        """Returns L, zero-dimensional."""
        if self.sharpen:
            y_BC = y_BC * q_BC
            y_BC = y_BC / y_BC.sum(1, keepdim=True)
        p_BC = logits_BC.softmax(1).clamp(CLAMP, 1 - CLAMP)
        regulariser = (1 - (q_BC * p_BC).sum(1)).log().mean()
        return -(y_BC * logits_BC.log_softmax(1)).sum(1).mean() + ramp * self.strength * regulariser

    def forecast(self, sizes: Sizes) -> Passes:
        """Two passes per network and mini-batch: its own, and that of the other's average."""
        return self.recipe.forecast(sizes, forwards=4, backwards=2, num_evaluated=2)


def _ramp(step: int, steps: int) -> float:
    """Rises from exp(-5) to 1 over `steps`."""
    # Also avoids the division by zero of `steps` = 0, no ramp.
    return 1.0 if step >= steps else math.exp(-5 * (1 - step / steps) ** 2)


@torch.no_grad()
def _update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Sets the average to decay * average + (1 - decay) * weights, in place."""
    # Parameters only: the averages have batch statistics of their own, as in the reference.
    for kept, now in zip(average.parameters(), model.parameters(), strict=True):
        # A frozen parameter equals its average, which rounding would move.
        if now.requires_grad:
            kept.mul_(decay).add_(now, alpha=1 - decay)

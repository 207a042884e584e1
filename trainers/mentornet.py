"""MentorNet with a threshold as mentor: training on the samples whose loss lies below a running percentile.

Jiang, Zhou, Leung, Li and Fei-Fei, "MentorNet: Learning data-driven curriculum for very deep neural networks on corrupted labels", ICML
2018, in the form that MentorMix's authors use as its first step and that github.com/sangamesh-kodge/LabelNoiseRobustness implements: the
learned mentor network is replaced by the rule below. Per mini-batch:

    l_i = CE(f(x_i), y_i)                                  without gradients
    q   = the percentile of l;   t <- ema * t + (1 - ema) * q        the running threshold, 0 at the start
    v_i = 1[l_i < t];   v_i ~ Bernoulli(1/2) during burn-in
    descend mean_i v_i CE(f(x_i), y_i)                     over the whole batch, not over the chosen samples

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from sap_core.errors import at_least
from sap_core.seeding import Stream
from trainers import random_draws, ranges
from trainers.learner import Learner, require_classes, require_hard_labels
from trainers.loop import EpochContext, StepReport
from trainers.sgd import FLAT, SGD

BURN_IN_SHARE = 0.2
"""Largest fraction of all epochs that burn-in takes."""


@dataclass(frozen=True)
class Mentor:
    """The threshold rule: which samples to train on, given their losses."""

    percentile: float
    ema: float  # weight of the previous threshold
    burn_in: float  # epochs

    def judge(self, losses_B: Tensor, threshold: Tensor, epoch: int, rng: Stream) -> Tensor:
        """Returns v (B,) bool and updates the threshold in place, in burn-in too."""
        # A percentile of 1 takes the largest loss; the reference's index lies beyond the end there.
        position = min(int(len(losses_B) * self.percentile), len(losses_B) - 1)
        quantile = losses_B.detach().sort().values[position]
        # In place, as a table of the checkpoint, and in burn-in too, so that the rule starts from a running threshold.
        threshold.mul_(self.ema).add_((1 - self.ema) * quantile)
        if epoch - 1 < self.burn_in:
            return random_draws.coins(rng, len(losses_B)).to(losses_B.device)
        return losses_B.detach() < threshold


@dataclass(frozen=True)
class MentorNet:
    """Trains on the samples that a threshold mentor trusts.

    The mentor's losses come from a separate pass in train mode, as in the reference. Deviation: that pass leaves batch norm's running
    statistics unchanged. With `one_pass` the mentor and the step share one pass, at three quarters of the cost and with the same numbers
    unless the network has dropout.
    """

    name: ClassVar[str] = "mentornet"
    version: ClassVar[int] = 1

    percentile: float = 0.85  # gamma_p in the paper: about this fraction of a batch is trusted
    ema: float = 0.05  # weight of the previous threshold
    burn_in: int = 10  # epochs with random v, at most a fifth of all
    one_pass: bool = False
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        check_mentor(self.percentile, self.ema, self.burn_in)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        require_classes(task, "mentornet")
        threshold = torch.zeros((), device=task.device)
        # Burn-in is bounded by a fifth of all epochs, as in the reference.
        mentor = Mentor(self.percentile, self.ema, min(self.burn_in, BURN_IN_SHARE * self.recipe.epochs))
        return self.recipe.fit_steps(task, run, partial(self.step, mentor=mentor, threshold=threshold), {"threshold": threshold})

    def step(self, learner: Learner, batch: Batch, context: EpochContext, mentor: Mentor, threshold: Tensor) -> StepReport:
        """Computes the losses and v, and makes a step on the trusted samples."""
        require_hard_labels(batch, "mentornet")
        # In train mode, as in the reference: samples are judged by losses that the batch's own statistics normalise, as those of the step.
        if not self.one_pass:
            with torch.no_grad():
                scored_B = functional.cross_entropy(learner.forward(batch.inputs, update_norm=False), batch.labels, reduction="none")
        logits_BC = learner.forward(batch.inputs)
        losses_B = functional.cross_entropy(logits_BC, batch.labels, reduction="none")
        trusted_B = mentor.judge(losses_B if self.one_pass else scored_B, threshold, context.epoch, context.rng.child("burn_in"))
        # Over the whole mini-batch, as in the reference: where few samples are trusted the step is small.
        loss = (trusted_B * losses_B).mean()
        learner.descend(loss, len(batch.labels))
        return learner.report(batch, loss, logits_BC, batch.index[trusted_B.cpu()])

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe and, without `one_pass`, one more forward pass over each mini-batch."""
        return self.recipe.forecast(sizes, forwards=1 if self.one_pass else 2)


def check_mentor(percentile: float, ema: float, burn_in: int) -> None:
    """Raises UserError for mentor options out of range."""
    ranges.check("trainer", "(0, 1]", percentile=percentile)
    ranges.check("trainer", "[0, 1)", ema=ema)
    at_least("trainer", 0, burn_in=burn_in)

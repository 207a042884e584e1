"""MentorMix: mixup of every sample with one that a mentor trusts, and a second weighting of the mixed samples.

Jiang, Huang, Liu and Yang, "Beyond synthetic noise: deep learning on controlled noisy labels", ICML 2020 (algorithm 1). References:
github.com/LJY-HY/MentorMix_pytorch, and github.com/sangamesh-kodge/LabelNoiseRobustness, whose values are the defaults. Per mini-batch,
with the mentor of `trainers.mentornet`:

    v_i  from a scoring pass without gradients
    j_i ~ softmax(v), with replacement: trusted samples are e times as likely as partners
    s_i ~ Beta(alpha, alpha);  m_i = max(s_i, 1 - s_i);  s_i = m_i where v_i = 1, else 1 - m_i
    x~_i = s_i x_i + (1 - s_i) x_j;   L_i = s_i CE(f(x~_i), y_i) + (1 - s_i) CE(f(x~_i), y_j)
    w_i  from the mentor's second threshold on L
    descend mean_i w_i L_i

Deviation: the scoring pass leaves batch norm's running statistics unchanged.

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
from trainers import random_draws, ranges
from trainers.learner import Learner, require_classes, require_hard_labels
from trainers.loop import EpochContext, StepReport
from trainers.mentornet import BURN_IN_SHARE, Mentor, check_mentor
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class MentorMix:
    """Mixup towards trusted samples. The kept samples that are reported are those of the first weighting (v)."""

    name: ClassVar[str] = "mentormix"
    version: ClassVar[int] = 1
    records_forgetting: ClassVar[bool] = False  # its samples are mixed

    percentile: float = 0.85  # gamma_p in the paper
    alpha: float = 0.2  # of Beta(alpha, alpha)
    ema: float = 0.05  # weight of the previous thresholds
    burn_in: int = 10  # epochs with random v, at most a fifth of all
    second_reweight: bool = True
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        check_mentor(self.percentile, self.ema, self.burn_in)
        ranges.check("trainer", "(0, inf)", alpha=self.alpha)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        require_classes(task, "mentormix")
        # One tensor: its elements are views, which the mentor changes in place.
        thresholds = torch.zeros(2, device=task.device)
        mentor = Mentor(self.percentile, self.ema, min(self.burn_in, BURN_IN_SHARE * self.recipe.epochs))
        return self.recipe.fit_steps(task, run, partial(self.step, mentor=mentor, thresholds=thresholds), {"thresholds": thresholds})

    def step(self, learner: Learner, batch: Batch, context: EpochContext, mentor: Mentor, thresholds: Tensor) -> StepReport:
        """Weights the samples, mixes them, weights the mixtures, and makes a step."""
        require_hard_labels(batch, "mentormix")
        x, y, count, rng = batch.inputs, batch.labels, len(batch.labels), context.rng
        # First weighting, on unmixed samples.
        with torch.no_grad():
            scored_B = functional.cross_entropy(learner.forward(x, update_norm=False), y, reduction="none")
        trusted_B = mentor.judge(scored_B, thresholds[0], context.epoch, rng.child("burn_in"))

        # Partners, and each sample's share in its mixture: a trusted sample keeps the larger part, an untrusted one is mostly replaced.
        partner_B = random_draws.choices(rng.child("partner"), trusted_B.double().softmax(0), count)
        share_B = random_draws.beta(rng.child("share"), self.alpha, count).to(x.device)
        # Per sample, where MixUp draws one share for the mini-batch.
        larger_B = torch.maximum(share_B, 1 - share_B)
        share_B = torch.where(trusted_B, larger_B, 1 - larger_B)
        share_each = share_B.reshape(-1, *[1] * (x.ndim - 1))

        # The only pass with a gradient. Its loss is the cross-entropy with the mixed label, by its linearity in the label.
        logits_BC = learner.forward(share_each * x + (1 - share_each) * x[partner_B])
        own_B = functional.cross_entropy(logits_BC, y, reduction="none")
        partners_B = functional.cross_entropy(logits_BC, y[partner_B], reduction="none")
        losses_B = share_B * own_B + (1 - share_B) * partners_B
        # Second weighting, with a threshold of its own: these are losses of mixtures.
        if self.second_reweight:
            losses_B = mentor.judge(losses_B, thresholds[1], context.epoch, rng.child("burn_in_second")) * losses_B
        loss = losses_B.mean()
        learner.descend(loss, count)
        return learner.report(batch, loss, kept=batch.index[trusted_B.cpu()])

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe and one more forward pass over each mini-batch."""
        return self.recipe.forecast(sizes, forwards=2)

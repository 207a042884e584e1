"""MixUp: training on convex combinations of pairs of images and of their labels.

Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: Beyond empirical risk minimization", ICLR 2018. Reference: SAP's released training script
(torchvision's MixUp in the loader, alpha 0.2): one share per mini-batch, drawn from Beta(alpha, alpha); the partner of a sample is the one
before it in the shuffled batch. The paper draws a random permutation, which on a shuffled batch has the same distribution. The share is
not replaced by max(share, 1 - share).

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import random_draws, ranges
from trainers.learner import Learner
from trainers.loop import EpochContext, StepReport
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class MixUp:
    """share * loss(f(x~), y) + (1 - share) * loss(f(x~), y') with x~ = share * x + (1 - share) * x'.

    For cross-entropy this equals the cross-entropy with the mixed one-hot label; for squared error it has the same gradient as the
    squared error to the mixed target.
    """

    name: ClassVar[str] = "mixup"
    version: ClassVar[int] = 1
    records_forgetting: ClassVar[bool] = False  # its samples are mixed

    alpha: float = 0.2  # of Beta(alpha, alpha): near 0 there is hardly any mixing, 1 is uniform
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "(0, inf)", alpha=self.alpha)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.recipe.fit_steps(task, run, self.step, single_pass=True)

    def step(self, learner: Learner, batch: Batch, context: EpochContext) -> StepReport:
        """Makes one step with one share for the mini-batch; partners are its samples rolled by one."""
        share = random_draws.beta(context.rng.child("share"), self.alpha, 1).to(batch.inputs.device)
        # Rolled by one, as in the reference: on a shuffled batch this is a random pairing, too.
        mixed = share * batch.inputs + (1 - share) * batch.inputs.roll(1, 0)
        outputs_BC = learner.forward(mixed)
        # Two losses of one pass: they weigh the two labels, so regressions and classes need no common form of a mixed label.
        own, partners = learner.loss(outputs_BC, batch.labels), learner.loss(outputs_BC, batch.labels.roll(1, 0))
        loss = (share * own + (1 - share) * partners).squeeze()
        learner.descend(loss, len(batch.labels))
        return learner.report(batch, loss)

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

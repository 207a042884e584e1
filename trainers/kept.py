"""Learning from the samples of each mini-batch that a score puts first: what PRL, co-teaching and self-paced learning share.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision" (PRL), ICML 2021; Han et al.,
"Co-teaching", NeurIPS 2018. Reference: github.com/illidanlab/PRL (commit e89afe6), which is built on bhanML/Co-teaching. Per mini-batch of
B samples in epoch t, for each network:

    score_i  without gradients: the loss, or the squared norm of a gradient of sample i's loss
    K = the max(2, floor((1 - eps_t) B)) samples with the lowest scores
    with two networks and exchange, each takes the other's K
    descend mean_{i in K} loss_i

eps_t grows from 0 in the first epoch to the assumed rate in epoch `ramp`, and stays there.

Deviations from the released code: means are taken once (there the mean is divided by the number kept again); the first epoch counts as the
ramp's first step (there the ramp's 0 is skipped); an exponent bends the ramp without a jump at its end; no sample is dropped with the last,
smaller mini-batch; the scoring pass leaves batch norm's running statistics alone; at least two samples are kept, for batch norm's sake.

Shapes: B batch, K kept, C outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from sap_core.data.samples import batch_sizes
from sap_core.errors import UserError, at_least
from trainers import checks, draws
from trainers.learner import Learner, hard_labels
from trainers.loop import Moment, Report
from trainers.sgd import SGD, Learners

Score = Callable[[Learner, Batch, bool], tuple[Tensor, Tensor]]
"""(learner, mini-batch, are outputs with a graph wanted?) -> scores (B,) without gradients, outputs (B, C)."""

FEWEST = 2
"""At least so many samples of a mini-batch are kept."""


@dataclass(frozen=True)
class Keep:
    """How many samples of a mini-batch are learnt from, and how: the options that these methods have in common."""

    rate: float = 0.45  # the assumed share of corrupted labels
    factor: float = 1.0  # the assumed share is taken so many times too large: the paper's advice where a method fails
    ramp: int = 10  # epochs until the whole rate is left out; 0: at once
    exponent: float = 1.0  # of the ramp: above 1 it starts slowly
    reforward: bool = True  # a second forward pass over the kept samples, as released; False: one pass serves both
    mixup: float = 0.0  # alpha of MixUp among the kept samples; 0: none

    def __post_init__(self) -> None:
        checks.within("trainer", "[0, 1)", rate=self.rate)
        checks.within("trainer", "(0, inf)", factor=self.factor, exponent=self.exponent)
        at_least("trainer", 0, ramp=self.ramp, mixup=self.mixup)
        if self.rate * self.factor >= 1:
            raise UserError(
                f"trainer.rate={self.rate:g} times trainer.factor={self.factor:g} leaves out every sample; their product must be below 1"
            )
        if self.mixup and not self.reforward:
            raise UserError(
                f"trainer.mixup={self.mixup:g} mixes the kept samples, which takes a pass of its own; set trainer.reforward=true or mixup=0"
            )

    def left_out(self, epoch: int) -> float:
        """eps_t: the share of each mini-batch that epoch `epoch` (from 1) leaves out."""
        whole = self.rate * self.factor
        return whole if epoch > self.ramp else whole * ((epoch - 1) / max(self.ramp - 1, 1)) ** self.exponent

    def count(self, batch: int, epoch: int) -> int:
        """K of a mini-batch of so many samples. (1 - 0.9) * 10 counts as 1, whatever floating point makes of it."""
        return min(batch, max(FEWEST, int((1 - self.left_out(epoch)) * batch + 1e-9)))

    def lowest(self, scores_B: Tensor, epoch: int) -> Tensor:
        """(K,) positions of the lowest scores, in the order of the mini-batch; of equal scores the first count."""
        return scores_B.argsort(stable=True)[: self.count(len(scores_B), epoch)].sort().values

    def fit(self, recipe: SGD, networks: int, task: Task, run: Run, trainer: str, score: Score) -> Fitted:
        """Trains one network, or two that exchange what they keep, by `recipe`. `trainer` is the method's name, for what is refused.

        The kept samples that a run is told of are those that the first network learnt from.

        Raises:
            UserError: as `SGD.fit`, and for soft targets.
        """

        def step(learners: Learners, batch: Batch, moment: Moment) -> Report:
            if learners[0].classes:
                hard_labels(batch, trainer)
            scored = [score(learner, batch, not self.reforward) for learner in learners]
            chosen = [self.lowest(scores_B, moment.epoch) for scores_B, _ in scored]
            taken = chosen[::-1] if networks == 2 else chosen
            losses = []
            for which, (learner, (_, outputs_BC), kept) in enumerate(zip(learners, scored, taken, strict=True)):
                if self.reforward:
                    loss = self._loss_again(learner, batch.inputs[kept], batch.labels[kept], moment, which)
                else:
                    loss = learner.each(outputs_BC, batch.labels)[kept].mean()
                learner.descend(loss, len(kept) if self.reforward else len(batch.labels))
                losses.append(loss)
            return learners[0].report(batch, losses[0], scored[0][1], batch.index[taken[0].cpu()])

        return recipe.fit_networks(networks, task, run, step, None, recipe.batches(task))

    def _loss_again(self, learner: Learner, inputs_K: Tensor, labels_K: Tensor, moment: Moment, which: int) -> Tensor:
        """The mean loss in a pass over the kept samples alone, each mixed with the one before it if asked for (as `trainers.mixup`)."""
        if not self.mixup:
            return learner.loss(learner.forward(inputs_K), labels_K)
        share = draws.beta(moment.rng.child("share", which), self.mixup, 1).to(inputs_K.device)
        outputs_KC = learner.forward(share * inputs_K + (1 - share) * inputs_K.roll(1, 0))
        own, partners = learner.loss(outputs_KC, labels_K), learner.loss(outputs_KC, labels_K.roll(1, 0))
        return (share * own + (1 - share) * partners).squeeze()

    def forecast(self, recipe: SGD, sizes: Sizes, networks: int, gradients: bool = False) -> Passes:
        """Sample-passes of all epochs. `gradients`: scoring takes a backward pass, too."""
        train = recipe.num_train(sizes)
        sizes_of = Counter(batch_sizes(train, recipe.batch_size))
        seen = train * recipe.epochs
        kept = sum(times * self.count(size, epoch) for epoch in range(1, recipe.epochs + 1) for size, times in sizes_of.items())
        again = kept if self.reforward else 0
        passes = Passes(networks * (seen + again), networks * ((seen if gradients else 0) + (again or seen)))
        return recipe.forecast(sizes, 0, 0) + passes


def by_outputs(score: Callable[[Learner, Tensor, Tensor], Tensor]) -> Score:
    """Scores that follow from outputs (B, C) and given labels alone: (learner, outputs, labels) -> (B,)."""

    def scored(learner: Learner, batch: Batch, graph: bool) -> tuple[Tensor, Tensor]:
        with torch.set_grad_enabled(graph):
            outputs_BC = learner.forward(batch.inputs, update_norm=graph)
        return score(learner, outputs_BC.detach(), batch.labels), outputs_BC

    return scored


def loss(learner: Learner, outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """(B,) small-loss scores: those of co-teaching and of self-paced learning."""
    return learner.each(outputs_BC, labels)

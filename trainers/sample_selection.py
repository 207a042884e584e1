"""Sample selection within mini-batches by a score: the common part of PRL, co-teaching and self-paced learning.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision" (PRL), ICML 2021; Han et al.,
"Co-teaching", NeurIPS 2018. Reference: github.com/illidanlab/PRL (commit e89afe6), which is built on bhanML/Co-teaching. Per mini-batch of
B samples in epoch t, for each network:

    score_i  without gradients: the loss, or the squared norm of a gradient of sample i's loss
    K = the max(2, floor((1 - eps_t) B)) samples with the lowest scores
    with two networks and exchange, each trains on the other's K
    descend mean_{i in K} loss_i

eps_t grows from 0 in the first epoch to the assumed rate in epoch `ramp`, and stays there.

Deviations from the released code: the mean over K is taken once (there it is divided by the number of kept samples a second time); the
first epoch is the ramp's first step (there the ramp's 0 is skipped); an exponent bends the ramp without a jump at its end; the last,
smaller mini-batch is used; the scoring pass leaves batch norm's running statistics unchanged; at least two samples are kept, because
batch norm cannot normalise a single one.

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
from trainers import random_draws, ranges
from trainers.learner import Learner, require_hard_labels
from trainers.loop import EpochContext, StepReport
from trainers.sgd import SGD, Learners

ScoreFunction = Callable[[Learner, Batch, bool], tuple[Tensor, Tensor]]
"""(learner, mini-batch, keep the graph of the outputs?) -> scores (B,) without gradients, outputs (B, C)."""

MIN_KEPT = 2
"""Smallest number of samples that are kept of a mini-batch: batch norm needs two."""


@dataclass(frozen=True)
class BatchSelection:
    """Options that these methods share: how many samples of a mini-batch are trained on, and how."""

    rate: float = 0.45  # assumed fraction of corrupted labels
    factor: float = 1.0  # multiplies the assumed fraction: the paper advises to overestimate it where a method fails
    ramp: int = 10  # epochs until the full fraction is left out; 0: from the first epoch
    exponent: float = 1.0  # of the ramp: above 1 it starts slowly
    reforward: bool = True  # a second forward pass over the kept samples, as released; False: one pass serves both
    mixup: float = 0.0  # alpha of MixUp among the kept samples; 0: none

    def __post_init__(self) -> None:
        ranges.check("trainer", "[0, 1)", rate=self.rate)
        ranges.check("trainer", "(0, inf)", factor=self.factor, exponent=self.exponent)
        at_least("trainer", 0, ramp=self.ramp, mixup=self.mixup)
        if self.rate * self.factor >= 1:
            raise UserError(
                f"trainer.rate={self.rate:g} times trainer.factor={self.factor:g} leaves out every sample; their product must be below 1"
            )
        if self.mixup and not self.reforward:
            raise UserError(
                f"trainer.mixup={self.mixup:g} mixes the kept samples, which takes a pass of its own; set trainer.reforward=true or mixup=0"
            )

    def drop_rate(self, epoch: int) -> float:
        """Returns eps_t, the fraction of each mini-batch that is left out in `epoch` (from 1)."""
        full = self.rate * self.factor
        # Nothing is left out in epoch 1, the full fraction from epoch `ramp` on; a ramp of one epoch would divide by zero.
        return full if epoch > self.ramp else full * ((epoch - 1) / max(self.ramp - 1, 1)) ** self.exponent

    def num_kept(self, batch: int, epoch: int) -> int:
        """Returns K for a mini-batch of `batch` samples."""
        # (1 - 0.9) * 10 is 0.9999999999999998 in floating point and must give 1.
        return min(batch, max(MIN_KEPT, int((1 - self.drop_rate(epoch)) * batch + 1e-9)))

    def lowest(self, scores_B: Tensor, epoch: int) -> Tensor:
        """Returns (K,) indices of the lowest scores in the order of the mini-batch. Of ties the earlier are kept."""
        # Sorted back, so that the kept samples are passed on in the order of the mini-batch, whatever their scores.
        return scores_B.argsort(stable=True)[: self.num_kept(len(scores_B), epoch)].sort().values

    def fit(self, recipe: SGD, networks: int, task: Task, run: Run, trainer: str, score: ScoreFunction) -> Fitted:
        """Trains one network, or two that exchange their kept samples, by `recipe`. `trainer` is the method's name for error messages.

        The kept samples reported to `run` are those that the first network trained on.

        Raises:
            UserError: as `SGD.fit`, and for soft targets.
        """

        def step(learners: Learners, batch: Batch, context: EpochContext) -> StepReport:
            if learners[0].is_classification:
                require_hard_labels(batch, trainer)
            # All networks score before any of them steps.
            scored = [score(learner, batch, not self.reforward) for learner in learners]
            chosen = [self.lowest(scores_B, context.epoch) for scores_B, _ in scored]
            # Each network trains on the samples that the other one chose.
            kept_by = chosen[::-1] if networks == 2 else chosen
            losses = []
            for which, (learner, (_, outputs_BC), kept) in enumerate(zip(learners, scored, kept_by, strict=True)):
                if self.reforward:
                    loss = self._kept_loss(learner, batch.inputs[kept], batch.labels[kept], context, which)
                else:
                    # The unkept samples have no gradient of the loss, but took part in the batch's statistics.
                    loss = learner.loss_per_sample(outputs_BC, batch.labels)[kept].mean()
                # A shared pass went over the whole mini-batch, a second one over the kept samples only.
                learner.descend(loss, len(kept) if self.reforward else len(batch.labels))
                losses.append(loss)
            return learners[0].report(batch, losses[0], scored[0][1], batch.index[kept_by[0].cpu()])

        return recipe.fit_networks(networks, task, run, step, None, recipe.batches(task))

    def _kept_loss(self, learner: Learner, inputs_K: Tensor, labels_K: Tensor, context: EpochContext, which: int) -> Tensor:
        """Mean loss of a second pass, over the kept samples only; `mixup` mixes each with the one before it (as `trainers.mixup`)."""
        if not self.mixup:
            return learner.loss(learner.forward(inputs_K), labels_K)
        # A draw for each network, which have different samples.
        share = random_draws.beta(context.rng.child("share", which), self.mixup, 1).to(inputs_K.device)
        outputs_KC = learner.forward(share * inputs_K + (1 - share) * inputs_K.roll(1, 0))
        own, partners = learner.loss(outputs_KC, labels_K), learner.loss(outputs_KC, labels_K.roll(1, 0))
        return (share * own + (1 - share) * partners).squeeze()

    def forecast(self, recipe: SGD, sizes: Sizes, networks: int, gradients: bool = False) -> Passes:
        """Returns the sample-passes of all epochs. `gradients`: scoring also takes a backward pass."""
        train = recipe.num_train(sizes)
        # K depends on the epoch and on the size of the mini-batch only, so passes are known before anything is scored.
        sizes_of = Counter(batch_sizes(train, recipe.batch_size))
        seen = train * recipe.epochs
        kept = sum(times * self.num_kept(size, epoch) for epoch in range(1, recipe.epochs + 1) for size, times in sizes_of.items())
        # Without a second pass the scoring pass has the graph, and the backward pass goes through the whole mini-batch.
        second = kept if self.reforward else 0
        passes = Passes(networks * (seen + second), networks * ((seen if gradients else 0) + (second or seen)))
        # What the recipe adds here are its checks of accuracy and validation loss.
        return recipe.forecast(sizes, 0, 0) + passes


def score_from_outputs(score: Callable[[Learner, Tensor, Tensor], Tensor]) -> ScoreFunction:
    """Makes a `ScoreFunction` of a score (B,) that depends on outputs (B, C) and given labels only."""

    def scored(learner: Learner, batch: Batch, graph: bool) -> tuple[Tensor, Tensor]:
        # Without a graph the pass only scores, and running statistics are left to the pass that trains.
        with torch.set_grad_enabled(graph):
            outputs_BC = learner.forward(batch.inputs, update_norm=graph)
        return score(learner, outputs_BC.detach(), batch.labels), outputs_BC

    return scored


def loss_score(learner: Learner, outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """The (B,) losses as scores: co-teaching and self-paced learning."""
    return learner.loss_per_sample(outputs_BC, labels)

"""DivideMix: two networks, each of which divides the samples for the other into labelled and unlabelled ones and re-labels them (MixMatch).

Li, Socher and Hoi, "DivideMix: learning with noisy labels as semi-supervised learning", ICLR 2020. Reference:
github.com/LiJunnan1992/DivideMix. A warm-up with cross-entropy, then in every epoch, for each network:

    losses of all samples under the other network, scaled to [0, 1] -> a mixture of two Gaussians -> w, the posterior of the lower one
    X = samples with w > threshold, U = the rest.  Per mini-batch of X and one as large of U, two views of each:
    t_x = sharpen(w y + (1 - w) p)         p: the mean of the network's own predictions on both views (co-refinement)
    t_u = sharpen(mean of both networks' predictions on both views)                                     (co-guessing)
    l ~ Beta(alpha, alpha), l <- max(l, 1 - l);  inputs and targets of [x, x', u, u'] mixed with a random permutation   (MixMatch)
    L = CE on the x part + lambda_u ramp * mean squared error of probabilities on the u part + sum_c (1/C) log((1/C) / mean p_c)

sharpen(p) = p^(1/T), normalised; ramp grows from 0 to 1 over `ramp_epochs` epochs after the warm-up (0: it is 1). With lambda_u = 0 the u
part of the mix is not computed (the reference's scripts for Clothing1M and WebVision). `confidence_penalty` adds mean sum p log p in the
warm-up (for asymmetric noise). With `remember` > 1 the scaled losses of so many epochs are averaged (5 in the reference at 90 % noise;
Train_CIFAR.py at 39740b26).

Deviations: in the warm-up both networks get the same mini-batches, of the recipe's size (the reference: twice that); passes that only
compute targets leave batch norm's running statistics unchanged; if no sample is trusted the epoch is one of the warm-up, if all are there
is no u part (the reference fails); epochs are not cut to 1,000 class-balanced batches (Clothing1M); the ensemble answers with the mean of
the networks' logits.

Shapes: N samples, B batch, C classes, M mixed samples, U universe.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Samples, Sizes, Task, View
from sap_core.errors import UserError, at_least
from sap_core.models.modes import evaluating
from sap_core.seeding import Stream
from trainers import random_draws, ranges
from trainers.learner import Learner, require_classes, require_hard_labels
from trainers.loop import EpochContext, StepReport
from trainers.sgd import FLAT, SGD, Learners

VIEWS: tuple[View, ...] = ("augmented", "augmented")


@dataclass(frozen=True)
class StepInput:
    """Input of one step: the networks to train, labelled samples with their w (B,), and unlabelled samples."""

    networks: tuple[int, ...]  # both in the warm-up
    labelled: Batch
    trust: Tensor | None = None  # w; None: cross-entropy only
    unlabelled: Batch | None = None
    passed: float = 0.0  # completed fraction of the epoch


@dataclass(frozen=True)
class DivideMix:
    """Two networks, returned as an ensemble. `Fitted.per_sample["trust"]` (U, 2) is w of the last epoch under each of them."""

    name: ClassVar[str] = "dividemix"
    version: ClassVar[int] = 2  # 2: losses are scaled epoch by epoch before their mean is taken
    records_forgetting: ClassVar[bool] = False  # two networks on mixed samples

    warmup_epochs: int = 10
    alpha: float = 4.0
    temperature: float = 0.5
    threshold: float = 0.5
    lambda_u: float = 25.0
    ramp_epochs: int = 16  # over which the weight of the u part rises to lambda_u; 0: it is lambda_u throughout, as in Prune4ReL's code
    confidence_penalty: bool = False
    remember: int = 1  # epochs whose losses are averaged
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        at_least("trainer", 0, lambda_u=self.lambda_u, ramp_epochs=self.ramp_epochs)
        at_least("trainer", 1, warmup_epochs=self.warmup_epochs, remember=self.remember)
        ranges.check("trainer", "(0, inf)", alpha=self.alpha, temperature=self.temperature)
        ranges.check("trainer", "(0, 1)", threshold=self.threshold)
        if self.recipe.trim:
            raise UserError("trainer.trim requires a regression, but dividemix needs classes; set trainer.trim=0")

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only.

        Raises:
            FloatingPointError: a loss is not finite when the samples are divided: the network has diverged.
        """
        require_classes(task, "dividemix")
        universe = task.train.universe
        # Tables of the checkpoint, changed in place: a resumed training remembers the losses of the epochs before.
        losses = torch.zeros(self.remember, universe, 2, dtype=torch.float64)  # of the last epochs, newest first
        trust = torch.zeros(universe, 2, dtype=torch.float64)

        def step(learners: Learners, work: StepInput, context: EpochContext) -> StepReport:
            require_hard_labels(work.labelled, "dividemix")
            if work.trust is None:
                return self.warm_up([learners[which] for which in work.networks], work.labelled)
            return self.mix(learners, work, context)

        def batches(learners: Learners, context: EpochContext) -> Iterator[StepInput]:
            # Warm-up on all samples.
            if context.epoch <= self.warmup_epochs:
                yield from self._all(task, context.rng)
                return
            # Division, once per epoch: this generator runs up to its first batch before the epoch's first step.
            losses.copy_(losses.roll(1, 0))
            losses[0] = self.sample_losses(learners, task.train)
            # Scaled before the mean over epochs: losses shrink during training, and early epochs would dominate.
            losses[0, task.train.index] = scaled(losses[0, task.train.index])
            # The table is still 0 for epochs that have not been.
            known = min(self.remember, context.epoch - self.warmup_epochs)
            for which in range(2):
                scored_N = losses[:known, task.train.index, which].mean(0)
                trust[task.train.index, which] = low_component(scored_N, context.rng.child("mixture", which))
            yield from self._divided(task, trust, context.rng)

        fitted = self.recipe.fit_networks(2, task, run, step, {"losses": losses, "trust": trust}, batches, as_ensemble=True)
        return Fitted(fitted.model, {"trust": trust})

    def sample_losses(self, learners: Learners, samples: Samples) -> Tensor:
        """Returns (U, 2) cross-entropies of `samples` under each network, on plain views in evaluation mode; 0 for all others."""
        losses_U2 = torch.zeros(samples.universe, 2, dtype=torch.float64)
        for batch in samples.batches(2 * self.recipe.batch_size):
            for which, learner in enumerate(learners):
                with evaluating(learner.model):
                    logits_BC = learner.forward(batch.inputs)
                losses_U2[batch.index, which] = functional.cross_entropy(logits_BC.double(), batch.labels, reduction="none").cpu()
        return losses_U2

    def warm_up(self, learners: Sequence[Learner], batch: Batch) -> StepReport:
        """Makes a step of each network on the given labels."""
        losses = []
        for learner in learners:
            logits_BC = learner.forward(batch.inputs)
            loss = functional.cross_entropy(logits_BC, batch.labels)
            # Adds the negative entropy of the predictions, so confident ones cost something.
            if self.confidence_penalty:
                loss = loss + (logits_BC.softmax(1) * logits_BC.log_softmax(1)).sum(1).mean()
            learner.descend(loss, len(batch.labels))
            losses.append(loss.detach())
        return learners[0].report(batch, torch.stack(losses).mean())

    def mix(self, learners: Learners, work: StepInput, context: EpochContext) -> StepReport:
        """Makes a step of one network on labelled and unlabelled samples, re-labelled and mixed."""
        (which,) = work.networks
        own, other, labelled = learners[which], learners[1 - which], work.labelled
        assert work.trust is not None
        # Both views of a sample get the same target: co-refinement for labelled, co-guessing for unlabelled samples.
        with torch.no_grad():
            inputs, targets = list(labelled.views), [self.refine(own, labelled, work.trust)] * 2
            if work.unlabelled is not None:
                inputs, targets = [*inputs, *work.unlabelled.views], [*targets, *[self.guess(own, other, work.unlabelled)] * 2]
        inputs_M, targets_MC = torch.cat(inputs), torch.cat(targets)
        share = float(random_draws.beta(context.rng.child("mix"), self.alpha, 1))
        # MixMatch. With the larger share a mixture belongs to its first sample, so the x part remains the first `count` mixtures.
        share = max(share, 1 - share)
        partner_M = context.rng.child("partner").permutation(len(inputs_M)).to(inputs_M.device)
        count = 2 * len(labelled.labels)
        # Without the u loss its forward pass would be wasted.
        used = slice(0, len(inputs_M) if self.lambda_u else count)
        mixed_M = (share * inputs_M + (1 - share) * inputs_M[partner_M])[used]
        mixed_MC = (share * targets_MC + (1 - share) * targets_MC[partner_M])[used]
        logits_MC = own.forward(mixed_M)
        # From 0 at the end of the warm-up, rising within an epoch as well.
        after = context.epoch - 1 + work.passed - self.warmup_epochs
        ramp = min(max(after / self.ramp_epochs, 0.0), 1.0) if self.ramp_epochs else 1.0
        loss = self.loss(logits_MC, mixed_MC, count, ramp)
        own.descend(loss, len(mixed_M))
        # A curve has one value per epoch, so the trust that is reported is that of the first network.
        return own.report(labelled, loss, kept=None if which else labelled.index)

    def refine(self, own: Learner, batch: Batch, trust_B: Tensor) -> Tensor:
        """(B, C) targets of labelled samples."""
        p_BC = torch.stack([own.forward(view, update_norm=False).softmax(1) for view in batch.views]).mean(0)
        y_BC = functional.one_hot(batch.labels, p_BC.shape[1]).to(p_BC)
        trust_B1 = trust_B.to(p_BC)[:, None]
        return sharpened(trust_B1 * y_BC + (1 - trust_B1) * p_BC, self.temperature)

    def guess(self, own: Learner, other: Learner, batch: Batch) -> Tensor:
        """(B, C) targets of unlabelled samples. The other network is in evaluation mode."""
        predictions = [own.forward(view, update_norm=False).softmax(1) for view in batch.views]
        with evaluating(other.model):
            predictions += [other.forward(view).softmax(1) for view in batch.views]
        return sharpened(torch.stack(predictions).mean(0), self.temperature)

    def loss(self, logits_MC: Tensor, targets_MC: Tensor, count: int, ramp: float) -> Tensor:
        """The loss above, the first `count` samples being the x part."""
        p_MC = logits_MC.softmax(1)
        loss = -(targets_MC[:count] * logits_MC[:count].log_softmax(1)).sum(1).mean()
        if len(logits_MC) > count:
            loss = loss + self.lambda_u * ramp * (p_MC[count:] - targets_MC[count:]).square().mean()
        # The divergence from the uniform distribution to the mean prediction, which keeps a network from giving all samples one class.
        prior = 1 / logits_MC.shape[1]
        return loss + (prior * (prior / p_MC.mean(0)).log()).sum()

    def forecast(self, sizes: Sizes) -> Passes:
        """An upper bound: all but one sample labelled, and as many unlabelled ones in addition."""
        epochs = self.recipe.epochs
        # In each epoch after the warm-up, for each network: one pass over all samples for the losses, two for each view of a labelled
        # sample (target and step), three for each view of an unlabelled one (both networks' guesses and the step).
        plain, size = min(self.warmup_epochs, epochs), self.recipe.batch_size
        unlabelled = -(-sizes.train // size) * (size + 1)  # a last batch of one sample joins the one before it
        mixed = 2 * (epochs - plain)
        passes = self.recipe.forecast(sizes, forwards=0, backwards=0, num_evaluated=2)
        passes += Passes(2 * plain * sizes.train, 2 * plain * sizes.train)
        return passes + Passes(mixed * (5 * sizes.train + 6 * unlabelled), mixed * 2 * (sizes.train + unlabelled))

    def _all(self, task: Task, rng: Stream) -> Iterator[StepInput]:
        for batch in task.train.batches(self.recipe.batch_size, rng, ("augmented",)):
            yield StepInput((0, 1), batch)

    def _divided(self, task: Task, trust_U2: Tensor, rng: Stream) -> Iterator[StepInput]:
        """Yields all steps of the first network, then those of the second; the samples of each are divided by the other's losses."""
        size = self.recipe.batch_size
        for which in range(2):
            # Co-divide: each network trains on the division by the other's losses, so that it does not confirm its own mistakes.
            trust_N = trust_U2[task.train.index, 1 - which]
            chosen_N = trust_N > self.threshold
            own_rng = rng.child("network", which)
            # Nothing is trusted: an epoch of the warm-up for this network, where the reference fails.
            if not bool(chosen_N.any()):
                yield from (StepInput((which,), work.labelled) for work in self._all(task, own_rng))
                continue
            labelled = task.train.subset(chosen_N.nonzero().squeeze(1))
            # The unlabelled samples are cycled through, because an epoch is as long as the labelled part; there may be none.
            rest = _endless_batches(task.train.subset((~chosen_N).nonzero().squeeze(1)), size, own_rng.child("unlabelled"))
            steps = max(1, -(-len(labelled) // size))
            for number, batch in enumerate(labelled.batches(size, own_rng.child("labelled"), VIEWS)):
                trust_B = trust_U2[batch.index, 1 - which].to(batch.labels.device)
                yield StepInput((which,), batch, trust_B, next(rest, None), number / steps)


def _endless_batches(samples: Samples, size: int, rng: Stream) -> Iterator[Batch]:
    """Yields mini-batches endlessly, reshuffled after each pass; none if there are no samples."""
    number = 0
    while len(samples):
        yield from samples.batches(size, rng.child(number), VIEWS)
        number += 1


def sharpened(p_BC: Tensor, temperature: float) -> Tensor:
    """Returns (B, C) probabilities to the power of 1 / temperature, normalised."""
    powers_BC = p_BC ** (1 / temperature)
    return powers_BC / powers_BC.sum(1, keepdim=True)


def scaled(losses_N2: Tensor) -> Tensor:
    """Returns the losses of each column scaled to [0, 1]; (N, 2).

    Raises:
        FloatingPointError: a loss is not finite.
    """
    if not losses_N2.isfinite().all():
        raise FloatingPointError("a network's loss is not finite on some training samples, so it has diverged")
    lowest_2, highest_2 = losses_N2.amin(0), losses_N2.amax(0)
    # The clamp serves equal losses, which would divide by zero.
    return (losses_N2 - lowest_2) / (highest_2 - lowest_2).clamp(min=1e-12)


def low_component(losses_N: Tensor, rng: Stream) -> Tensor:
    """Returns the (N,) posterior of the lower of two Gaussians, which scikit-learn fits to scaled losses."""
    # scikit-learn takes a second to import and only this trainer needs it here.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    column_N1 = losses_N[:, None].numpy()
    # Settings of the reference. scikit-learn takes seeds of 32 bits.
    mixture = GaussianMixture(2, max_iter=10, tol=1e-2, reg_covar=5e-4, random_state=rng.number() % 2**32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten iterations are the reference's choice, and losses may all be equal
        mixture.fit(column_N1)
    return torch.from_numpy(mixture.predict_proba(column_N1)[:, mixture.means_.argmin()])

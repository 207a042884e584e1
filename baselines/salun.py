"""SalUn: trains only the weights with the largest gradients on the forget samples, on random labels for these and on retain samples.

Source: Fan, Liu, Zhang, Wong, Wei and Liu, "SalUn: empowering machine unlearning via gradient-based weight saliency in both image
classification and generation", ICLR 2024, with random labelling as its code does it for CIFAR-10 (the defaults are that example's):

    m = 1 for the fraction `salient` of all weights with the largest |gradient of the forget samples' loss|, 0 for the others
    w = m * (trained weights) + (1 - m) * (weights of the noisy model)

The gradient is the sum over the forget batches of the gradient of their mean cross-entropy, in evaluation mode. Each epoch is one pass
over the forget samples under labels drawn anew from all classes, then one over the retain samples, with one optimiser for both.

Deviations: `labels` = "runner_up" is ours (see `relabelling`; chosen once, before training); a constant rate (the code's decay begins after
epoch 91); images are not augmented by default.

Frozen parameters (requires_grad=False) are no weights in this sense: the fraction is one of the others.

Shapes: K parameters that are not frozen (each of its own shape).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines import relabelling, sample_sources
from baselines.relabelling import Labels
from baselines.sample_sources import Relabelled, Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType, View
from sap_core.errors import UserError, at_least, unknown
from sap_core.models.copies import copied
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext


def saliency(model: nn.Module, samples: Samples, batch_size: int, run: Run) -> list[Tensor]:
    """Returns |sum over batches of the gradient of the mean cross-entropy| for each of the K parameters; `model` in evaluation mode.

    Raises:
        UserError: all parameters are frozen.
    """
    parameters = optim.trainable(model.parameters())
    total_K = [torch.zeros_like(parameter) for parameter in parameters]
    for batch in samples.batches(batch_size):
        # Under the given labels, which are the ones to be forgotten.
        loss = functional.cross_entropy(model(batch.inputs), batch.labels)
        # With their signs: the absolute value is that of the sum, so batches that pull a weight in opposite directions cancel.
        for total, gradient in zip(total_K, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True):
            total += gradient
        run.meter.count(forwards=len(batch.labels), backwards=len(batch.labels))
    return [total.abs() for total in total_K]


def largest_share(values_K: Sequence[Tensor], share: float) -> list[Tensor]:
    """Marks the int(share * total) largest values of all parameters together. Of ties the earlier are marked."""
    # One ranking over the whole network, not one per layer.
    flat = torch.cat([values.flatten() for values in values_K])
    mask = torch.zeros_like(flat, dtype=torch.bool)
    # By rank, because a threshold would take all tied weights or none, such as those whose gradient is 0. The sort is stable, so that the
    # same ones are taken everywhere.
    mask[flat.argsort(descending=True, stable=True)[: int(share * len(flat))]] = True
    pieces = mask.split([values.numel() for values in values_K])
    return [piece.view_as(values) for piece, values in zip(pieces, values_K, strict=True)]


@dataclass(frozen=True)
class SalUn:
    """See the module's docstring. Settings that differ only in `epochs` are one family."""

    name: ClassVar[str] = "salun"
    version: ClassVar[int] = 1

    learning_rate: float = 0.013
    epochs: int = 10
    salient: float = 0.5
    labels: Labels = "random"
    forget_batch: int = 256
    retain_batch: int = 256
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=1000, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("salun", self.source, self.num_retain, self.num_forget)
        at_least("salun", 1, epochs=self.epochs, forget_batch=self.forget_batch, retain_batch=self.retain_batch)
        if not 0 < self.salient <= 1:
            raise UserError(f"salun.salient={self.salient:g} must be a fraction of the weights, above 0 and at most 1")
        if self.labels not in get_args(Labels):
            raise unknown("kind of new labels", self.labels, get_args(Labels), "salun.labels")

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network whose parameters are all frozen."""
        sample_sources.check_classes("salun", kind, "gives forget samples other classes")
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of its set equals that size."""
        forget_batch, retain_batch = (
            sample_sources.effective_batch_size(self.forget_batch, self.num_forget),
            sample_sources.effective_batch_size(self.retain_batch, self.num_retain),
        )
        return ("salun", *astuple(replace(self, epochs=1, forget_batch=forget_batch, retain_batch=retain_batch)))

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[SalUn], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        first.refuse(task.kind, model)
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        # The mask comes from the noisy network in evaluation mode, once for all settings of the family.
        with run.meter("collect"):
            mask_K = largest_share(saliency(copied(model).eval(), forget, first.forget_batch, run), first.salient)
            runner_up_N = relabelling.runner_up_labels(model, forget, run) if first.labels == "runner_up" else None
        views: tuple[View, ...] = ("augmented",) if first.augment else ("plain",)
        trajectory = Trajectory.start(model, first.momentum, first.weight_decay)
        # Weights are put back after each step. Masking gradients would not be enough: weight decay moves weights without any.
        trajectory.constraint = _restore_outside(mask_K, model)

        def loss_of(net: nn.Module, batch: Batch) -> Tensor:
            return functional.cross_entropy(net(batch.inputs), batch.labels)

        def one_pass(epoch: int, phase: str, samples: Samples, size: int) -> None:
            context = EpochContext(epoch, stream(task.seed, "correct", epoch, phase))
            trajectory.descend(samples.batches(size, context.rng, views), loss_of, first.learning_rate, context, run, task.device)

        def advance(epoch: int) -> None:
            # Random labels are drawn anew in each epoch, as in the reference; the runner-up is that of the noisy network and stays.
            labels_N = runner_up_N if runner_up_N is not None else _random_labels(forget, task, epoch)
            # Forget samples before retain samples, with one optimiser for both, as in the reference.
            one_pass(epoch, "forget", Relabelled(forget, labels_N), first.forget_batch)
            one_pass(epoch, "retain", retain, first.retain_batch)

        yield from trajectory.models_at([setting.epochs for setting in settings], advance, run)

    @classmethod
    def forecast(cls, settings: Sequence[SalUn], sizes: Sizes) -> Passes:
        """The longest setting's passes, one over the forget samples for the mask, and one if the network chooses their new labels."""
        first = settings[0]
        retain, forget = sample_sources.expected_counts(first, sizes)
        # The first term is the pass for the mask.
        passes = forget + (retain + forget) * max(setting.epochs for setting in settings)
        relabelled = forget if first.labels == "runner_up" else 0
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=passes + relabelled, backwards=passes)


def _restore_outside(mask_K: Sequence[Tensor], model: nn.Module) -> Callable[[nn.Module], None]:
    """Returns a constraint that resets weights outside the mask to those of `model`."""
    original_K = [parameter.detach().clone() for parameter in optim.trainable(model.parameters())]

    @torch.no_grad()
    def constraint(net: nn.Module) -> None:
        for parameter, mask, original in zip(optim.trainable(net.parameters()), mask_K, original_K, strict=True):
            parameter.copy_(torch.where(mask, parameter, original))

    return constraint


def _random_labels(forget: Samples, task: Task, epoch: int) -> Tensor:
    """Returns labels drawn from all classes, including the given one."""
    # The given class may be drawn again, as in the reference; `relabelling.random_other_labels` excludes it.
    rng = stream(task.seed, "correct", epoch, "labels")
    return torch.randint(task.num_outputs, forget.labels.shape, generator=rng.generator())

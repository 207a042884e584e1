"""SSD, selective synaptic dampening: shrinks the weights whose importance for the forget samples is far above that for all samples.

Source: Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through selective synaptic dampening", AAAI 2024, with
the batch-level importances of its reference implementation:

    I_S   = mean over the batches of S of (gradient of the batch's mean cross-entropy)^2, in evaluation mode, given labels
    theta = theta * min(lambda * I_D / I_F, 1)  where  I_F > a * I_D

F are the forget samples, D all samples: retain and forget together, or, with `against` = "retain", the retain samples only (as in the
corrective unlearning benchmark of Goel et al.). `selection` is a and `dampening` is lambda / a.

Deviations: D is the verified sample (retain and forget), not the complete training set; squares are summed in float64, because squares of
small gradients vanish in float32. Batches of D mix retain and forget samples, as batches of a complete training set do: if they were kept
apart, I_D would contain I_F times the fraction of forget batches, and no `a` above the inverse of that fraction could select a weight.

Frozen parameters (requires_grad=False) have no importance and are not changed.

Shapes: B batch, K parameters that are not frozen (each of its own shape).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from baselines import sample_sources
from baselines.sample_sources import Source
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType
from sap_core.data.samples import split_batches
from sap_core.errors import at_least, unknown
from sap_core.models.copies import copied
from trainers import optim
from trainers.losses import Loss, loss_for

Against = Literal["all", "retain"]

LabelledBatch = tuple[Tensor, Tensor]
"""(inputs (B, ...), given labels (B,))."""


def stored_batches(samples: Samples, size: int) -> Iterator[LabelledBatch]:
    """Yields batches in the stored order."""
    for batch in samples.batches(size):
        yield batch.inputs, batch.labels


def mixed_batches(one: Samples, other: Samples, size: int) -> Iterator[LabelledBatch]:
    """Yields batches of the union of both sets, ordered by universe position; within a batch the samples of `one` come first."""
    # Mixed by position in the training set, not at random: the method stays deterministic, and a batch has forget samples in their
    # proportion (see the deviations above).
    order = torch.cat([one.index, other.index]).argsort(stable=True)
    for which in split_batches(order, size):
        # Where a sample stands within its batch does not matter, because the gradient is that of the batch's mean.
        parts = [(one, which[which < len(one)]), (other, which[which >= len(one)] - len(one))]
        batches = [next(samples.subset(part).batches(len(part))) for samples, part in parts if len(part)]
        yield torch.cat([batch.inputs for batch in batches]), torch.cat([batch.labels for batch in batches])


def importances(model: nn.Module, batches: Iterable[LabelledBatch], loss_of: Loss) -> list[Tensor]:
    """Returns the mean over batches of the squared gradient of each of the K parameters (float64); `model` must be in evaluation mode.

    Raises:
        UserError: all parameters are frozen.
    """
    parameters = optim.trainable(model.parameters())
    total_K = [torch.zeros_like(parameter, dtype=torch.float64) for parameter in parameters]
    count = 0
    for inputs, labels in batches:
        # The gradient of the batch's mean is squared, not that of each sample: so in the reference, and so the result depends on the batch
        # size.
        gradients_K = torch.autograd.grad(loss_of(model(inputs), labels), parameters, materialize_grads=True)
        for total, gradient in zip(total_K, gradients_K, strict=True):
            total += gradient.double() ** 2
        count += 1
    return [total / count for total in total_K]


@torch.no_grad()
def dampen(model: nn.Module, all_K: Sequence[Tensor], forget_K: Sequence[Tensor], selection: float, dampening: float) -> None:
    """Multiplies the selected weights of `model` by min(dampening * selection * I_D / I_F, 1) in place."""
    for parameter, in_all, in_forget in zip(optim.trainable(model.parameters()), all_K, forget_K, strict=True):
        # A strict inequality, so that I_F > 0 wherever it divides. Elsewhere the quotient may be infinite or NaN, and is not used.
        selected = in_forget > selection * in_all
        # At most 1: a weight is shrunk or left alone, never enlarged.
        factor = (dampening * selection * in_all / in_forget).clamp(max=1)
        parameter.mul_(torch.where(selected, factor, 1.0).to(parameter.dtype))


@dataclass(frozen=True)
class SSD:
    """All values of selection and dampening share one pair of importances. The defaults are the paper's (a = 10, lambda = 1)."""

    name: ClassVar[str] = "ssd"
    version: ClassVar[int] = 1

    selection: float = 10.0
    dampening: float = 0.1  # a multiple of `selection`
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=1000, metadata=FORGET_COUNT)
    batch_size: int = 128
    against: Against = "all"  # the set D
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("ssd", self.source, self.num_retain, self.num_forget)
        at_least("ssd", 1, batch_size=self.batch_size)
        if self.against not in get_args(Against):
            raise unknown("set", self.against, get_args(Against), "ssd.against")

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for a network whose parameters are all frozen."""
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields that the importances depend on."""
        compared = (self.num_retain, self.num_forget) if self.against == "all" else (self.num_retain,)
        # A size above that of every set means one full batch each: the same computation.
        batch = max(
            sample_sources.effective_batch_size(self.batch_size, *compared),
            sample_sources.effective_batch_size(self.batch_size, self.num_forget),
        )
        return ("ssd", self.num_retain, self.num_forget, batch, self.against, self.source)

    def computation(self) -> Hashable:
        """All fields that change the result."""
        return (self.family(), self.selection, self.dampening)

    @classmethod
    def correct(cls, settings: Sequence[SSD], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Computes the importances once, then yields one dampened copy per setting in the given order (all cost the same)."""
        first = settings[0]
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        loss_of = loss_for(task.kind)
        with run.meter("collect"):
            # Importances are those of the noisy network in evaluation mode; the given network itself is not touched.
            frozen = copied(model).eval()
            mixed = first.against == "all"
            of_all = mixed_batches(retain, forget, first.batch_size) if mixed else stored_batches(retain, first.batch_size)
            all_K = importances(frozen, of_all, loss_of)
            forget_K = importances(frozen, stored_batches(forget, first.batch_size), loss_of)
            # If D is mixed the forget samples are seen twice, once in D and once by themselves.
            passes = len(retain) + (2 if mixed else 1) * len(forget)
            run.meter.count(forwards=passes, backwards=passes)
        for position, setting in enumerate(settings):
            with run.meter("correct", used_by=[position]):
                # Every setting dampens the noisy network, not the one before it.
                corrected = copied(frozen)
                dampen(corrected, all_K, forget_K, setting.selection, setting.dampening)
            yield position, corrected

    @classmethod
    def forecast(cls, settings: Sequence[SSD], sizes: Sizes) -> Passes:
        """Two passes over the forget samples (one if D does not contain them) and one over the retain samples, forward and backward."""
        first = settings[0]
        retain, forget = sample_sources.expected_counts(first, sizes)
        passes = retain + (2 if first.against == "all" else 1) * forget
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=passes, backwards=passes)

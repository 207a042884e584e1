"""NegGrad+: gradient descent on retain samples and ascent on forget samples in the same step.

Source: Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards unbounded machine unlearning", NeurIPS 2023, where it is a baseline:
every step takes a retain batch and the next forget batch (cycling through them) and descends

    alpha * cross-entropy(retain batch) - (1 - alpha) * cross-entropy(forget batch)

One epoch is one pass over the retain samples. The defaults (rate 0.01, alpha 0.9999, 5 epochs, SGD without momentum and weight decay) are
those of `negative_grad` and its call in the official membership-inference notebook.

Deviations: a constant rate; the order of samples comes from streams keyed by epoch; images are not augmented by default.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import cycle, islice
from typing import ClassVar

from torch import Tensor, nn

from baselines import sample_sources
from baselines.sample_sources import Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Sizes, Task, TaskType, View
from sap_core.data.samples import batch_sizes
from sap_core.errors import UserError, at_least
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext
from trainers.losses import loss_for


@dataclass(frozen=True)
class NegGrad:
    """See the module's docstring. Settings that differ only in `epochs` are one family."""

    name: ClassVar[str] = "neggrad"
    version: ClassVar[int] = 2  # 2: neither momentum nor weight decay by default

    learning_rate: float = 1.0e-2
    epochs: int = 5
    alpha: float = 0.9999  # weight of the retain samples
    forget_batch: int = 64
    retain_batch: int = 64
    momentum: float = 0.0
    weight_decay: float = 0.0
    num_retain: int = field(default=1000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=200, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("neggrad", self.source, self.num_retain, self.num_forget)
        at_least("neggrad", 1, epochs=self.epochs, forget_batch=self.forget_batch, retain_batch=self.retain_batch)
        if not 0 <= self.alpha <= 1:
            raise UserError(
                f"neggrad.alpha={self.alpha:g} must lie between 0 (ascent on forget samples only) and 1 (descent on retain samples only)"
            )

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for a network whose parameters are all frozen."""
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of its set equals that size."""
        # Each batch size is bounded by the set that it divides.
        forget_batch, retain_batch = (
            sample_sources.effective_batch_size(self.forget_batch, self.num_forget),
            sample_sources.effective_batch_size(self.retain_batch, self.num_retain),
        )
        return ("neggrad", *astuple(replace(self, epochs=1, forget_batch=forget_batch, retain_batch=retain_batch)))

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[NegGrad], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        views: tuple[View, ...] = ("augmented",) if first.augment else ("plain",)
        given_loss = loss_for(task.kind)
        trajectory = Trajectory.start(model, first.momentum, first.weight_decay)

        def loss_of(net: nn.Module, pair: tuple[Batch, ...]) -> Tensor:
            retain_batch, forget_batch = pair
            # Two passes, not one over both batches: batch norm normalises each batch by its own statistics.
            retain_loss = given_loss(net(retain_batch.inputs), retain_batch.labels)
            forget_loss = given_loss(net(forget_batch.inputs), forget_batch.labels)
            # One gradient for both terms, so alpha weighs descent against ascent within a step.
            return first.alpha * retain_loss - (1 - first.alpha) * forget_loss

        def advance(epoch: int) -> None:
            rng = stream(task.seed, "correct", epoch, "neggrad")
            # Streams of their own, so that neither order depends on the size of the other set.
            retain_batches = retain.batches(first.retain_batch, rng.child("retain"), views)
            # The batches of one pass over the forget samples are repeated in the same order until the retain samples of the epoch are used
            # up.
            forget_batches = cycle(forget.batches(first.forget_batch, rng.child("forget"), views))
            pairs: Iterator[tuple[Batch, ...]] = zip(retain_batches, forget_batches)  # noqa: B905 (the second never ends)
            trajectory.descend(pairs, loss_of, first.learning_rate, EpochContext(epoch, rng), run, task.device)

        yield from trajectory.models_at([setting.epochs for setting in settings], advance, run)

    @classmethod
    def forecast(cls, settings: Sequence[NegGrad], sizes: Sizes) -> Passes:
        """The passes of the longest setting; a step takes a batch of each kind."""
        first = settings[0]
        retain, forget = sample_sources.expected_counts(first, sizes)
        retain_sizes, forget_sizes = batch_sizes(retain, first.retain_batch), batch_sizes(forget, first.forget_batch)
        # Batches, not samples, are paired: where the forget samples are the fewer, they are seen several times in an epoch.
        per_epoch = sum(retain_sizes) + sum(islice(cycle(forget_sizes), len(retain_sizes)))
        passes = per_epoch * max(setting.epochs for setting in settings)
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=passes, backwards=passes)

"""Finetune: training continues on correctly labelled samples only.

Source: the "Finetune" rows of the paper's tables (catastrophic forgetting with all layers). Its search was not released; the space in
`conf/method/finetune.yaml` is ours. Deviation: images are not augmented by default.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar, Protocol

from torch import Tensor, nn

from baselines import sample_sources
from baselines.sample_sources import Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType, View
from sap_core.errors import at_least
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext
from trainers.losses import loss_for


class FinetuneSetting(Protocol):
    """A setting that trains on given labels at a constant rate."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def epochs(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def augment(self) -> bool: ...


def finetune_on(
    settings: Sequence[FinetuneSetting], trajectory: Trajectory, retain: Samples, task: Task, run: Run
) -> Iterator[tuple[int, nn.Module]]:
    """Trains on `retain` with the options of the first setting, and yields each setting's network at its last epoch."""
    first = settings[0]
    views: tuple[View, ...] = ("augmented",) if first.augment else ("plain",)
    # By type of task: training on given labels serves regressions, too.
    given_loss = loss_for(task.kind)

    def loss_of(net: nn.Module, batch: Batch) -> Tensor:
        return given_loss(net(batch.inputs), batch.labels)

    def advance(epoch: int) -> None:
        # Keyed by the epoch, so that a setting of fewer epochs is a prefix of a longer one to the bit.
        context = EpochContext(epoch, stream(task.seed, "correct", epoch, "retain"))
        batches = retain.batches(first.batch_size, context.rng, views)
        trajectory.descend(batches, loss_of, first.learning_rate, context, run, task.device)

    yield from trajectory.models_at([setting.epochs for setting in settings], advance, run)


@dataclass(frozen=True)
class Finetune:
    """Gradient descent on verified retain samples at a constant rate, so that fewer epochs are a prefix of more."""

    name: ClassVar[str] = "finetune"
    version: ClassVar[int] = 1

    learning_rate: float = 1.0e-2
    epochs: int = 10
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    augment: bool = False
    source: Source = "oracle"
    num_forget: SampleCount = field(default=None, metadata=FORGET_COUNT)  # source=identified: number of known wrong samples to leave out

    def __post_init__(self) -> None:
        sample_sources.check_counts("finetune", self.source, self.num_retain, self.num_forget, forgets=False)
        at_least("finetune", 1, epochs=self.epochs, batch_size=self.batch_size)

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for a network whose parameters are all frozen."""
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of the set equals that size."""
        return (
            "finetune",
            # One value for all epochs takes them out of the comparison: at a constant rate fewer are a prefix of more.
            *astuple(replace(self, epochs=1, batch_size=sample_sources.effective_batch_size(self.batch_size, self.num_retain))),
        )

    def computation(self) -> Hashable:
        """All fields that change the result."""
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[Finetune], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        retain = sample_sources.retain_samples(first, model, task, run)
        trajectory = Trajectory.start(model, first.momentum, first.weight_decay)
        yield from finetune_on(settings, trajectory, retain, task, run)

    @classmethod
    def forecast(cls, settings: Sequence[Finetune], sizes: Sizes) -> Passes:
        """The passes of the longest setting."""
        # Only the longest setting is trained; the others are read off on the way.
        passes = sample_sources.expected_counts(settings[0], sizes, forgets=False)[0] * max(setting.epochs for setting in settings)
        return sample_sources.scoring_passes(settings[0], sizes) + Passes(forwards=passes, backwards=passes)

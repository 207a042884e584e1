"""Amnesiac relabelling: wrong samples get random other labels, and the network is trained on them together with correct samples.

Source: Graves, Nagisetty and Ganesh, "Amnesiac machine learning", AAAI 2021, in the form in which the bad-teaching and SSD papers' codes
run it under that name: one random label per forget sample, drawn once; one mixed and shuffled set; Adam at rate 1e-4, batches of 128,
three epochs. (Amnesiac unlearning proper subtracts the updates of the batches that contained forget samples, which are not recorded for a
trained network.)

Deviations: `labels` = "runner_up" is ours (see `relabelling`); images are not augmented by default.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar, get_args

from torch import Tensor, nn
from torch.nn import functional

from baselines import relabelling, sample_sources
from baselines.relabelling import Labels
from baselines.sample_sources import Concatenated, Relabelled, Source
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Sizes, Task, TaskType, View
from sap_core.errors import at_least, unknown
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext


@dataclass(frozen=True)
class Amnesiac:
    """See the module's docstring. Settings that differ only in `epochs` are one family."""

    name: ClassVar[str] = "amnesiac"
    version: ClassVar[int] = 1

    learning_rate: float = 1.0e-4
    epochs: int = 3
    batch_size: int = 128
    labels: Labels = "random"
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=1000, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("amnesiac", self.source, self.num_retain, self.num_forget)
        at_least("amnesiac", 1, epochs=self.epochs, batch_size=self.batch_size)
        if self.labels not in get_args(Labels):
            raise unknown("kind of new labels", self.labels, get_args(Labels), "amnesiac.labels")

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network whose parameters are all frozen."""
        sample_sources.check_classes("amnesiac", kind, "gives forget samples other classes")
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of the set equals that size."""
        return (
            "amnesiac",
            *astuple(
                replace(self, epochs=1, batch_size=sample_sources.effective_batch_size(self.batch_size, self.num_retain, self.num_forget))
            ),
        )

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[Amnesiac], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        first.refuse(task.kind, model)
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        # Drawn once for all epochs, as in the reference; SalUn draws new ones in each.
        if first.labels == "random":
            labels_N = relabelling.random_other_labels(forget.labels, task.num_outputs, stream(task.seed, "correct", "labels"))
        else:
            # The runner-up is that of the noisy network, asked once for the whole family.
            with run.meter("collect"):
                labels_N = relabelling.runner_up_labels(model, forget, run)
        # One mixed and shuffled set, as in the reference.
        both = Concatenated((retain, Relabelled(forget, labels_N)))
        views: tuple[View, ...] = ("augmented",) if first.augment else ("plain",)
        trajectory = Trajectory.start_adam(model)

        def loss_of(net: nn.Module, batch: Batch) -> Tensor:
            return functional.cross_entropy(net(batch.inputs), batch.labels)

        def advance(epoch: int) -> None:
            context = EpochContext(epoch, stream(task.seed, "correct", epoch, "relabelled"))
            batches = both.batches(first.batch_size, context.rng, views)
            trajectory.descend(batches, loss_of, first.learning_rate, context, run, task.device)

        yield from trajectory.models_at([setting.epochs for setting in settings], advance, run)

    @classmethod
    def forecast(cls, settings: Sequence[Amnesiac], sizes: Sizes) -> Passes:
        """The passes of the longest setting, and one over the forget samples where the network chooses their new labels."""
        first = settings[0]
        retain, forget = sample_sources.expected_counts(first, sizes)
        passes = (retain + forget) * max(setting.epochs for setting in settings)
        relabelled = forget if first.labels == "runner_up" else 0
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=passes + relabelled, backwards=passes)

"""SCRUB counted in optimiser steps, as the corrective unlearning benchmark runs it.

Source: Goel, Prabhu, Torr, Kumaraguru and Sanyal, "Corrective machine unlearning", TMLR 2024, and its code. It makes `steps` optimiser
steps in all, where the original (`scrub`) counts epochs. With K as in `scrub`,

    while steps remain:
        if fewer than `msteps` steps are done: one pass over the FORGET samples, descending  -(cross-entropy + alpha * K)
        then                                   one pass over the RETAIN samples, descending    cross-entropy + alpha * K

with one optimiser (momentum 0.9, weight decay 5e-4) through both. The rate rises over the first hundredth of the steps and then falls
linearly: at step t (from 0), with w = steps // 100,

    learning_rate * (t + 1) / (w + 1)  if t < w,  else  learning_rate * (1 - (t - w) / (1.25 * steps))

Deviations: exactly `steps` steps (the benchmark makes one more); the last network is returned, where the benchmark takes the one with the
best test accuracy; full precision; retain samples are those of the setting, while the benchmark takes all samples that were not identified
as wrong. Images are not augmented by default.

The rate depends on `steps`, so that shorter runs are not prefixes of longer ones: only settings of one computation share it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from itertools import islice
from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional

from baselines import sample_sources
from baselines.sample_sources import Concatenated, Source
from baselines.teachers import Teacher, cached_teacher, divergence, online_teacher
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, Samples, Sizes, Task, TaskType, View
from sap_core.data.samples import batch_sizes
from sap_core.errors import UserError, at_least
from sap_core.models.copies import copied
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext

Phase = Literal["max", "min"]


@dataclass(frozen=True)
class Pass:
    """One pass over the forget (max) or retain (min) samples. The last one may be cut short by the number of steps."""

    phase: Phase
    begin: int  # steps done before it
    steps: int


@dataclass(frozen=True)
class SCRUBSteps:
    """See the module's docstring."""

    name: ClassVar[str] = "scrub_steps"
    version: ClassVar[int] = 1

    learning_rate: float = 0.0025
    steps: int = 1000
    msteps: int = 100
    alpha: float = 0.001
    temperature: float = 4.0
    batch_size: int = 512
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    num_forget: int = field(default=1000, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("scrub_steps", self.source, self.num_retain, self.num_forget)
        at_least("scrub_steps", 1, steps=self.steps, batch_size=self.batch_size)
        at_least("scrub_steps", 0, msteps=self.msteps)
        if not self.temperature > 0:
            raise UserError(f"scrub_steps.temperature={self.temperature:g} must be above 0")

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network whose parameters are all frozen."""
        sample_sources.check_classes("scrub_steps", kind, "compares distributions over classes")
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        return self.computation()

    def computation(self) -> Hashable:
        """All fields that change the result. `msteps` acts through the passes; a batch size above the size of its set equals that size."""
        # The passes stand for `msteps`: values that end within the same pass give the same computation.
        sizes = min(self.batch_size, self.num_retain), min(self.batch_size, self.num_forget)
        return ("scrub_steps", self.passes(), sizes, *astuple(replace(self, msteps=0, batch_size=1)))

    def passes(self) -> tuple[Pass, ...]:
        """Returns all passes in order."""
        found: list[Pass] = []
        done = 0
        while done < self.steps:
            # Asked at the start of each round only: a max pass that has begun is finished, even beyond `msteps`.
            phases: tuple[Phase, ...] = ("max", "min") if done < self.msteps else ("min",)
            for phase in phases:
                full = len(batch_sizes(self.num_forget if phase == "max" else self.num_retain, self.batch_size))
                # The last pass is cut to the steps that remain, and left out where none do.
                steps = min(full, self.steps - done)
                found += [Pass(phase, done, steps)] if steps else []
                done += steps
        return tuple(found)

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step, counted from 0."""
        # The benchmark's schedule. With 1.25 in the denominator the rate ends at about a fifth of its peak, not at 0.
        warmup = self.steps // 100
        factor = (step + 1) / (warmup + 1) if step < warmup else 1 - (step - warmup) / (1.25 * self.steps)
        return self.learning_rate * factor

    @classmethod
    def correct(cls, settings: Sequence[SCRUBSteps], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields it for every setting of the family."""
        first = settings[0]
        first.refuse(task.kind, model)
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        with run.meter("collect"):
            # Teacher logits of both sets in one table: a batch finds its rows by universe position, in either phase.
            network = copied(model).eval()
            teacher = online_teacher(network, run) if first.augment else cached_teacher([(network, Concatenated((retain, forget)))], run)
        with run.meter("correct"):
            trajectory = first.trained(model, retain, forget, teacher, task, run)
        # The rate depends on `steps`, so no setting is a prefix of another: all that a family has in common is one whole computation.
        for position in range(len(settings)):
            yield position, trajectory.model.eval()

    def trained(self, model: nn.Module, retain: Samples, forget: Samples, teacher: Teacher, task: Task, run: Run) -> Trajectory:
        """Trains the complete trajectory of the setting."""
        trajectory = Trajectory.start(model, self.momentum, self.weight_decay)
        views: tuple[View, ...] = ("augmented",) if self.augment else ("plain",)
        for number, one in enumerate(self.passes(), start=1):
            # Passes are counted where other methods count epochs: `number` keys the order of the samples.
            context = EpochContext(number, stream(task.seed, "correct", number, one.phase))
            # In the max phase the benchmark ascends cross-entropy and divergence together; `scrub` ascends the divergence only.
            samples, sign = (forget, -1) if one.phase == "max" else (retain, 1)

            # Loop variables are bound as defaults, because a closure would read them only when it is called.
            def loss_of(student: nn.Module, batch: Batch, sign: int = sign) -> Tensor:
                logits_BC = student(batch.inputs)
                close = divergence(teacher(batch), logits_BC, self.temperature)
                return sign * (functional.cross_entropy(logits_BC, batch.labels) + self.alpha * close)

            def rate(step: int, begin: int = one.begin) -> float:
                return self.rate(begin + step)

            # The rate goes on from the steps of earlier passes.
            batches = islice(samples.batches(self.batch_size, context.rng, views), one.steps)
            trajectory.descend(batches, loss_of, rate, context, run, task.device)
        return trajectory

    @classmethod
    def forecast(cls, settings: Sequence[SCRUBSteps], sizes: Sizes) -> Passes:
        """The passes of the student and of the teacher: one per sample, or one at every step if images are augmented."""
        first = settings[0]
        student = 0
        for one in first.passes():
            count = first.num_forget if one.phase == "max" else first.num_retain
            student += sum(batch_sizes(count, first.batch_size)[: one.steps])
        teacher = student if first.augment else first.num_retain + first.num_forget
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=student + teacher, backwards=student)

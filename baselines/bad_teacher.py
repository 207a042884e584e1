"""Bad Teacher: the student imitates an untrained network on forget samples and the original network on retain samples.

Source: Chundawat, Tarun, Mandal and Kankanhalli, "Can bad teaching induce forgetting? Unlearning in deep networks using an incompetent
teacher", AAAI 2023. With the competent teacher t (the noisy model), the incompetent one u (a fresh network), both frozen, the student s
(starts as t, in train mode) and temperature T, each batch of retain and forget samples mixed descends

    mean over the batch of KL( softmax(u / T) || softmax(s / T) )  for forget samples,  KL( softmax(t / T) || softmax(s / T) )  for others

with Adam. No label is used. The defaults are those of its use as a baseline in the SSD paper's code (rate 1e-4, one epoch, batches of 256,
T = 1).

Deviations: the mean is over the batch; the reference code also divides by the number of classes, a constant factor to which Adam is
invariant. Retain samples are those of the setting, not 30 % of all. Images are not augmented by default, so that teachers run once.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from baselines import sample_sources
from baselines.sample_sources import Concatenated, Source
from baselines.teachers import Teacher, cached_teacher, online_teacher
from baselines.trajectory import Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType, View
from sap_core.errors import UserError, at_least
from sap_core.models.copies import copied
from sap_core.models.ensemble import Ensemble
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext


@dataclass(frozen=True)
class BadTeacher:
    """See the module's docstring. Settings that differ only in `epochs` are one family."""

    name: ClassVar[str] = "bad_teacher"
    version: ClassVar[int] = 1

    learning_rate: float = 1.0e-4
    epochs: int = 1
    batch_size: int = 256
    temperature: float = 1.0
    num_retain: int = field(default=5000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=1000, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"

    def __post_init__(self) -> None:
        sample_sources.check_counts("bad_teacher", self.source, self.num_retain, self.num_forget)
        at_least("bad_teacher", 1, epochs=self.epochs, batch_size=self.batch_size)
        if not self.temperature > 0:
            raise UserError(f"bad_teacher.temperature={self.temperature:g} must be above 0")

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network whose parameters are all frozen."""
        sample_sources.check_classes("bad_teacher", kind, "compares distributions over classes")
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but the epochs; a batch size above the size of the set equals that size."""
        return (
            "bad_teacher",
            *astuple(
                replace(self, epochs=1, batch_size=sample_sources.effective_batch_size(self.batch_size, self.num_retain, self.num_forget))
            ),
        )

    def computation(self) -> Hashable:
        return (self.family(), self.epochs)

    @classmethod
    def correct(cls, settings: Sequence[BadTeacher], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Trains one trajectory and yields each setting's network at its last epoch."""
        first = settings[0]
        first.refuse(task.kind, model)
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        # Without augmentation a sample's target never changes, so the teachers run once, before training, for all settings of the family.
        with run.meter("collect"):
            teacher = _teacher(first, model, retain, forget, task, run)
        # One shuffled set, so that a batch mixes retain and forget samples.
        both = Concatenated((retain, forget))
        views: tuple[View, ...] = ("augmented",) if first.augment else ("plain",)
        trajectory = Trajectory.start_adam(model)

        def loss_of(student: nn.Module, batch: Batch) -> Tensor:
            # Without the factor T^2 of `teachers.divergence`: Adam is invariant to a constant factor.
            target_log = functional.log_softmax(teacher(batch) / first.temperature, dim=1)
            student_log = functional.log_softmax(student(batch.inputs) / first.temperature, dim=1)
            return functional.kl_div(student_log, target_log, reduction="batchmean", log_target=True)

        def advance(epoch: int) -> None:
            context = EpochContext(epoch, stream(task.seed, "correct", epoch, "teach"))
            batches = both.batches(first.batch_size, context.rng, views)
            trajectory.descend(batches, loss_of, first.learning_rate, context, run, task.device)

        yield from trajectory.models_at([setting.epochs for setting in settings], advance, run)

    @classmethod
    def forecast(cls, settings: Sequence[BadTeacher], sizes: Sizes) -> Passes:
        """The student's passes and the teachers': one per sample, or both at every step if images are augmented."""
        first = settings[0]
        retain, forget = sample_sources.expected_counts(first, sizes)
        student = (retain + forget) * max(setting.epochs for setting in settings)
        # With augmentation both teachers see every batch.
        teachers = 2 * student if first.augment else retain + forget
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=student + teachers, backwards=student)


def _teacher(setting: BadTeacher, model: nn.Module, retain: Samples, forget: Samples, task: Task, run: Run) -> Teacher:
    """Returns logits of the incompetent teacher for forget samples and of the competent one for retain samples."""
    # The first networks of a run are those of the baseline, so the next one is an initialisation that the baseline never had.
    used = len(model.nets) if isinstance(model, Ensemble) else 1
    competent, incompetent = copied(model).eval(), task.build(used).to(task.device).eval()
    if not setting.augment:
        return cached_teacher([(competent, retain), (incompetent, forget)], run)
    # With augmentation every view is new: both teachers run on each batch, and each sample takes the logits of its own.
    forgotten = torch.zeros(retain.universe, dtype=torch.bool)
    forgotten[forget.index] = True
    # Each counts its own passes.
    good, bad = online_teacher(competent, run), online_teacher(incompetent, run)

    def teacher(batch: Batch) -> Tensor:
        forget_B = forgotten[batch.index].to(batch.labels.device)
        return torch.where(forget_B.unsqueeze(1), bad(batch), good(batch))

    return teacher

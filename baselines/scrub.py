"""SCRUB: the student moves away from its teacher on forget samples and stays close to it, and to the labels, on retain samples.

Source: Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards unbounded machine unlearning", NeurIPS 2023, in the order of the
official code. With teacher t (the noisy model, frozen) and student s (starts as t, in train mode), temperature T, and

    K(t, s) = T^2 * mean over the batch of KL( softmax(t / T) || softmax(s / T) )

epoch e = 1 .. `epochs` is, at learning rate `learning_rate * decay_rate^(number of decay epochs d with e > d)`,

    if e <= `msteps`: one pass over the FORGET samples, descending  -K                                     (max)
    then              one pass over the RETAIN samples, descending  gamma * cross-entropy + alpha * K       (min)

with one optimiser and its momentum through both. The defaults are the official large-scale values.

Deviations: no augmentation unless `augment`; the order of samples comes from streams keyed by epoch and phase, not from a global generator;
options of the official code that do not change the returned student (clipping, smoothing, moving average) are omitted. With `rewind`
(SCRUB+R) a setting returns an earlier epoch's network, see `rewinding`.

Shared work: the max passes come first and the rate depends on the absolute epoch, so the network after e epochs is determined by e and the
number of max passes made, min(e, msteps). Settings of one family are paths through one tree of such nodes, and each node is computed once.
Without augmentation the teacher's logits are computed once per sample.

Shapes: B batch, N samples, C classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

from baselines import sample_sources
from baselines.rewinding import Rewinding
from baselines.sample_sources import Source
from baselines.teachers import Teacher, cached_teacher, divergence, online_teacher
from baselines.trajectory import Loss, Trajectory
from sap_core.api import FORGET_COUNT, RETAIN_COUNT, Batch, Need, Passes, Run, SampleCount, Samples, Sizes, Task, TaskType
from sap_core.errors import at_least
from sap_core.models.copies import copied
from sap_core.seeding import stream
from trainers import optim
from trainers.loop import EpochContext

Node = tuple[int, int]
"""(epochs completed, max passes completed)."""


def path(epochs: int, msteps: int) -> list[Node]:
    """Returns the nodes that a setting passes through."""
    return [(epoch, min(epoch, msteps)) for epoch in range(1, epochs + 1)]


def parent(node: Node) -> Node:
    """Returns the node one epoch earlier."""
    # Max passes come first: a node with a max pass in its own epoch (maxed = epoch) follows the one with a max pass in each epoch before;
    # any other node has its parent's max passes.
    epoch, maxed = node
    return epoch - 1, min(epoch - 1, maxed)


def tree(settings: Sequence[SCRUB]) -> dict[Node, list[int]]:
    """Maps every node that a setting needs to the positions of these settings; fewest epochs, then fewest max passes first."""
    users: dict[Node, list[int]] = {}
    for position, setting in enumerate(settings):
        for node in path(setting.epochs, setting.msteps):
            users.setdefault(node, []).append(position)
    # By epochs first, so that a parent comes before its children and shorter settings are yielded before longer ones.
    return dict(sorted(users.items()))


@dataclass(frozen=True)
class SCRUB:
    """See the module's docstring. Settings that differ only in `epochs` and `msteps` are one family."""

    name: ClassVar[str] = "scrub"
    version: ClassVar[int] = 1

    learning_rate: float = 5.0e-4
    epochs: int = 3
    msteps: int = 2
    forget_batch: int = 32
    retain_batch: int = 128
    alpha: float = 0.001
    gamma: float = 0.99
    temperature: float = 4.0
    momentum: float = 0.9
    weight_decay: float = 5.0e-4
    decay_epochs: tuple[int, ...] = (3, 5, 9)
    decay_rate: float = 0.1
    num_retain: int = field(default=1000, metadata=RETAIN_COUNT)
    num_forget: SampleCount = field(default=200, metadata=FORGET_COUNT)
    augment: bool = False
    source: Source = "oracle"
    rewind: bool = False  # SCRUB+R

    def __post_init__(self) -> None:
        sample_sources.check_counts("scrub", self.source, self.num_retain, self.num_forget)
        at_least("scrub", 1, epochs=self.epochs, forget_batch=self.forget_batch, retain_batch=self.retain_batch)
        at_least("scrub", 0, msteps=self.msteps)
        # A YAML list cannot be hashed, and families are compared by hash.
        object.__setattr__(self, "decay_epochs", tuple(self.decay_epochs))

    def needs(self) -> frozenset[Need]:
        return sample_sources.needs_of(self.source, Need.RETAIN, Need.FORGET)

    def selects_samples(self) -> bool:
        return self.source == "scored"

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError on a regression task, and for a network whose parameters are all frozen."""
        sample_sources.check_classes("scrub", kind, "compares distributions over classes")
        optim.refuse_frozen(network.parameters())

    def family(self) -> Hashable:
        """All fields but epochs and msteps; a batch size above the size of its set equals that size."""
        forget_batch, retain_batch = (
            sample_sources.effective_batch_size(self.forget_batch, self.num_forget),
            sample_sources.effective_batch_size(self.retain_batch, self.num_retain),
        )
        same = replace(self, epochs=1, msteps=0, forget_batch=forget_batch, retain_batch=retain_batch)
        # Not `astuple`, which copies every value: a plan asks all settings of the largest grid, for every seed and cell.
        return ("scrub", *(getattr(same, item.name) for item in fields(same)))

    def computation(self) -> Hashable:
        """All fields that change the result: max passes beyond the last epoch are never made."""
        return (self.family(), self.epochs, min(self.msteps, self.epochs))

    @classmethod
    def correct(cls, settings: Sequence[SCRUB], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Computes the family's tree epoch by epoch and yields each setting at its last node.

        Raises:
            UserError: the task is a regression, which has no distribution over classes to compare.
        """
        first, users = settings[0], tree(settings)
        first.refuse(task.kind, model)
        retain, forget = sample_sources.retain_and_forget_samples(first, model, task, run)
        rewinding = Rewinding(forget, task, run) if first.rewind else None
        # The teacher is the noisy network itself and never changes, so its logits serve the whole family.
        with run.meter("collect"):
            passes = _Passes.prepare(first, model, retain, forget, task, run, any(maxed for _, maxed in users))
        # Trajectories at nodes whose children are still to come. A node is given up with its last child, so memory is bounded by the width
        # of the tree, not by its size.
        reached = {(0, 0): Trajectory.start(model, first.momentum, first.weight_decay)}
        waiting = Counter(parent(node) for node in users)
        for node, positions in users.items():
            previous = parent(node)
            waiting[previous] -= 1
            # Booked for the settings that pass through the node.
            with run.meter("correct", used_by=positions):
                # The last child needs no copy.
                trajectory = reached[previous].fork() if waiting[previous] else reached.pop(previous)
                passes.epoch(trajectory, node)
            if waiting[node]:
                reached[node] = trajectory
            if rewinding:
                rewinding.keep(node, trajectory, positions)
            for position in positions:
                epochs, msteps = settings[position].epochs, settings[position].msteps
                # Each of these settings passes through this node, so it ends here if it has no further epoch.
                if epochs == node[0]:
                    yield position, rewinding.select(path(epochs, msteps), trajectory, [position]) if rewinding else trajectory.model.eval()

    @classmethod
    def forecast(cls, settings: Sequence[SCRUB], sizes: Sizes) -> Passes:
        """The passes of the teacher and of every node of the tree."""
        first, users = settings[0], tree(settings)
        retain, forget = sample_sources.expected_counts(first, sizes)
        # A node was entered by a max pass where it has made one in every epoch.
        maxes = sum(epoch == maxed for epoch, maxed in users)
        student = len(users) * retain + maxes * forget
        teacher = student if first.augment else retain + (forget if maxes else 0)
        rewound = len(users) * forget + len(settings) * sizes.val if first.rewind else 0
        return sample_sources.scoring_passes(first, sizes) + Passes(forwards=student + teacher + rewound, backwards=student)


@dataclass(frozen=True)
class _Passes:
    """Inputs that all epochs of a family share."""

    setting: SCRUB
    retain: Samples
    forget: Samples
    retain_teacher: Teacher
    forget_teacher: Teacher
    task: Task
    run: Run

    @classmethod
    def prepare(cls, setting: SCRUB, model: nn.Module, retain: Samples, forget: Samples, task: Task, run: Run, ascends: bool) -> _Passes:
        """Computes the teacher's logits; those of the forget samples only if a setting makes max passes (`ascends`)."""
        network = copied(model).eval()
        # With augmentation every view is new, so the teacher runs at each step.
        retain_teacher = forget_teacher = online_teacher(network, run)
        if not setting.augment:
            retain_teacher = cached_teacher([(network, retain)], run)
            forget_teacher = cached_teacher([(network, forget)], run) if ascends else forget_teacher
        return cls(setting, retain, forget, retain_teacher, forget_teacher, task, run)

    def epoch(self, trajectory: Trajectory, node: Node) -> None:
        """Trains `trajectory` from the parent of `node` to `node`."""
        epoch, maxed = node
        # Max before min, as in the official code, with one optimiser and its momentum through both.
        if maxed == epoch:
            self._one_pass(trajectory, "max", epoch, self.forget, self.setting.forget_batch, self.max_loss)
        self._one_pass(trajectory, "min", epoch, self.retain, self.setting.retain_batch, self.min_loss)

    def max_loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The loss on forget samples: -K."""
        # No cross-entropy here: only the benchmark's form (`scrub_steps`) ascends it, too.
        return -divergence(self.forget_teacher(batch), student(batch.inputs), self.setting.temperature)

    def min_loss(self, student: nn.Module, batch: Batch) -> Tensor:
        """The loss on retain samples: gamma * cross-entropy + alpha * K."""
        logits_BC = student(batch.inputs)
        cross_entropy = functional.cross_entropy(logits_BC, batch.labels)
        close = divergence(self.retain_teacher(batch), logits_BC, self.setting.temperature)
        return self.setting.gamma * cross_entropy + self.setting.alpha * close

    def _one_pass(self, trajectory: Trajectory, phase: str, epoch: int, samples: Samples, size: int, loss_of: Loss[Batch]) -> None:
        setting = self.setting
        # Keyed by epoch and phase, not by what was drawn before, so that settings share an epoch whatever max passes they make.
        context = EpochContext(epoch, stream(self.task.seed, "correct", epoch, phase))
        # By the absolute epoch, not by a setting's length: a decay that depended on it would leave nothing to share.
        rate = optim.step(setting.learning_rate, epoch, setting.decay_epochs, setting.decay_rate)
        batches = samples.batches(size, context.rng, ("augmented",) if setting.augment else ("plain",))
        trajectory.descend(batches, loss_of, rate, context, self.run, self.task.device)

"""The interfaces between methods and the platform: what a method sees, and what it must offer.

Nothing here computes. A method is a frozen dataclass whose fields are its hyperparameters; it inherits from nothing and registers
nowhere: a `_target_` in YAML names it, and the protocols below say what it must look like. Optional protocols are in `sap_core.roles`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, device, nn

# isort: off
from sap_core.roles import (
    BASELINE_TRAINER, FORGET_COUNT, RETAIN_COUNT, TRUSTED_COUNT, ForecastsUpperBound, ReadsWeights, RecordsForgetting, RefusesTasks,
    RefusesTrainers, SelectsSamples, Versioned,
)  # fmt: skip
# isort: on

__all__ = [
    "BASELINE_TRAINER", "FORGET_COUNT", "RETAIN_COUNT", "TRUSTED_COUNT", "SampleCount", "Batch", "Corrector", "Fitted",
    "ForecastsUpperBound", "TaskType", "Need", "Passes", "Pruner", "ReadsWeights", "RecordsForgetting", "RefusesTasks",
    "RefusesTrainers", "Run", "Samples", "Selection", "SelectsSamples", "Sizes", "State", "Stopped", "Task", "Trainer",
    "UndeclaredNeed", "Versioned", "View",
]  # fmt: skip

if TYPE_CHECKING:
    from sap_core.cost import CostMeter
    from sap_core.seeding import Stream

State = dict[str, Any]
"""What a run needs to continue: tensors, numbers, strings and dicts of these. Never pickled."""

View = Literal["plain", "augmented", "strong"]
"""How a batch shows its samples: as they are, as the recipe augments them, or strongly augmented (`sap_core.data.strong`)."""

SampleCount = int | float | None
"""Of samples: a number of them, a share below 1 of all there are, or None for all."""

TaskType = Literal["classification", "regression"]


class Need(StrEnum):
    """Information about which labels are true, beyond the given labels. A method must declare it before it may read it."""

    RETAIN = "retain"  # training samples verified to be labelled correctly
    FORGET = "forget"  # training samples verified to be labelled wrongly
    TRUE_LABELS = "true_labels"  # the true label of every training sample (an oracle no user has)


class UndeclaredNeed(PermissionError):
    """A method asked for verified samples that its `needs()` does not declare."""


class Stopped(RuntimeError):
    """The run was asked to stop (a signal, a deadline, a scheduler); its state has been stored."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch. `views` holds one tensor (B, ...) per view asked for, `index` the samples' positions in the universe."""

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor

    @property
    def inputs(self) -> Tensor:
        """The first view; most callers ask for one."""
        return self.views[0]


@runtime_checkable
class Samples(Protocol):
    """A view of a data set, in memory or on disk. Nothing reaches pixels but through `batches`."""

    @property
    def index(self) -> Tensor:
        """(N,) int64 positions in [0, universe) of the full training set."""

    @property
    def universe(self) -> int:
        """Size of the full training set: the length of every per-sample table."""

    @property
    def labels(self) -> Tensor:
        """(N,) labels as given: int64 classes or float targets."""

    def __len__(self) -> int: ...

    def subset(self, which: Tensor) -> Samples:
        """The samples at positions `which` (into this view, 0..N-1), in that order."""

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        """Mini-batches of `size`; `rng` None keeps the stored order. A last batch of one joins the one before it (batch norm).

        "augmented", named several times, is drawn several times.
        """


@dataclass(frozen=True)
class Task:
    """All that a method may see: given labels only, no test set, no true label."""

    train: Samples
    val: Samples
    build: Callable[[int], nn.Module]  # the k-th fresh network of this run, initialised from the run's own stream
    kind: TaskType
    num_outputs: int
    seed: int
    device: device
    declared: frozenset[Need] = frozenset()
    verified_source: Callable[[Need, SampleCount], Samples] | None = field(default=None, repr=False)

    def verified(self, need: Need, n: SampleCount = None) -> Samples:
        """The first `n` verified samples of a fixed order, so smaller sets are nested in larger ones: a number, a share, or None for all.

        Raises:
            UndeclaredNeed: the method did not declare `need`.
            ValueError: fewer than `n` exist, or nothing is verified in this data set.
        """
        if need not in self.declared:
            raise UndeclaredNeed(f"verified samples of kind '{need}' were asked for but not declared; add Need.{need.name} to needs()")
        if self.verified_source is None:
            raise ValueError(f"this data set has no verified samples, so '{need}' cannot be served")
        return self.verified_source(need, n)

    def allow(self, needs: frozenset[Need]) -> Task:
        """This task for a method that declared `needs`."""
        return replace(self, declared=needs)


class Run(Protocol):
    """The caller's side of a long computation."""

    meter: CostMeter

    def saved_state(self) -> State | None:
        """The state stored at the last finished epoch of an earlier, interrupted start; None on a fresh one."""

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        """Says that epoch `number` (from 1) is done: curve, evaluation and checkpoint when due.

        `kept` holds the universe positions of the samples a method trusted in this epoch.

        Raises:
            Stopped: after storing the state, when a stop was asked for.
        """

    def report_trusted(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Says which samples (universe positions) a corrector chose to trust; how good that choice was goes into the rows."""

    def report_forgotten(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Says which samples a corrector chose to forget without being told; how many goes into the rows."""

    def report_series(self, name: str, values: Mapping[int, float], used_by: Sequence[int] | None = None) -> None:
        """Says something that a figure may show, by step: it goes into the series of the first setting, and into no score and no choice."""


@dataclass(frozen=True)
class Fitted:
    """A trained network and what its trainer knows about each sample (tables of length `universe`)."""

    model: nn.Module
    per_sample: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """What a pruner kept: universe positions, and a score for every training sample it looked at (same order as `scored`)."""

    index: Tensor
    score: Tensor


@dataclass(frozen=True)
class Sizes:
    """How many samples the pieces of a task hold, and how many outputs its networks have: all that a forecast of passes needs.

    `wrong` is the number of wrongly labelled training samples to expect: what a share of them is taken of.
    """

    train: int
    val: int
    outputs: int = 1
    wrong: int = 0


@dataclass(frozen=True)
class Passes:
    """Sample-passes through the network: an upper unit of cost that does not depend on the machine."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)


@runtime_checkable
class Trainer(Protocol):
    """Trains a network on given labels. A frozen dataclass; its fields are its hyperparameters."""

    name: ClassVar[str]  # of the class, in its own body; part of every id, so a class may move but must keep it
    version: ClassVar[int]  # raised whenever the method's numbers change; part of every id

    def fit(self, task: Task, run: Run) -> Fitted: ...

    def forecast(self, sizes: Sizes) -> Passes:
        """Sample-passes of one whole fit (of the longest possible one where it may end early)."""


@runtime_checkable
class Pruner(Protocol):
    """Chooses the training samples to keep, given a network trained on all of them."""

    name: ClassVar[str]
    version: ClassVar[int]

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection: ...


@runtime_checkable
class Corrector(Protocol):
    """Turns a model trained on noisy labels into corrected ones."""

    name: ClassVar[str]
    version: ClassVar[int]

    def needs(self) -> frozenset[Need]:
        """What this setting must be told beyond the given labels."""

    def family(self) -> Hashable:
        """Settings with equal keys share work and make one job."""

    def computation(self) -> Hashable:
        """Settings with equal keys are provably one computation: it runs once and is recorded for each."""

    @classmethod
    def correct(cls, settings: Sequence[Self], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Yields (position in `settings`, corrected model) as each is ready, along a trajectory cheapest first.

        All settings are of one family. `model` stays untouched. A yielded model is on loan until the next step; closing the
        iterator gives the remaining settings up. Work runs inside `run.meter(phase, used_by=positions)`.
        """

    @classmethod
    def forecast(cls, settings: Sequence[Self], sizes: Sizes) -> Passes:
        """Sample-passes of the whole family, shared work counted once, without evaluation."""

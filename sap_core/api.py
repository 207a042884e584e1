"""Interfaces between the platform and its components: data as methods see it, the task, the run, and the three method protocols.

This module computes nothing. A trainer, pruner or corrector is a frozen dataclass whose fields are its hyperparameters. It inherits from
no class of this project and is not registered: a `_target_` in YAML names it, and the protocols `Trainer`, `Pruner` and `Corrector` define
its methods. Optional protocols are in `sap_core.roles`; those of data sets and label noise are in `sap_core.data.source`.

Shapes: N samples of a view, B samples of a mini-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self, runtime_checkable

from torch import Tensor, device, nn

# isort: off
from sap_core.roles import (
    BASELINE_TRAINER, FORGET_COUNT, RETAIN_COUNT, TRUSTED_COUNT, ForecastsUpperBound, HasUsualSize, ReadsWeights, RecordsForgetting,
    RefusesNetworks,
    RefusesTasks, RefusesTrainers, SelectsSamples, Versioned,
)  # fmt: skip
# isort: on

__all__ = [
    "BASELINE_TRAINER", "FORGET_COUNT", "RETAIN_COUNT", "TRUSTED_COUNT", "SampleCount", "Batch", "Corrector", "Fitted",
    "ForecastsUpperBound", "HasUsualSize", "TaskType", "Need", "Passes", "Pruner", "ReadsWeights", "RecordsForgetting", "RefusesNetworks",
    "RefusesTasks", "RefusesTrainers", "Run", "Samples", "Selection", "SelectsSamples", "Sizes", "State", "Stopped", "Task", "Trainer",
    "UndeclaredNeed", "Versioned", "View",
]  # fmt: skip

if TYPE_CHECKING:
    from sap_core.cost import CostMeter
    from sap_core.seeding import Stream

State = dict[str, Any]
"""State of an interrupted computation: tensors, numbers, strings, and dicts of these. Stored as safetensors, never pickled."""

View = Literal["plain", "augmented", "strong"]
"""Version of the inputs in a batch: not augmented, augmented as the recipe prescribes, or strongly augmented (`sap_core.data.strong`)."""

SampleCount = int | float | None
"""Number of samples to use: an int is a number, a float below 1 is a fraction of the available samples, None means all of them."""

TaskType = Literal["classification", "regression"]


class Need(StrEnum):
    """Verified information about labels, beyond the given labels, that a method may read after declaring it in `needs()`."""

    RETAIN = "retain"  # training samples verified to be labelled correctly
    FORGET = "forget"  # training samples verified to be mislabelled
    TRUE_LABELS = "true_labels"  # the true label of every training sample (an oracle, not available in practice)


class UndeclaredNeed(PermissionError):
    """A method requested verified samples that its `needs()` does not declare."""


class Stopped(RuntimeError):
    """The run was asked to stop by a signal, a time limit or the scheduler; its state has been stored."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch.

    Attributes:
        views: one tensor (B, ...) per requested view.
        labels: (B,) given labels on the same device.
        index: (B,) int64 positions of the samples in the full training set.
    """

    views: tuple[Tensor, ...]
    labels: Tensor
    index: Tensor

    @property
    def inputs(self) -> Tensor:
        """(B, ...) the first view."""
        return self.views[0]


@runtime_checkable
class Samples(Protocol):
    """A view of a data set that may be in memory or on disk. Inputs can be read through `batches` only."""

    @property
    def index(self) -> Tensor:
        """(N,) int64 positions in [0, universe) of the full training set."""

    @property
    def universe(self) -> int:
        """Size of the full training set, training and validation samples together; the length of every per-sample table."""

    @property
    def labels(self) -> Tensor:
        """(N,) given labels on the CPU: int64 classes, or float targets."""

    def __len__(self) -> int: ...

    def subset(self, which: Tensor) -> Samples:
        """Select samples.

        Args:
            which: (M,) int64 positions in this view (0 to N-1), which may repeat.

        Returns:
            A view of these samples in this order. Inputs are not copied.
        """

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        """Iterate over mini-batches, on the task's device.

        A last batch of a single sample is merged with the batch before it, because batch norm cannot train on one sample.

        Args:
            size: samples per batch, at least 1.
            rng: stream for the order of the samples and for augmentation; None keeps the order of the view.
            views: versions of the inputs in each batch. "augmented" may be repeated; each occurrence is drawn independently.

        Raises:
            ValueError: `size` is below 1, or an augmented view was requested without `rng`.
        """


@dataclass(frozen=True)
class Task:
    """Everything that a method may see: samples with given labels. It contains neither the test set nor true labels.

    Attributes:
        train: training samples.
        val: validation samples, whose given labels may be as noisy as those of `train`.
        build: returns the k-th fresh network of this run (k from 0) on `device`; each is initialised from a random stream of its own.
        kind: type of the task.
        num_outputs: outputs of the network: number of classes, or of regression targets.
        seed: seed of the run, from which methods derive their random streams (`sap_core.seeding.stream`).
        device: device of the networks and batches.
        declared: the verified information that the running method declared.
        verified_source: serves verified samples; methods call `verified` instead.
    """

    train: Samples
    val: Samples
    build: Callable[[int], nn.Module]
    kind: TaskType
    num_outputs: int
    seed: int
    device: device
    declared: frozenset[Need] = frozenset()
    verified_source: Callable[[Need, SampleCount], Samples] | None = field(default=None, repr=False)

    def verified(self, need: Need, n: SampleCount = None) -> Samples:
        """Return verified training samples.

        They are the first `n` samples of one fixed random order per need, so that smaller sets are subsets of larger ones.

        Args:
            need: which samples; with `Need.TRUE_LABELS` all training samples, under their true labels.
            n: how many.

        Raises:
            UndeclaredNeed: the method did not declare `need`.
            ValueError: the data set has no source of verified samples.
            UserError: fewer than `n` verified samples exist, or true labels are unknown.
        """
        # Checked at the call as well as at planning, so that the column `information` cannot claim less than a method has read.
        if need not in self.declared:
            raise UndeclaredNeed(
                f"verified samples of kind '{need}' were requested without being declared; add Need.{need.name} to needs()"
            )
        if self.verified_source is None:
            raise ValueError(f"this data set has no verified samples, so '{need}' cannot be served")
        return self.verified_source(need, n)

    def allow(self, needs: frozenset[Need]) -> Task:
        """Return this task for a method that declared `needs`."""
        # A copy: the same task serves methods with other needs.
        return replace(self, declared=needs)


class Run(Protocol):
    """The platform's side of a computation: it records costs and progress, and stores and restores state.

    Methods named `report_*` record facts for the results; they influence neither scores nor the selection of a setting.
    """

    meter: CostMeter

    def saved_state(self) -> State | None:
        """Return the state stored at the last finished epoch of an interrupted run, or None for a new run."""

    def end_epoch(self, number: int, model: nn.Module, state: Callable[[], State], kept: Tensor | None = None, **scalars: float) -> None:
        """Report the end of an epoch; call it after every epoch.

        Args:
            number: number of the epoch, from 1.
            model: the network at this point.
            state: returns the state to store; called only when a checkpoint is due.
            kept: (M,) universe positions of the samples that the method trained on in this epoch, if it selects any.
            **scalars: values of the learning curve, such as `loss=0.5`.

        Raises:
            Stopped: a stop was requested; the state has been stored.
        """

    def report_trusted(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Report the training samples that a corrector trusts; the platform measures how many are labelled correctly.

        Args:
            index: (M,) universe positions.
            used_by: positions of the settings that use them; None means all settings of the family.
        """

    def report_forgotten(self, index: Tensor, used_by: Sequence[int] | None = None) -> None:
        """Report the training samples that a corrector chose to forget without verified information; arguments as `report_trusted`."""

    def report_series(self, name: str, values: Mapping[int, float], used_by: Sequence[int] | None = None) -> None:
        """Report a series for figures, such as the spectrum of a layer.

        Args:
            name: name of the series, with "/" between its levels.
            values: value by step.
            used_by: positions of the settings that it applies to; it is stored with the first one.
        """


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        model: the network, on the task's device.
        per_sample: tables (universe, ...) that the trainer recorded per sample, by name, such as forgetting events.
    """

    model: nn.Module
    per_sample: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Result of a pruner.

    Attributes:
        index: (M,) universe positions of the samples to keep.
        score: (N,) score of every training sample, in the order of `task.train`.
    """

    index: Tensor
    score: Tensor


@dataclass(frozen=True)
class Sizes:
    """Sizes of a task, from which `forecast` computes numbers of passes before any data are loaded.

    Attributes:
        train: training samples.
        val: validation samples.
        outputs: outputs of the network.
        wrong: expected number of mislabelled training samples, of which a fractional number of forget samples is taken.
    """

    train: int
    val: int
    outputs: int = 1
    wrong: int = 0


@dataclass(frozen=True)
class Passes:
    """Cost in passes of single samples through the network, which does not depend on the machine."""

    forwards: int = 0
    backwards: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.forwards + other.forwards, self.backwards + other.backwards)


@runtime_checkable
class Trainer(Protocol):
    """Trains a network on given labels: a frozen dataclass whose fields are its hyperparameters."""

    # In the class's own body; part of every id, so it must not change when the class moves.
    name: ClassVar[str]
    # Part of every id; raise it whenever the method's numbers change.
    version: ClassVar[int]

    def fit(self, task: Task, run: Run) -> Fitted:
        """Train `task.build(0)` on `task.train`, resuming from `run.saved_state()` if there is one.

        Call `run.end_epoch` after each epoch. Training must be deterministic: all draws come from streams of `task.seed`.

        Raises:
            Stopped: by `run.end_epoch`.
            FloatingPointError: training diverged; the job's rows are recorded as failed.
        """

    def forecast(self, sizes: Sizes) -> Passes:
        """Return the passes of one complete fit; where training may end early, those of the longest one."""


@runtime_checkable
class Pruner(Protocol):
    """Selects the training samples to keep, given a network trained on all of them."""

    name: ClassVar[str]
    version: ClassVar[int]

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Select samples of `task.train`.

        Args:
            task: given labels only.
            warm: the network trained on all samples; it must not be changed.
            keep: fraction of the training samples to keep, in (0, 1).
            run: records costs, as phase `select`.
        """


@runtime_checkable
class Corrector(Protocol):
    """Turns a network trained on wrong labels into corrected ones, one per setting of its hyperparameters."""

    name: ClassVar[str]
    version: ClassVar[int]

    def needs(self) -> frozenset[Need]:
        """Return the verified information that this setting reads; empty for methods that work with given labels only."""

    def family(self) -> Hashable:
        """Return the key of this setting's family. Settings with equal keys share work and are computed as one job."""

    def computation(self) -> Hashable:
        """Return the key of this setting's computation.

        Settings with equal keys provably give the same network: it is computed once and recorded for each of them.
        """

    @classmethod
    def correct(cls, settings: Sequence[Self], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        """Correct `model` with each setting of one family.

        Do all work inside `run.meter(phase, used_by=positions)`, so that its cost is divided among the settings that use it. A setting
        must give the same bits alone as in its family.

        Args:
            settings: settings with equal `family()`.
            model: the baseline, in evaluation mode; it must not be changed.
            task: given labels, and the verified samples that the settings declared.
            run: records costs and selected samples.

        Yields:
            (position in `settings`, corrected network), cheapest setting first. The caller may use a network only until it requests the
            next one, so a method may continue to train it. Closing the iterator cancels the remaining settings.

        Raises:
            UserError: the network, the data or a setting are not supported.
            FloatingPointError: `model` has diverged; all settings are recorded as failed.
        """

    @classmethod
    def forecast(cls, settings: Sequence[Self], sizes: Sizes) -> Passes:
        """Return the passes of the complete family, with shared work counted once and without evaluation."""

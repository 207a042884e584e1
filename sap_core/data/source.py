"""What a data set and a noise kind must offer to the platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from sap_core.api import Need, TaskType
from sap_core.data.samples import Pixels, SampleView
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Source:
    """The files' content, on the CPU: labels as the files give them."""

    train: Pixels
    train_labels: Tensor  # (N,) int64, or float for regression
    test: Pixels
    test_labels: Tensor
    own_validation: int = 0  # the last so many of `train` are the set's own validation part; 0: one is drawn
    audited: Tensor | None = None  # (N,) true labels where somebody looked them up, -1 elsewhere; classes only
    true_labels: Tensor | None = None  # (N,) where the files tell them beside labels that may be wrong


@dataclass(frozen=True)
class Fingerprint:
    """Whether the files are the published ones, and what they are."""

    verified: bool
    digest: str  # hex; equal for equal files


@dataclass(frozen=True)
class Classes:
    """What structured noise needs to know of a data set's classes."""

    num: int
    confused: Mapping[int, int] | None = None  # class -> the class it is mistaken for (asymmetric noise); others keep their label
    superclass: tuple[int, ...] | None = None  # superclass of each class (hierarchical noise)
    swapped: tuple[tuple[int, int], ...] | None = None  # pairs mistaken for each other (bidirectional asymmetric noise)


@runtime_checkable
class DataSet(Protocol):
    """A frozen dataclass; its fields are options. All that a plan needs to know is told without touching the files.

    A published set knows it as class variables; a set of the user's own is told it by its fields. Optional protocols: `ReadsAudit`,
    `ProvidesTrueLabels`, `DeclaresValidationLabels`, `UsesSubset`, `Downloads`, `ListsFiles`.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def kind(self) -> TaskType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...  # of one input, channels first
    @property
    def mean(self) -> tuple[float, ...]: ...  # per channel, of pixels in [0, 1]
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def num_train(self) -> int: ...  # universe: training and validation together
    @property
    def num_test(self) -> int: ...
    @property
    def classes(self) -> Classes: ...  # num = outputs for regression
    @property
    def truth_known(self) -> bool: ...  # the files' training labels are true (so that noise can be added and measured)
    @property
    def verify(self) -> bool: ...  # refuse files whose checksums are not the published ones
    @property
    def validation(self) -> float | int: ...  # share (below 1) or number of training samples set aside
    @property
    def split_seed(self) -> int | None: ...  # None: drawn from the run's seed; a number: one fixed split for all seeds

    def inspect(self, root: Path) -> Fingerprint:
        """Checks that the files are there and sound, without loading them.

        Raises:
            UserError: a folder or file is missing or damaged: which, and where to get it.
        """

    def load(self, root: Path) -> Source:
        """Reads the files (once per process: the platform caches)."""


@runtime_checkable
class ReadsAudit(Protocol):
    """A data set that reads verified labels from a file of the user (see audit.py).

    With such a file the planner allows methods that need verified samples, checks that it verifies enough of them, and records
    `information` as `verified_file`.
    """

    @property
    def audit_file(self) -> str: ...  # below the data folder; "" for none


@runtime_checkable
class ProvidesTrueLabels(Protocol):
    """A data set whose files may contain the true training labels beside given labels that may be wrong.

    Where they do, methods may ask for verified samples, and the noise rate is measured although `truth_known` is false.
    """

    @property
    def provides_true_labels(self) -> bool: ...


@runtime_checkable
class DeclaresValidationLabels(Protocol):
    """A data set whose validation labels may be clean where its training labels are not; the column `val_labels` is taken from it.

    A data set without this protocol has clean validation labels where `truth_known` is true.
    """

    validation_is_clean: ClassVar[bool]


@runtime_checkable
class UsesSubset(Protocol):
    """A data set with an option to use a part of its samples. The planner computes sizes, forecasts and smoke runs from the number."""

    @property
    def images_used(self) -> int | None: ...  # training and validation samples together, and at most as many test samples; None: all


@runtime_checkable
class Downloads(Protocol):
    """A data set with the option to download its files. `sap-sweep prepare` inspects it without a network first."""

    @property
    def download(self) -> bool: ...

    def downloading(self, allowed: bool) -> DataSet:
        """The same data set with the option set to `allowed`."""


@runtime_checkable
class ListsFiles(Protocol):
    """A data set whose files `sap-sweep prepare` need not read again while their names, sizes and times of change stay the same."""

    def files_read(self) -> tuple[str, ...]:
        """Paths of files and folders, below the data folder."""


def audit_file(dataset: DataSet) -> str:
    """The user's file of verified labels, below the data folder; "" for none."""
    return dataset.audit_file if isinstance(dataset, ReadsAudit) else ""


def images_used(dataset: DataSet) -> int | None:
    """How many training and validation samples are used; None for all."""
    return dataset.images_used if isinstance(dataset, UsesSubset) else None


def can_verify(dataset: DataSet, need: Need) -> bool:
    """Can this data set's own truth, or the user's audit of it, serve what a method asks for?"""
    known = dataset.truth_known or (isinstance(dataset, ProvidesTrueLabels) and dataset.provides_true_labels)
    return known or (bool(audit_file(dataset)) and need is not Need.TRUE_LABELS)


@runtime_checkable
class NoiseKind(Protocol):
    """A frozen dataclass that corrupts labels: a `Noise`; a `DataNoise` if it looks at more; an `InputNoise` if it changes more.

    Optional protocols: `ForecastsRate`, `AffectsSubset`.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def rate(self) -> float | None: ...  # as asked; None: it cannot be asked for


@runtime_checkable
class ForecastsRate(Protocol):
    """A kind of noise whose expected share of wrong labels is not its `rate`. Plans and forecasts use it; rows hold the measured share."""

    def expected_rate(self, classes: Classes) -> float:
        """The expected share of wrong labels, in [0, 1]."""


@runtime_checkable
class AffectsSubset(Protocol):
    """A kind of noise that concerns a part of the data. Rows score that part of the test set and the rest apart."""

    def affected(self, labels: Tensor) -> Tensor:
        """(N,) bool by true labels (N,): the samples that the noise concerns."""


@runtime_checkable
class Noise(NoiseKind, Protocol):
    """Noise that looks at labels alone."""

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        """(N,) given labels from (N,) true ones; draws from `rng` only; the input is left alone.

        Raises:
            UserError: the data set lacks the structure that this noise needs.
        """


@runtime_checkable
class DataNoise(NoiseKind, Protocol):
    """Noise that looks at the images, or reads files of its own below the data folder."""

    def check(self, dataset: DataSet) -> None:
        """Called while planning, without files.

        Raises:
            UserError: this noise does not exist for this data set.
        """

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """Called before anything runs.

        Raises:
            UserError: a file of its own is missing or damaged.
        """

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        """(N,) given labels. `samples` are all N of the universe under their true labels, on the CPU, normalised and not augmented."""


@runtime_checkable
class InputNoise(NoiseKind, AffectsSubset, Protocol):
    """Noise that changes inputs, too. It must say what is affected: that part of the test set is scored painted, all of it as it is."""

    def check(self, dataset: DataSet) -> None:
        """Called while planning, without files.

        Raises:
            UserError: this noise does not exist for this data set.
        """

    def corrupt_inputs(self, labels: Tensor, classes: Classes, rng: Stream) -> tuple[Tensor, Tensor]:
        """((N,) given labels, (M,) positions of the samples whose inputs are painted)."""

    def paint(self, inputs: Tensor) -> Tensor:
        """(B, ...) changed copies of inputs as the files give them; the same whatever else is in the batch."""

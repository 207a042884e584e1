"""What a data set and a noise kind must offer to the platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from sap_core.api import Kind, Need
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

    A published set knows it as class variables; a set of the user's own is told it by its fields. Four more are optional: `verified`, a
    file of true labels that somebody looked up (see audit.py); `val_clean`, that its own validation part has clean labels whatever the
    others have; `true_labels`, that its files tell the true labels beside the given ones; `images`, how many of the training and validation
    samples together are used (None: all), and at most as many test samples.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def kind(self) -> Kind: ...
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


def can_verify(dataset: DataSet, need: Need) -> bool:
    """Can this data set's own truth, or the user's audit of it, serve what a method asks for?"""
    known = dataset.truth_known or getattr(dataset, "true_labels", False)
    return bool(known or (getattr(dataset, "verified", "") and need is not Need.TRUE_LABELS))


@runtime_checkable
class NoiseKind(Protocol):
    """A frozen dataclass that corrupts labels: a `Noise`; a `DataNoise` if it looks at more; an `InputNoise` if it changes more.

    Where `rate` is not the share of wrong labels to be expected, a kind may say that share as `expected`, or as `expected_in(classes)`
    where it hangs on how many classes there are. A kind that concerns a part of the data alone may say which as `affected(labels)`, a
    mask of samples by their true labels: rows then score that part of the test set and the rest apart.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def rate(self) -> float | None: ...  # as asked; None: it cannot be asked for


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
class InputNoise(NoiseKind, Protocol):
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

    def affected(self, labels: Tensor) -> Tensor:
        """(N,) bool by true labels."""

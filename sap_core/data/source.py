"""Protocols of data sets and label noise, and the types that they exchange with the platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from sap_core.api import Need, TaskType
from sap_core.data.class_names import ClassNames
from sap_core.data.duplicates import Duplicates
from sap_core.data.file_facts import FileFacts
from sap_core.data.samples import Pixels, SampleView
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Source:
    """Content of a data set's files, on the CPU.

    Attributes:
        train: inputs of the N training and validation samples (the universe).
        train_labels: (N,) labels in the files: int64 classes, or float targets.
        test: inputs of the test set.
        test_labels: (M,) labels of the test set.
        own_validation: number of samples at the end of `train` that are the set's own validation part; 0 if it has none.
        audited: (N,) int64 true labels that the user verified, -1 for all others; classification only.
        true_labels: (N,) true labels, if the files contain them in addition to labels that may be wrong.
    """

    train: Pixels
    train_labels: Tensor
    test: Pixels
    test_labels: Tensor
    own_validation: int = 0
    audited: Tensor | None = None
    true_labels: Tensor | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Identity of a data set's files.

    Attributes:
        verified: whether they are the published files.
        digest: hexadecimal digest; equal for equal files.
        notes: sentences about the files that the user should know; printed as warnings before a run.
        duplicates: images that occur more than once; None if they were not looked for.
    """

    verified: bool
    digest: str
    notes: tuple[str, ...] = ()
    duplicates: Duplicates | None = None


@dataclass(frozen=True)
class Classes:
    """Classes of a data set and the structure that some kinds of noise need.

    Attributes:
        num: number of classes, or of targets for regression.
        confused: class -> class it is mistaken for (asymmetric noise); classes that are not in it keep their labels.
        superclass: superclass of each class (hierarchical noise).
        swapped: pairs of classes mistaken for each other (bidirectional asymmetric noise).
    """

    num: int
    confused: Mapping[int, int] | None = None
    superclass: tuple[int, ...] | None = None
    swapped: tuple[tuple[int, int], ...] | None = None


@runtime_checkable
class DataSet(Protocol):
    """A data set: a frozen dataclass whose fields are its options.

    The properties must be known without reading files, because sweeps are planned without them. Published data sets define them as class
    variables, data sets of the user as fields. Optional protocols: `ReadsAudit`, `ProvidesTrueLabels`, `DeclaresValidationLabels`,
    `UsesSubset`, `Downloads`, `ListsFiles`, `ReadsOptions`, `NamesClasses`.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def kind(self) -> TaskType: ...
    @property
    def shape(self) -> tuple[int, ...]: ...  # of one input, channels first, without the batch axis
    @property
    def mean(self) -> tuple[float, ...]: ...  # per channel, of pixels in [0, 1]
    @property
    def std(self) -> tuple[float, ...]: ...
    @property
    def num_train(self) -> int: ...  # training and validation samples together (the universe)
    @property
    def num_test(self) -> int: ...
    @property
    def classes(self) -> Classes: ...
    @property
    def truth_known(self) -> bool: ...  # the training labels in the files are true, so that noise can be added and measured
    @property
    def verify(self) -> bool: ...  # refuse files whose digest is not the published one
    @property
    def validation(self) -> float | int: ...  # validation samples: a fraction of the universe (float) or a number (int)
    @property
    def split_seed(self) -> int | None: ...  # None: the split is drawn from the run's seed; a number: one split for all seeds

    def inspect(self, root: Path) -> Fingerprint:
        """Check that the files exist and are intact, without loading them.

        Args:
            root: data folder (`paths.data`).

        Raises:
            UserError: a folder or file is missing or damaged; the message names it and its source.
        """

    def load(self, root: Path) -> Source:
        """Read the files below the data folder `root`. Called once per process, because the platform caches the result.

        Raises:
            UserError: as `inspect`.
        """


@runtime_checkable
class ReadsAudit(Protocol):
    """A data set that reads verified labels from a file of the user (see `sap_core.data.audit`).

    With such a file the planner allows methods that need verified samples, checks that it verifies enough of them, and records
    `information` as `verified_file`.
    """

    @property
    def audit_file(self) -> str: ...  # path below the data folder; "" for none


@runtime_checkable
class ProvidesTrueLabels(Protocol):
    """A data set whose files may contain true training labels in addition to given labels that may be wrong.

    If they do, methods may ask for verified samples, and the noise rate is measured although `truth_known` is false.
    """

    @property
    def provides_true_labels(self) -> bool: ...


@runtime_checkable
class DeclaresValidationLabels(Protocol):
    """A data set whose validation labels may be clean although its training labels are not. It sets the column `val_labels`.

    Validation labels of a data set without this protocol are clean if `truth_known` is true.
    """

    validation_is_clean: ClassVar[bool]


@runtime_checkable
class UsesSubset(Protocol):
    """A data set with an option to use a subset of its samples, from whose size the planner computes split sizes and forecasts."""

    @property
    def images_used(self) -> int | None: ...  # training and validation samples together, and at most as many test samples; None: all


@runtime_checkable
class Downloads(Protocol):
    """A data set with an option to download its files. `sap-sweep prepare` first inspects it with the option off."""

    @property
    def download(self) -> bool: ...

    def downloading(self, allowed: bool) -> DataSet:
        """Return this data set with the option set to `allowed`."""


@runtime_checkable
class ListsFiles(Protocol):
    """A data set whose files `sap-sweep prepare` reads again only if a name, size or modification time has changed."""

    def files_read(self) -> tuple[str, ...]:
        """Return the paths of its files and folders, below the data folder."""


@runtime_checkable
class ReadsOptions(Protocol):
    """A data set of the user, whose class reads options from the files that the configuration leaves as `auto`.

    The sweeper calls `read_options` before it constructs the data set, so that plans and ids contain the values. Data sets with this
    protocol are inspected in a dry run, too.
    """

    @classmethod
    def read_options(cls, settings: Mapping[str, Any], root: Path) -> FileFacts:
        """Return what the files determine.

        Args:
            settings: the configured options; those to be read have the value "auto" or any value, which is then compared.
            root: data folder.

        Raises:
            UserError: files are missing, or are not those of such a data set.
        """


@runtime_checkable
class NamesClasses(Protocol):
    """A data set whose files name its classes. The numbering is printed before a run and stored with the results."""

    def class_names(self, root: Path) -> ClassNames | None:
        """Return the classes by number, without reading images; None if the files do not exist.

        Raises:
            UserError: the files do not determine the classes.
        """


def audit_file(dataset: DataSet) -> str:
    """Return the path of the user's file of verified labels, below the data folder; "" if there is none."""
    # Optional protocols are asked for by `isinstance`, so that a data set need not define what it does not have.
    return dataset.audit_file if isinstance(dataset, ReadsAudit) else ""


def images_used(dataset: DataSet) -> int | None:
    """Return the number of training and validation samples that are used; None for all."""
    return dataset.images_used if isinstance(dataset, UsesSubset) else None


def named_classes(dataset: DataSet, root: Path) -> ClassNames | None:
    """Return the classes of a data set by number; None if its files do not name them or do not exist.

    Raises:
        UserError: the files do not determine the classes.
    """
    return dataset.class_names(root) if isinstance(dataset, NamesClasses) else None


def can_verify(dataset: DataSet, need: Need) -> bool:
    """Return whether the data set's true labels, or the user's audit of it, can serve a need of a method."""
    # An audit names verified samples, but never the true label of every sample.
    known = dataset.truth_known or (isinstance(dataset, ProvidesTrueLabels) and dataset.provides_true_labels)
    return known or (bool(audit_file(dataset)) and need is not Need.TRUE_LABELS)


@runtime_checkable
class NoiseKind(Protocol):
    """Base of the protocols of label noise: a frozen dataclass that implements one of `Noise`, `DataNoise` and `InputNoise`.

    Optional protocols: `ForecastsRate`, `AffectsSubset`.
    """

    name: ClassVar[str]
    version: ClassVar[int]

    @property
    def rate(self) -> float | None: ...  # requested noise rate; None if the kind has a fixed one


@runtime_checkable
class ForecastsRate(Protocol):
    """Noise whose expected fraction of wrong labels is not its `rate`. Plans and forecasts use it; rows contain the measured one."""

    def expected_rate(self, classes: Classes) -> float:
        """Return the expected fraction of wrong labels, in [0, 1]."""


@runtime_checkable
class AffectsSubset(Protocol):
    """Noise that affects a subset of the data. Rows have separate scores for the affected and the unaffected test samples."""

    def affected(self, labels: Tensor) -> Tensor:
        """Return (N,) bool, whether the samples with true labels `labels` (N,) are affected."""


@runtime_checkable
class Noise(NoiseKind, Protocol):
    """Noise that depends on labels only."""

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        """Corrupt labels.

        Args:
            labels: (N,) true labels; must not be changed.
            classes: classes of the data set.
            rng: the only source of randomness.

        Returns:
            (N,) given labels.

        Raises:
            UserError: the data set lacks the structure that this noise needs.
        """


@runtime_checkable
class DataNoise(NoiseKind, Protocol):
    """Noise that depends on the inputs, or that reads files of its own below the data folder."""

    def check(self, dataset: DataSet) -> None:
        """Check the data set; called when the sweep is planned, without reading files.

        Raises:
            UserError: this noise is not defined for the data set.
        """

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """Check the files of the noise; called before any job runs.

        Raises:
            UserError: a file is missing or damaged.
        """

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        """Return (N,) given labels.

        Args:
            samples: all N samples of the universe with their true labels, on the CPU, normalised and not augmented.
            dataset: the data set.
            root: data folder.
            rng: the only source of randomness.
        """


@runtime_checkable
class InputNoise(NoiseKind, AffectsSubset, Protocol):
    """Noise that changes inputs as well as labels. The affected test samples are scored with changed inputs, all test samples unchanged."""

    def check(self, dataset: DataSet) -> None:
        """Check the data set; called when the sweep is planned, without reading files.

        Raises:
            UserError: this noise is not defined for the data set.
        """

    def corrupt_inputs(self, labels: Tensor, classes: Classes, rng: Stream) -> tuple[Tensor, Tensor]:
        """Return ((N,) given labels, (M,) positions of the samples whose inputs are changed)."""

    def paint(self, inputs: Tensor) -> Tensor:
        """Return changed copies of inputs (B, ...), before preprocessing; the change must not depend on the rest of the batch."""

"""Base class of MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100: their options, and reading by file format."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

from sap_core.api import TaskType
from sap_core.data.cifar_files import CifarSet
from sap_core.data.idx_files import IdxSet
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

FEWEST = 50
"""Smallest number of images that can be split into training and validation samples; smoke runs use it, too."""


@dataclass(frozen=True)
class PublishedSet:
    """Base class; a subclass defines shape, counts, classes and files, and nothing else.

    `images` limits the number of training and validation images together, in the proportion of the split, and the number of test images,
    drawn by the seed of the split. Labels are corrupted before, so that an image has the same label as in the complete set.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"
    shape: ClassVar[tuple[int, ...]]
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]
    num_train: ClassVar[int]
    num_test: ClassVar[int] = 10_000
    classes: ClassVar[Classes]
    truth_known: ClassVar[bool] = True
    published: ClassVar[IdxSet | CifarSet]

    verify: bool = True
    validation: float | int = 0.1
    split_seed: int | None = None
    download: bool = False
    images: int | None = None

    def __post_init__(self) -> None:
        # Here and not at loading, so that a plan with an impossible split is refused before any job runs.
        validation_count(self.num_train, self.validation)
        if self.images is not None and not FEWEST <= self.images <= self.num_train:
            raise UserError(
                f"dataset.images={self.images} is the number of training and validation images to use; allowed are {FEWEST} to "
                f"{self.num_train}, or null for all"
            )

    @property
    def images_used(self) -> int | None:
        return self.images

    def files_read(self) -> tuple[str, ...]:
        # The folder as a whole: an archive may stand beside the file extracted from it.
        return (self.published.published.folder,)

    def downloading(self, allowed: bool) -> Self:
        return replace(self, download=allowed)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`."""
        return self.published.inspect(root, self.verify, self.download)

    def load(self, root: Path) -> Source:
        """See `DataSet.load`."""
        return self.published.load(root, self.verify, self.download)

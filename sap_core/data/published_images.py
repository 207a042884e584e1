"""Base class of the large published photograph data sets: class folders, decoded batch by batch, ImageNet's normalisation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sap_core.api import TaskType
from sap_core.data.class_names import ClassNames
from sap_core.data.image_files import Check
from sap_core.data.image_tree import ImageTree, Part
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet, which SAP's released code uses for all these data sets."""


@dataclass(frozen=True)
class PublishedImages:
    """Base class; a subclass defines folders, classes and counts, and nothing else.

    `num_train` counts training and validation images together. The defaults are the published counts; if a copy has others (damaged files
    deleted, another preparation), set them, and rows contain them. Images are resized to `size` x `size` pixels without keeping the aspect
    ratio, as SAP's released code does for testing.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"
    mean: ClassVar[tuple[float, ...]] = MEAN
    std: ClassVar[tuple[float, ...]] = STD
    folder: ClassVar[str]
    parts: ClassVar[tuple[str, str]] = ("train", "val")  # folders of training and test images
    own_validation: ClassVar[str | None] = None  # folder of the set's own validation part, if any
    classes: ClassVar[Classes]
    truth_known: ClassVar[bool] = True
    validation_is_clean: ClassVar[bool] = True

    num_train: int
    num_test: int
    size: int = 224
    check: Check = "size"
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None
    verified: str = ""

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        # The validation part is fixed by the release, so a fraction of the universe would contradict it.
        if self.own_validation and isinstance(self.validation, float):
            raise UserError(
                f"this data set has its own validation images, so dataset.validation={self.validation!r} must be "
                f"their number, not a fraction"
            )
        if self.size < 1 or self.num_test < 1:
            raise UserError("dataset.size and dataset.num_test must be at least 1")
        if self.truth_known and self.verified:
            raise UserError("dataset.verified is for labels that may be wrong, but the labels of this data set are taken as true; omit it")
        if self.verify and not self.digest:
            raise UserError("dataset.verify=true needs dataset.digest, the digest to compare with; set it, or use dataset.verify=false")

    @property
    def shape(self) -> tuple[int, ...]:
        return (3, self.size, self.size)

    @property
    def audit_file(self) -> str:
        return self.verified

    def files_read(self) -> tuple[str, ...]:
        return (self.folder, self.verified) if self.verified else (self.folder,)

    def class_names(self, root: Path) -> ClassNames | None:
        """See `NamesClasses`."""
        return self._tree.class_names(root)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. With `check=size` only names and sizes are checked, and a damaged file is found when it is decoded."""
        return self._tree.inspect(root, self.verify, self.digest)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        return self._tree.load(root)

    @property
    def _tree(self) -> ImageTree:
        own = Part(self.own_validation, int(self.validation), "dataset.validation") if self.own_validation else None
        train = Part(self.parts[0], self.num_train, "dataset.num_train")
        test = Part(self.parts[1], self.num_test, "dataset.num_test")
        return ImageTree(self.folder, self.classes.num, train, test, self.size, 3, own, self.check, self.verified)

"""Image folders of the user: `train/CLASS/*.png` and `test/CLASS/*.png`, decoded batch by batch and never completely in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from sap_core.api import TaskType
from sap_core.data.constants import check_constants
from sap_core.data.image_files import Check
from sap_core.data.image_tree import ImageTree, Part
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError


@dataclass(frozen=True)
class Folder:
    """Images in folders named by class, below `paths.data`.

    Classes are numbered by the sorted names of the folders in `train`. Files other than images are ignored. The numbers of classes and
    images are options, because a sweep is planned without reading files; a wrong number is refused with a message that contains the right
    one. If `num_val` is set, the validation images are those in `val_folder`, and no training images are used for validation. There is no
    published digest: set `digest` to the one of an earlier run and `verify=true` to insist on it.
    """

    name: ClassVar[str] = "folder"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"

    folder: str
    num_classes: int
    num_train: int
    num_test: int
    size: int
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()  # empty: no normalisation of pixels in [0, 1]
    std: tuple[float, ...] = ()
    truth_known: bool = False
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None
    train_folder: str = "train"
    test_folder: str = "test"
    val_folder: str = "val"
    num_val: int = 0
    check: Check = "content"
    verified: str = ""

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        if self.num_val and self.validation != self.num_val:
            raise UserError(
                f"dataset.num_val={self.num_val} defines the validation samples, so dataset.validation must be {self.num_val}, too, "
                f"not {self.validation!r}; dataset.num_train counts training and validation samples"
            )
        if self.channels not in (1, 3):
            raise UserError(f"dataset.channels={self.channels!r} must be 1 (grey) or 3 (colour)")
        if self.size < 1 or self.num_classes < 2 or self.num_test < 1:
            raise UserError(
                "a folder data set needs dataset.size of at least 1, dataset.num_classes of at least 2 and dataset.num_test of at least 1"
            )
        check_constants(self.mean, self.std, "dataset", self.channels)
        if self.verify and not self.digest:
            raise UserError(
                "dataset.verify=true needs dataset.digest, the digest to compare this folder with; set it, or use dataset.verify=false"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    @property
    def audit_file(self) -> str:
        return self.verified

    def files_read(self) -> tuple[str, ...]:
        return (self.folder, self.verified) if self.verified else (self.folder,)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. With `check=content` every file is read and decoded once, and the digest depends on names and contents."""
        return self._tree.inspect(root, self.verify, self.digest)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        return self._tree.load(root)

    @property
    def _tree(self) -> ImageTree:
        # `num_train` counts the universe; the training folder holds it without the validation images.
        train = Part(self.train_folder, self.num_train - self.num_val, "dataset.num_train")
        val = Part(self.val_folder, self.num_val, "dataset.num_val") if self.num_val else None
        test = Part(self.test_folder, self.num_test, "dataset.num_test")
        return ImageTree(self.folder, self.num_classes, train, test, self.size, self.channels, val, self.check, self.verified)

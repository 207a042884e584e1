"""Image folders of the user: `train/CLASS/*.png` and `test/CLASS/*.png`, decoded batch by batch and never completely in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from sap_core.api import TaskType
from sap_core.data.class_names import ClassNames, check_order, order_file
from sap_core.data.constants import check_constants
from sap_core.data.duplicates import Policy, check_policy
from sap_core.data.file_facts import FileFacts, facts_of_folder
from sap_core.data.image_files import Check
from sap_core.data.image_modes import Decoding, Orientation, Transparency
from sap_core.data.image_tree import ImageTree, Part
from sap_core.data.names import first_names, located
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.data.tree_listing import folders_in
from sap_core.errors import UserError

_PARTS = ("train_folder", "test_folder", "val_folder")
_COUNTS = ("num_train", "num_test", "validation")


@dataclass(frozen=True)
class Folder:
    """Images in folders named by class, below `paths.data`.

    Classes are the folders in `train`, numbered in the order `class_order`. Hidden names and files other than images are counted and not
    read. Images that occur more than once are treated as `duplicates` says (see `sap_core.data.duplicates`). The numbers of classes and of
    images, those that remain if copies are dropped, are options, which `read_options` reads from the files; a wrong number is refused with
    a message that contains the right one. If the folder `val_folder` exists, its images are the validation images, `validation` is their
    number, and no training images are used for validation. There is no published digest: set `digest` to the one of an earlier run and
    `verify=true` to insist on it.
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
    val_folder: str = "val"  # "none": validation images are drawn from the training images
    check: Check = "content"
    verified: str = ""
    class_order: str = "text"
    transparency: Transparency = "refuse"
    orientation: Orientation = "ignore"
    value_range: tuple[float, ...] = ()
    duplicates: Policy = "warn"

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        check_policy(self.duplicates, self.check)
        if self.channels not in (1, 3):
            raise UserError(f"dataset.channels={self.channels!r} must be 1 (grey) or 3 (colour)")
        if self.size < 1 or self.num_classes < 2 or self.num_test < 1:
            raise UserError(
                "a folder data set needs dataset.size of at least 1, dataset.num_classes of at least 2 and dataset.num_test of at least 1"
            )
        check_constants(self.mean, self.std, "dataset", self.channels)
        check_order(self.class_order)
        # Built here for its checks.
        _ = self.decoding
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
    def decoding(self) -> Decoding:
        """How files are decoded."""
        return Decoding(self.transparency, self.orientation, tuple(self.value_range))

    @property
    def audit_file(self) -> str:
        return self.verified

    def files_read(self) -> tuple[str, ...]:
        return (self.folder, *filter(None, (self.verified, order_file(self.class_order))))

    def class_names(self, root: Path) -> ClassNames | None:
        """See `NamesClasses`. Lists the class folders of the training images."""
        return self._tree(root).class_names(root)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. With `check=content` every file is read and decoded once, and the digest depends on names and contents."""
        result = self._tree(root).inspect(root, self.verify, self.digest)
        return replace(result, notes=(*result.notes, *self._other_parts(root)))

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        return self._tree(root).load(root)

    @classmethod
    def read_options(cls, settings: Mapping[str, Any], root: Path) -> FileFacts:
        """See `ReadsOptions`. Reads the header of every image, of large folders of some."""
        folder = str(settings["folder"])
        train, test, val = (str(settings.get(key, cls.__dataclass_fields__[key].default)) for key in _PARTS)
        val = own_validation(located(root, folder), train, test, val)
        names = zip((train, test, val), _COUNTS, _PARTS, strict=True)
        parts = [Part(name, None, f"dataset.{count}", f"dataset.{option}") for name, count, option in names]
        policy: Policy | None = "drop" if settings.get("duplicates") == "drop" else None
        # The options that the listing depends on; a size is required and read by nothing here, because copies are found in the files' own.
        tree = ImageTree(
            folder, None, parts[0], parts[1], size=1, channels=1 if settings.get("channels") == 1 else 3, val=parts[2] if val else None,
            class_order=str(settings.get("class_order", cls.class_order)), decoding=Decoding.of(settings), duplicates=policy,
        )  # fmt: skip
        listed = tree.list_files(root)
        # Before the numbers are compared: they may differ because of files that must not be counted in.
        tree.explain_counts(root, listed, {f"dataset.{key}": settings[key] for key in _COUNTS if type(settings.get(key)) is int})
        return facts_of_folder(located(root, folder), listed, train, test, val)

    def _other_parts(self, root: Path) -> tuple[str, ...]:
        """Return a sentence if there are folders with the classes' names that no option names, such as `valid` beside `train`."""
        base, parts = located(root, self.folder), {self.train_folder, self.test_folder, self.val_folder}
        if "." in parts or base / self.train_folder != base / Path(self.train_folder).name:
            return ()
        classes = set(folders_in(base / self.train_folder))
        others = [name for name in folders_in(base) if name not in parts and classes & set(folders_in(base / name))]
        if not others:
            return ()
        used = own_validation(base, self.train_folder, self.test_folder, self.val_folder)
        remedy = "" if used or self.val_folder == "none" else (
            f"; if the network has not seen these images, use them for validation with dataset.val_folder={others[0]}"
        )  # fmt: skip
        folders = "1 folder" if len(others) == 1 else f"{len(others)} folders"
        return (f"not read: {folders} with the class folders of '{self.train_folder}' ({first_names(others)}){remedy}",)

    def _tree(self, root: Path) -> ImageTree:
        name = own_validation(located(root, self.folder), self.train_folder, self.test_folder, self.val_folder)
        if name and not isinstance(self.validation, int):
            folder = located(root, self.folder) / name
            raise UserError(
                f"folder '{folder}' contains the validation images, but dataset.validation={self.validation!r} would draw them from the "
                f"training images; set dataset.validation to their number, or dataset.val_folder=none to ignore the folder"
            )
        val = Part(name, int(self.validation), "dataset.validation", "dataset.val_folder") if name else None
        train = Part(self.train_folder, self.num_train, "dataset.num_train", "dataset.train_folder")
        test = Part(self.test_folder, self.num_test, "dataset.num_test", "dataset.test_folder")
        return ImageTree(
            self.folder, self.num_classes, train, test, self.size, self.channels, val, self.check, self.verified, self.class_order,
            self.decoding, self.duplicates,
        )  # fmt: skip


def own_validation(base: Path, train: str, test: str, val: str) -> str:
    """Return the name of the folder of validation images below `base`; "" if there is none.

    Raises:
        UserError: a folder other than the default is named and does not exist.
    """
    # Many sets call their test images "val": one folder is never both.
    if val in ("none", "", train, test):
        return ""
    if (base / val).is_dir():
        return val
    if val != Folder.val_folder:
        raise UserError(
            f"there is no folder '{base / val}' of validation images; fix dataset.val_folder, or set dataset.val_folder=none to draw "
            f"validation images from the training images"
        )
    return ""

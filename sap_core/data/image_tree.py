"""Folder trees of images by part and class, `PART/CLASS/*.jpg`, the format of most large data sets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sap_core.data.audit import read_audit
from sap_core.data.image_files import SUFFIXES, Check, FilePixels, fingerprint
from sap_core.data.source import Fingerprint, Source
from sap_core.errors import UserError


@dataclass(frozen=True)
class Part:
    """One part of a tree.

    Attributes:
        name: name of the folder.
        count: expected number of images, for the training part together with the validation part; None: any number.
        option: option of the data set with this number, for messages; "" if it is fixed.
    """

    name: str
    count: int | None
    option: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of a tree, each with its class, sorted by class and name."""

    names: list[str]  # of the classes
    train: list[tuple[Path, int]]
    val: list[tuple[Path, int]]
    test: list[tuple[Path, int]]

    @property
    def universe(self) -> list[tuple[Path, int]]:
        """The training and validation images; the latter at the end, where `Source.own_validation` expects them."""
        return self.train + self.val


@dataclass(frozen=True)
class ImageTree:
    """Location and expected content of a tree. Classes are numbered by the sorted names of the folders in the training part."""

    folder: str  # below the data folder
    num_classes: int | None  # None: any number
    train: Part
    test: Part
    size: int
    channels: Literal[1, 3] = 3
    val: Part | None = None  # the set's own validation part, if it has one
    check: Check = "content"
    verified: str = ""  # path of an audit file (see `audit`) below the data folder; "" for none

    def inspect(self, root: Path, verify: bool, digest: str) -> Fingerprint:
        """See `DataSet.inspect`. The digest depends on names, contents (or sizes), and the audit file."""
        listed = self.list_files(root)
        # The audit determines verified samples, so results depend on it as they do on the images.
        audit = self._audit(root, listed)[1] if self.verified else b""
        files = [path for path, _ in listed.universe + listed.test]
        return fingerprint(files, root / self.folder, self.check, digest, verify, audit)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        listed = self.list_files(root)
        return Source(
            FilePixels(tuple(path for path, _ in listed.universe), self.size, self.channels),
            torch.tensor([label for _, label in listed.universe]),
            FilePixels(tuple(path for path, _ in listed.test), self.size, self.channels),
            torch.tensor([label for _, label in listed.test]),
            own_validation=len(listed.val),
            audited=self._audit(root, listed)[0] if self.verified else None,
        )

    def _audit(self, root: Path, listed: Listing) -> tuple[torch.Tensor, bytes]:
        base = root / self.folder
        return read_audit(root, self.verified, [path.relative_to(base).as_posix() for path, _ in listed.universe], listed.names)

    def list_files(self, root: Path) -> Listing:
        """List the class names and the files of each part, without opening a file.

        Raises:
            UserError: a folder is missing, or the numbers of classes or images are not the expected ones.
        """
        base = root / self.folder
        # Classes are numbered by the training part alone, so that a test part cannot renumber them.
        names = sorted(path.name for path in _entries(base / self.train.name) if path.is_dir())
        if self.num_classes is not None and len(names) != self.num_classes:
            remedy = f"set dataset.num_classes={len(names)} or fix the folder" if self.train.option else "fix the folder"
            raise UserError(
                f"folder '{base / self.train.name}' contains {len(names)} class folders, but dataset.num_classes={self.num_classes}; "
                f"{remedy}"
            )
        val = self._files(base, self.val, names) if self.val else []
        return Listing(names, self._files(base, self.train, names, len(val)), val, self._files(base, self.test, names))

    def _files(self, base: Path, part: Part, names: list[str], others: int = 0) -> list[tuple[Path, int]]:
        """Return (file, class) sorted by class and file name; `others` are the images that `part.option` counts besides."""
        folder = base / part.name
        # Compared in both directions: a missing class folder and a surplus one are different mistakes.
        found = {path.name for path in _entries(folder) if path.is_dir()}
        for wrong, why in ((set(names) - found, "lacks"), (found - set(names), "has class folders that the training part lacks:")):
            if wrong:
                shown = ", ".join(sorted(wrong)[:3]) + (", ..." if len(wrong) > 3 else "")
                of = f" {len(wrong)} of {len(names)} class folders:" if why == "lacks" else f" {len(wrong)}:"
                raise UserError(f"folder '{folder}' {why}{of} {shown}; fix the folder")
        files = [
            (path, label)
            for label, name in enumerate(names)
            # Sorted, because a folder's own order differs between file systems and positions are part of noise and splits.
            for path in sorted(_entries(folder / name))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        if part.count is not None and len(files) + others != part.count:
            remedy = f"set {part.option}={len(files) + others} or fix the folder" if part.option else "fix the folder"
            besides = f" ({len(files) + others} with the validation part)" if others else ""
            raise UserError(
                f"folder '{folder}' contains {len(files)} images{besides}, but {part.option or 'the published number'}={part.count}; "
                f"{remedy}"
            )
        # A class without images would leave a gap in the labels that no error shows later.
        filled = {label for _, label in files}
        if len(filled) < len(names):
            empty = [name for label, name in enumerate(names) if label not in filled]
            shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
            raise UserError(f"folder '{folder}' has {len(empty)} of {len(names)} class folders without an image: {shown}; fix the folder")
        return files


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UserError(
            f"there is no readable folder '{folder}' ({error.strerror}); set paths.data to the folder that contains the data set, "
            f"or fix dataset.folder"
        ) from error

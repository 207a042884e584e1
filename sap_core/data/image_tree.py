"""Folder trees of images by part and class, `PART/CLASS/*.jpg`, the format of most large data sets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from sap_core.data.audit import read_audit
from sap_core.data.class_names import ClassNames, check_look_alikes, listed_names, look_alike, order_bytes, order_classes, order_note, shown
from sap_core.data.image_files import SUFFIXES, Check, FilePixels, fingerprint
from sap_core.data.image_modes import AS_RELEASED, Decoding
from sap_core.data.source import Fingerprint, Source
from sap_core.errors import UserError


@dataclass(frozen=True)
class Part:
    """One part of a tree.

    Attributes:
        name: name of the folder.
        count: expected number of images.
        option: option of the data set with this number, for messages; "" if it is fixed.
    """

    name: str
    count: int
    option: str = ""


@dataclass(frozen=True)
class ImageTree:
    """Location and expected content of a tree. Classes are the folders in the training part, numbered in the order `class_order`."""

    folder: str  # below the data folder
    num_classes: int
    train: Part
    test: Part
    size: int
    channels: Literal[1, 3] = 3
    val: Part | None = None  # the set's own validation part, if it has one
    check: Check = "content"
    verified: str = ""  # path of an audit file (see `audit`) below the data folder; "" for none
    class_order: str = "text"  # see `sap_core.data.class_names.order_classes`
    decoding: Decoding = AS_RELEASED

    def inspect(self, root: Path, verify: bool, digest: str) -> Fingerprint:
        """See `DataSet.inspect`. The digest depends on names, contents (or sizes), and the audit file."""
        names, train, test = self._listed(root)
        # The audit determines verified samples, so results depend on it as they do on the images.
        extra = self._audit(root, train, names)[1] if self.verified else b""
        extra += order_bytes(names, self.class_order)
        files = [path for path, _ in train + test]
        return fingerprint(files, root / self.folder, self.check, digest, verify, extra, self.channels, self.decoding)

    def class_names(self, root: Path) -> ClassNames | None:
        """See `NamesClasses`."""
        folder = root / self.folder / self.train.name
        if not folder.is_dir():
            return None
        names, alike = self._numbered(root, [path.name for path in _entries(folder) if path.is_dir()])
        return ClassNames(tuple(names), alike + order_note(names, self.class_order, str(folder)))

    def _numbered(self, root: Path, found: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
        """Return the class folders in the order of their numbers, and sentences about names that look alike."""
        where = str(root / self.folder / self.train.name)
        alike = check_look_alikes(found, where, listed_names(root, self.class_order))
        return order_classes(found, self.class_order, root, where), alike

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        names, train, test = self._listed(root)
        return Source(
            FilePixels(tuple(path for path, _ in train), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in train]),
            FilePixels(tuple(path for path, _ in test), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in test]),
            own_validation=self.val.count if self.val else 0,
            audited=self._audit(root, train, names)[0] if self.verified else None,
        )

    def _audit(self, root: Path, train: list[tuple[Path, int]], names: list[str]) -> tuple[torch.Tensor, bytes]:
        base = root / self.folder
        return read_audit(root, self.verified, [path.relative_to(base).as_posix() for path, _ in train], names)

    def _listed(self, root: Path) -> tuple[list[str], list[tuple[Path, int]], list[tuple[Path, int]]]:
        """Return the class names, and (file, class) of the universe (training part, then validation part) and of the test part."""
        base = root / self.folder
        # Classes are numbered by the training part alone, so that a test part cannot renumber them.
        names, _ = self._numbered(root, [path.name for path in _entries(base / self.train.name) if path.is_dir()])
        if len(names) != self.num_classes:
            remedy = f"set dataset.num_classes={len(names)} or fix the folder" if self.train.option else "fix the folder"
            raise UserError(
                f"folder '{base / self.train.name}' contains {len(names)} class folders, but dataset.num_classes={self.num_classes}; "
                f"{remedy}"
            )
        train = self._files(base, self.train, names)
        # The set's own validation part ends the universe, where `own_validation` expects it.
        if self.val:
            train += self._files(base, self.val, names)
        return names, train, self._files(base, self.test, names)

    def _files(self, base: Path, part: Part, names: list[str]) -> list[tuple[Path, int]]:
        """Return (file, class) sorted by class and file name."""
        folder = base / part.name
        # Compared in both directions: a missing class folder and a surplus one are different mistakes.
        found = {path.name for path in _entries(folder) if path.is_dir()}
        for wrong, why in ((set(names) - found, "lacks"), (found - set(names), "has class folders that the training part lacks:")):
            if wrong:
                first = ", ".join(sorted(wrong)[:3]) + (", ..." if len(wrong) > 3 else "")
                of = f" {len(wrong)} of {len(names)} class folders:" if why == "lacks" else f" {len(wrong)}:"
                # The other part may have it in another spelling.
                alike = look_alike(min(wrong), (found if why == "lacks" else set(names)) - {min(wrong)})
                hint = f" ({shown(min(wrong))} may be {shown(alike)} of the other part)" if alike else ""
                raise UserError(f"folder '{folder}' {why}{of} {first}{hint}; fix the folder")
        files = [
            (path, label)
            for label, name in enumerate(names)
            # Sorted, because a folder's own order differs between file systems and positions are part of noise and splits.
            for path in sorted(_entries(folder / name))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        if len(files) != part.count:
            # The option counts training and validation images together, so the message adds the latter.
            right = len(files) + (self.val.count if self.val and part is self.train else 0)
            remedy = f"set {part.option}={right} or fix the folder" if part.option else "fix the folder"
            raise UserError(
                f"folder '{folder}' contains {len(files)} images, but {part.option or 'the published number'}={part.count}; {remedy}"
            )
        # A class without images would leave a gap in the labels that no error shows later.
        filled = {label for _, label in files}
        if len(filled) < len(names):
            empty = [name for label, name in enumerate(names) if label not in filled]
            first = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
            raise UserError(f"folder '{folder}' has {len(empty)} of {len(names)} class folders without an image: {first}; fix the folder")
        return files


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UserError(
            f"there is no readable folder '{folder}' ({error.strerror}); set paths.data to the folder that contains the data set, "
            f"or fix dataset.folder"
        ) from error

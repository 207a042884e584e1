"""Images sorted into folders by part and class: `PART/CLASS/*.jpg`, as most large sets are kept."""

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
    """One folder of a tree: its name, how many images it should hold, and the option that says so ("" if none does)."""

    name: str
    count: int
    option: str = ""


@dataclass(frozen=True)
class ImageTree:
    """Where a set lies and what it should hold. Classes are numbered by the sorted names of the folders in the training part."""

    folder: str  # below the data folder
    num_classes: int
    train: Part
    test: Part
    size: int
    channels: Literal[1, 3] = 3
    val: Part | None = None  # a validation part of its own
    check: Check = "content"
    verified: str = ""  # the user's audit (see audit.py), below the data folder

    def inspect(self, root: Path, verify: bool, digest: str) -> Fingerprint:
        """See `DataSet.inspect`. The digest is of names and contents (or sizes), and of the audit."""
        names, train, test = self._listed(root)
        audit = self._audit(root, train, names)[1] if self.verified else b""
        files = [path for path, _ in train + test]
        return fingerprint(files, root / self.folder, self.check, digest, verify, audit)

    def load(self, root: Path) -> Source:
        """Lists the files; images are decoded when they are fetched."""
        names, train, test = self._listed(root)
        return Source(
            FilePixels(tuple(path for path, _ in train), self.size, self.channels),
            torch.tensor([label for _, label in train]),
            FilePixels(tuple(path for path, _ in test), self.size, self.channels),
            torch.tensor([label for _, label in test]),
            own_validation=self.val.count if self.val else 0,
            audited=self._audit(root, train, names)[0] if self.verified else None,
        )

    def _audit(self, root: Path, train: list[tuple[Path, int]], names: list[str]) -> tuple[torch.Tensor, bytes]:
        base = root / self.folder
        return read_audit(root, self.verified, [path.relative_to(base).as_posix() for path, _ in train], names)

    def _listed(self, root: Path) -> tuple[list[str], list[tuple[Path, int]], list[tuple[Path, int]]]:
        """Class names, (file, class) of the universe (training, then validation part) and of the test part."""
        base = root / self.folder
        names = sorted(path.name for path in _entries(base / self.train.name) if path.is_dir())
        if len(names) != self.num_classes:
            remedy = f"set dataset.num_classes={len(names)} or mend the folder" if self.train.option else "mend the folder"
            raise UserError(
                f"folder '{base / self.train.name}' holds {len(names)} class folders where dataset.num_classes={self.num_classes}; {remedy}"
            )
        train = self._files(base, self.train, names)
        if self.val:
            train += self._files(base, self.val, names)
        return names, train, self._files(base, self.test, names)

    def _files(self, base: Path, part: Part, names: list[str]) -> list[tuple[Path, int]]:
        """(file, class) sorted by class and file name."""
        folder = base / part.name
        found = {path.name for path in _entries(folder) if path.is_dir()}
        for wrong, why in ((set(names) - found, "lacks"), (found - set(names), "has class folders that the training part lacks:")):
            if wrong:
                shown = ", ".join(sorted(wrong)[:3]) + (", ..." if len(wrong) > 3 else "")
                of = f" {len(wrong)} of {len(names)} class folders:" if why == "lacks" else f" {len(wrong)}:"
                raise UserError(f"folder '{folder}' {why}{of} {shown}; mend the folder")
        files = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted(_entries(folder / name))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        if len(files) != part.count:
            right = len(files) + (self.val.count if self.val and part is self.train else 0)
            remedy = f"set {part.option}={right} or mend the folder" if part.option else "mend the folder"
            raise UserError(
                f"folder '{folder}' holds {len(files)} images where {part.option or 'the published set'}={part.count}; {remedy}"
            )
        filled = {label for _, label in files}
        if len(filled) < len(names):
            empty = [name for label, name in enumerate(names) if label not in filled]
            shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
            raise UserError(f"folder '{folder}' has {len(empty)} of {len(names)} class folders without an image: {shown}; mend the folder")
        return files


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UserError(
            f"there is no readable folder '{folder}' ({error.strerror}); point paths.data at the folder that holds the data set, "
            f"or mend dataset.folder"
        ) from error

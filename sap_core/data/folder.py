"""A folder of images that is never whole in memory: `train/CLASS/*.png`, `test/CLASS/*.png`, decoded batch by batch.

Shapes: B images of C channels and S x S pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from sap_core.api import Kind
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})


@dataclass(frozen=True)
class FilePixels:
    """Images on disk, decoded when asked for and resized to a square (the aspect is not kept)."""

    paths: tuple[Path, ...]
    size: int
    channels: Literal[1, 3]

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> Tensor:
        """(B, C, S, S) uint8 on the CPU.

        Raises:
            UserError: a file is damaged.
        """
        return torch.stack([self._decode(self.paths[position]) for position in index.tolist()])

    def _decode(self, path: Path) -> Tensor:
        from PIL import Image

        try:
            with Image.open(path) as file:
                image = file.convert("L" if self.channels == 1 else "RGB")
                if image.size != (self.size, self.size):
                    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                pixels_SSC = np.array(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"image file '{path}' is damaged or no image ({error}); replace or delete it") from error
        return torch.from_numpy(pixels_SSC).permute(2, 0, 1)


@dataclass(frozen=True)
class Folder:
    """Images in folders named by class, below `paths.data`.

    Classes are numbered by the sorted names of the folders in `train`; other files than images are ignored. The numbers of classes and
    images are told here, because a plan is made without the files; a wrong number is refused with the right one. Nothing is published to
    compare with: `digest` may hold the fingerprint that an earlier run reported, and `verify=true` insists on it.
    """

    version: ClassVar[int] = 1
    kind: ClassVar[Kind] = "classification"

    folder: str
    num_classes: int
    num_train: int
    num_test: int
    size: int
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()  # empty: pixels in [0, 1] as they are
    std: tuple[float, ...] = ()
    truth_known: bool = False
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        if self.channels not in (1, 3):
            raise UserError(f"dataset.channels={self.channels!r} is not 1 (grey) or 3 (colour)")
        if self.size < 1 or self.num_classes < 2 or self.num_test < 1:
            raise UserError(
                "a folder data set needs dataset.size of at least 1, dataset.num_classes of at least 2 and dataset.num_test of at least 1"
            )
        if len(self.mean) not in (0, self.channels) or len(self.std) != len(self.mean):
            raise UserError(f"dataset.mean and dataset.std need {self.channels} numbers each, one per channel, or none")
        if self.verify and not self.digest:
            raise UserError(
                "dataset.verify=true needs dataset.digest, the fingerprint to compare this folder with; give it or use dataset.verify=false"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. Reads every file once: the digest is of names and contents."""
        digest = hashlib.sha256()
        for part in ("train", "test"):
            for path, _ in self._files(root, part):
                digest.update(path.relative_to(root / self.folder).as_posix().encode() + b"\0")
                try:
                    digest.update(hashlib.sha256(path.read_bytes()).digest())
                except OSError as error:
                    raise UserError(f"image file '{path}' cannot be read ({error.strerror}); check its permissions") from error
        found = digest.hexdigest()
        if self.verify and found != self.digest:
            raise UserError(
                f"folder '{root / self.folder}' has the fingerprint {found} where dataset.digest={self.digest} is asked for; "
                f"give the new one, or accept this copy with dataset.verify=false, which is recorded in every row"
            )
        return Fingerprint(found == self.digest, found)

    def load(self, root: Path) -> Source:
        """Lists the files; images are decoded when they are fetched."""
        train, test = self._files(root, "train"), self._files(root, "test")
        return Source(
            FilePixels(tuple(path for path, _ in train), self.size, self.channels),
            torch.tensor([label for _, label in train]),
            FilePixels(tuple(path for path, _ in test), self.size, self.channels),
            torch.tensor([label for _, label in test]),
        )

    def _files(self, root: Path, part: Literal["train", "test"]) -> list[tuple[Path, int]]:
        """(file, class) sorted by class and file name."""
        names = sorted(path.name for path in _listed(root / self.folder / "train") if path.is_dir())
        if len(names) != self.num_classes:
            raise UserError(
                f"folder '{root / self.folder / 'train'}' holds {len(names)} class folders where dataset.num_classes={self.num_classes}; "
                f"set dataset.num_classes={len(names)} or mend the folder"
            )
        files = [
            (path, label)
            for label, name in enumerate(names)
            for path in sorted(_listed(root / self.folder / part / name))
            if path.suffix.lower() in SUFFIXES and path.is_file()
        ]
        promised = self.num_train if part == "train" else self.num_test
        if len(files) != promised:
            raise UserError(
                f"folder '{root / self.folder / part}' holds {len(files)} images where dataset.num_{part}={promised}; "
                f"set dataset.num_{part}={len(files)} or mend the folder"
            )
        return files


def _listed(folder: Path) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise UserError(
            f"there is no readable folder '{folder}' ({error.strerror}); point paths.data at the folder that holds "
            f"dataset.folder, or mend dataset.folder"
        ) from error

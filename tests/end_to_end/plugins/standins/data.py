"""Data sets of a few hundred samples, made from nothing, and a folder of images that tells what is read of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.folder import Folder
from sap_core.data.samples import Pixels, TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source

UNIVERSE, TEST = 160, 80


def patterns(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """(N, 1, 8, 8) uint8 images, one blurred pattern per class, and their classes."""
    shapes = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(99)) * 160
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (count,), generator=generator)
    return (shapes[labels] + 60 * torch.rand(count, 1, 8, 8, generator=generator)).to(torch.uint8), labels


@dataclass(frozen=True)
class Patterns:
    """Four classes of noisy 8 x 8 patterns."""

    name: ClassVar[str] = "patterns"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "classification"
    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    mean: ClassVar[tuple[float, ...]] = (0.4,)
    std: ClassVar[tuple[float, ...]] = (0.2,)
    num_train: ClassVar[int] = UNIVERSE
    num_test: ClassVar[int] = TEST
    classes: ClassVar[Classes] = Classes(4)
    truth_known: ClassVar[bool] = True

    verify: bool = True
    validation: float | int = 40
    split_seed: int | None = 0

    def inspect(self, root: Path) -> Fingerprint:
        return Fingerprint(True, "patterns")

    def load(self, root: Path) -> Source:
        images, labels = patterns(UNIVERSE, 0)
        test_images, test_labels = patterns(TEST, 1)
        return Source(TensorPixels(images), labels, TensorPixels(test_images), test_labels)


@dataclass(frozen=True)
class Numbers:
    """A regression: one number from six, nearly linear."""

    name: ClassVar[str] = "numbers"
    version: ClassVar[int] = 1
    kind: ClassVar[str] = "regression"
    shape: ClassVar[tuple[int, ...]] = (6,)
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()
    num_train: ClassVar[int] = UNIVERSE
    num_test: ClassVar[int] = TEST
    classes: ClassVar[Classes] = Classes(1)
    truth_known: ClassVar[bool] = True

    verify: bool = True
    validation: float | int = 40
    split_seed: int | None = 0

    def inspect(self, root: Path) -> Fingerprint:
        return Fingerprint(True, "numbers")

    def load(self, root: Path) -> Source:
        inputs = torch.randn(UNIVERSE + TEST, 6, generator=torch.Generator().manual_seed(5))
        targets = inputs @ torch.tensor([1.0, -2.0, 0.5, 0.0, 1.5, -1.0]) + 0.1 * inputs[:, 0] ** 2
        parts = inputs.split([UNIVERSE, TEST])
        labels = targets.split([UNIVERSE, TEST])
        return Source(TensorPixels(parts[0]), labels[0], TensorPixels(parts[1]), labels[1])


@dataclass(frozen=True)
class Watched:
    """Pixels that write the size of every fetch to a file."""

    inner: Pixels
    log: Path

    def __len__(self) -> int:
        return len(self.inner)

    def fetch(self, index: Tensor) -> Tensor:
        with self.log.open("a") as file:
            file.write(f"{len(index)}\n")
        return self.inner.fetch(index)


@dataclass(frozen=True)
class WatchedFolder(Folder):
    """A folder of images; what is fetched of it is noted in `fetches` beside the images."""

    name: ClassVar[str] = "watched_folder"

    def load(self, root: Path) -> Source:
        source = super().load(root)
        log = root / self.folder / "fetches"
        return Source(Watched(source.train, log), source.train_labels, Watched(source.test, log), source.test_labels)

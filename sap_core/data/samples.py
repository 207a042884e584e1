"""The one implementation of `Samples`: a view of pixels that live in memory or on disk, with batched preprocessing.

Shapes: N samples in the view, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, SampleCount, View
from sap_core.data import strong
from sap_core.seeding import Stream


class Pixels(Protocol):
    """Where inputs come from, by position in the universe."""

    def __len__(self) -> int: ...

    def fetch(self, index: Tensor) -> Tensor:
        """(B, ...) uint8 images in [0, 255], or floats taken as they are; on the view's device, or moved there batch by batch."""


@dataclass(frozen=True)
class TensorPixels:
    """A whole set as one tensor on the device."""

    tensor: Tensor  # (universe, ...)

    def __len__(self) -> int:
        return len(self.tensor)

    def fetch(self, index: Tensor) -> Tensor:
        return self.tensor.index_select(0, index.to(self.tensor.device))


@dataclass(frozen=True)
class Preprocess:
    """What a training recipe does to inputs; part of a baseline's id, and followed by correction and evaluation alike.

    Augmentation is drawn per epoch and sample id, so it does not depend on batch size, order or subset.
    """

    mean: tuple[float, ...] = ()  # per channel, of pixels in [0, 1]; empty: no normalisation
    std: tuple[float, ...] = ()
    augment: Literal["none", "flip", "crop_flip"] = "none"
    padding: int = 4

    def normalise(self, inputs: Tensor) -> Tensor:
        """uint8 (B, C, H, W) to standardised float32; floats are standardised as they are."""
        values = inputs.to(torch.float32).div_(255) if inputs.dtype == torch.uint8 else inputs
        if not self.mean:
            return values
        shape = (1, -1) + (1,) * (values.ndim - 2)
        mean, std = (_constants(numbers, values.dtype, values.device).reshape(shape) for numbers in (self.mean, self.std))
        return (values - mean).div_(std)


@lru_cache(maxsize=64)
def _constants(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Kept on the device: made anew, they would make every batch wait for a copy."""
    return torch.tensor(numbers, dtype=dtype, device=device)


def flip_and_crop(images: Tensor, flip: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Mirrors the images where `flip`, pads with zeros and cuts each back to its size at (top, left): (B, C, H, W) as given."""
    if padding == 0:
        return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    count, channels, height, width = images.shape
    padded = functional.pad(images, (padding,) * 4)
    across = width + 2 * padding
    rows = top.view(-1, 1) + torch.arange(height, device=images.device)
    columns = left.view(-1, 1) + torch.arange(width, device=images.device)
    columns = torch.where(flip.view(-1, 1), across - 1 - columns, columns)  # the mirrored image's column, in the image as it is
    pixel = (rows.view(count, height, 1) * across + columns.view(count, 1, width)).view(count, 1, -1)
    return padded.view(count, channels, -1).gather(2, pixel.expand(-1, channels, -1)).view(images.shape)


@dataclass(frozen=True, eq=False)
class SampleView:
    """A `Samples`: some positions of `pixels` with their given labels."""

    pixels: Pixels
    index: Tensor  # (N,) int64 on the CPU
    labels: Tensor  # (N,) on the CPU
    preprocess: Preprocess
    device: torch.device

    @property
    def universe(self) -> int:
        return len(self.pixels)

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, which: Tensor) -> SampleView:
        return replace(self, index=self.index[which], labels=self.labels[which])

    def relabel(self, labels: Tensor) -> SampleView:
        """The same inputs under other labels."""
        return replace(self, labels=labels)

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        if size < 1:
            raise ValueError(f"batch size {size} must be at least 1")
        order = torch.arange(len(self)) if rng is None else rng.child("order").permutation(len(self))
        tables = [_moved(_augmentation_table(self, rng, number), self.device) for number in range(views.count("augmented"))]
        resident = isinstance(self.pixels, TensorPixels)
        where = (self.index.to(self.device) if resident else self.index)[order.to(self.device) if resident else order]  # once an epoch
        labels = self.labels.to(self.device)[order.to(self.device)]
        start = 0
        strongly = _strong(self, rng) if "strong" in views else None
        for which in cut(order, size):
            index, place = self.index[which], where[start : start + len(which)]
            given = labels[start : start + len(which)]
            start += len(which)
            pixels = self.pixels.fetch(place).to(self.device)
            plain = self.preprocess.normalise(pixels)
            augmented = iter(
                [plain if table is None else self.preprocess.normalise(_weakly(self, pixels, place, table)) for table in tables]
            )
            strong_view = None if strongly is None else strongly(pixels, index)
            made = [next(augmented) if view == "augmented" else strong_view if view == "strong" else plain for view in views]
            yield Batch(tuple(view for view in made if view is not None), given, index)


def resolve_count(n: SampleCount, there: int) -> int:
    """The number that an amount of `there` samples comes to; a share is of at least one."""
    if n is None:
        return there
    return max(1, round(n * there)) if isinstance(n, float) else n


def cut(order: Tensor, size: int) -> list[Tensor]:
    """`order` in pieces of `size`; a last piece of one joins the piece before it, because batch norm cannot train on one sample."""
    pieces = list(order.split(size))
    if len(pieces) > 1 and len(pieces[-1]) == 1:
        pieces[-2:] = [torch.cat(pieces[-2:])]
    return pieces


def batch_sizes(count: int, size: int) -> list[int]:
    """How many samples each batch holds that `cut` makes of `count` samples."""
    return [len(piece) for piece in cut(torch.empty(count), size)]


Table = tuple[Tensor, Tensor, Tensor]


def _moved(table: Table | None, device: torch.device) -> Table | None:
    """To the device in one go, so that no batch has to wait for its part."""
    return None if table is None else (table[0].to(device), table[1].to(device), table[2].to(device))


def _weakly(samples: SampleView, pixels: Tensor, index: Tensor, table: Table) -> Tensor:
    """Flipped and cropped as the recipe says."""
    flip, top, left = (column[index.to(column.device)].to(pixels.device) for column in table)
    padding = samples.preprocess.padding if samples.preprocess.augment == "crop_flip" else 0
    return flip_and_crop(pixels, flip, top, left, padding)


def _strong(samples: SampleView, rng: Stream | None) -> Callable[[Tensor, Tensor], Tensor]:
    """What makes strong views in this epoch: AutoAugment, flip and crop of its own as the recipe has them, normalisation, Cutout."""
    if rng is None:
        raise ValueError("strong batches need a random stream; pass rng, or ask for the 'plain' view")
    draws = rng.child("strong")
    choices, table = strong.Choices.draw(samples.universe, draws), _augmentation_table(samples, draws)

    def made(pixels: Tensor, index: Tensor) -> Tensor:
        images = strong.auto_augment(pixels, index, choices)
        moved = images if table is None else _weakly(samples, images, index, table)
        return strong.cut_out(samples.preprocess.normalise(moved), choices.centre[index])

    return made


def _augmentation_table(samples: SampleView, rng: Stream | None, number: int = 0) -> Table | None:
    """(flip, top, left) for every sample of the universe in this epoch, for view `number` of its kind; None when nothing is augmented."""
    if samples.preprocess.augment == "none":
        return None
    if rng is None:
        raise ValueError("augmented batches need a random stream; pass rng, or ask for the 'plain' view")
    generator = rng.child("augment", *([number] if number else [])).generator()
    flip = torch.rand(samples.universe, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * samples.preprocess.padding + 1, (2, samples.universe), generator=generator)
    return flip, offsets[0], offsets[1]

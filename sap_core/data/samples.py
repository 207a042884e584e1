"""The implementation of `Samples`: a view of inputs in memory or on disk, with preprocessing and augmentation per batch.

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
from sap_core.data.constants import check_constants
from sap_core.seeding import Stream


# Methods reach inputs through batches only, so a source may be a tensor or millions of files.
class Pixels(Protocol):
    """A source of inputs by position in the universe."""

    def __len__(self) -> int: ...

    def fetch(self, index: Tensor) -> Tensor:
        """Return inputs (B, ...): uint8 images in [0, 255], or floats that are not rescaled, on any device.

        Args:
            index: (B,) int64 positions.
        """


@dataclass(frozen=True)
class TensorPixels:
    """All inputs as one tensor (universe, ...) on the device."""

    tensor: Tensor

    def __len__(self) -> int:
        return len(self.tensor)

    def fetch(self, index: Tensor) -> Tensor:
        # `index_select` and not indexing: 0.005 instead of 0.10 ms for a batch of CIFAR (docs/log.md).
        return self.tensor.index_select(0, index.to(self.tensor.device))


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing and augmentation of inputs: part of a baseline's id, and the same for training, correction and evaluation.

    Augmentation is drawn per epoch and sample, so it does not depend on batch size, order or subset.

    Attributes:
        mean, std: per channel, of pixels in [0, 1], deviations above 0; empty: no normalisation.
        augment: random horizontal flips, random crops and flips, or none.
        padding: zero padding before a crop, in pixels.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    augment: Literal["none", "flip", "crop_flip"] = "none"
    padding: int = 4

    def __post_init__(self) -> None:
        check_constants(self.mean, self.std, "preprocess")

    def normalise(self, inputs: Tensor) -> Tensor:
        """Return normalised inputs; uint8 inputs are first divided by 255 and converted to float32."""
        # In place on the new tensor only: floats of the data set are returned as they are and must not be changed.
        values = inputs.to(torch.float32).div_(255) if inputs.dtype == torch.uint8 else inputs
        if not self.mean:
            return values
        # Channels are the second axis of images and of vectors alike.
        shape = (1, -1) + (1,) * (values.ndim - 2)
        # The cache's key has dtype and device, because the same constants serve float32 and float64 inputs.
        mean, std = (_constants(numbers, values.dtype, values.device).reshape(shape) for numbers in (self.mean, self.std))
        # The difference is a new tensor, so that dividing in place changes no input.
        return (values - mean).div_(std)


@lru_cache(maxsize=64)
def _constants(numbers: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a cached tensor on the device; creating it for every batch would make each one wait for a copy from the CPU."""
    return torch.tensor(numbers, dtype=dtype, device=device)


def flip_and_crop(images: Tensor, flip: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Flip and crop images, in one batched operation.

    Args:
        images: (B, C, H, W).
        flip: (B,) bool, whether an image is mirrored.
        top: (B,) int64 first row of each crop in the padded image.
        left: (B,) int64 first column of each crop.
        padding: zero padding on each side, in pixels.

    Returns:
        (B, C, H, W) images of the same dtype.
    """
    if padding == 0:
        return torch.where(flip.view(-1, 1, 1, 1), images.flip(3), images)
    # Flip and crop are one affine map of pixel coordinates, so both are done by one gather along the flattened image.
    count, channels, height, width = images.shape
    # One gather with computed indices: a loop over images would launch a kernel for each of them.
    padded = functional.pad(images, (padding,) * 4)
    across = width + 2 * padding
    # Rows and columns of the crop in the padded image, one line per sample.
    rows = top.view(-1, 1) + torch.arange(height, device=images.device)
    columns = left.view(-1, 1) + torch.arange(width, device=images.device)
    # Column of the mirrored image, counted in the original one.
    columns = torch.where(flip.view(-1, 1), across - 1 - columns, columns)
    pixel = (rows.view(count, height, 1) * across + columns.view(count, 1, width)).view(count, 1, -1)
    return padded.view(count, channels, -1).gather(2, pixel.expand(-1, channels, -1)).view(images.shape)


@dataclass(frozen=True, eq=False)
class SampleView:
    """Implements `sap_core.api.Samples`.

    Attributes:
        pixels: inputs of the universe.
        index: (N,) int64 positions in the universe, on the CPU.
        labels: (N,) given labels, on the CPU.
        preprocess: preprocessing and augmentation.
        device: device of the batches.
    """

    pixels: Pixels
    index: Tensor
    labels: Tensor
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
        """Return this view with other labels (N,)."""
        return replace(self, labels=labels)

    def batches(self, size: int, rng: Stream | None = None, views: Sequence[View] = ("plain",)) -> Iterator[Batch]:
        # A generator's body runs at the first batch, so the error comes with it.
        if size < 1:
            raise ValueError(f"batch size is {size}, but must be at least 1")
        # The order has a stream of its own, so that a view or an augmentation more does not change it.
        order = torch.arange(len(self)) if rng is None else rng.child("order").permutation(len(self))
        # One table per requested view: two augmented views of a sample must differ, and each is drawn once per epoch.
        tables = [_moved(_augmentation_table(self, rng, number), self.device) for number in range(views.count("augmented"))]
        # Inputs on disk are read by positions on the CPU, resident ones by positions on their device.
        resident = isinstance(self.pixels, TensorPixels)
        # Moved to the device once per epoch: a transfer for every batch would make the GPU wait.
        positions = (self.index.to(self.device) if resident else self.index)[order.to(self.device) if resident else order]
        labels = self.labels.to(self.device)[order.to(self.device)]
        # A running offset: the last batch may be larger than `size`, so positions cannot be computed from the number of the batch.
        start = 0
        strong_augmentation = _strong(self, rng) if "strong" in views else None
        for which in split_batches(order, size):
            # `index` stays on the CPU, where methods keep their per-sample tables; `position` is what pixels are read by.
            index, position = self.index[which], positions[start : start + len(which)]
            given = labels[start : start + len(which)]
            start += len(which)
            pixels = self.pixels.fetch(position).to(self.device)
            # Augmentation acts on raw pixels, before normalisation, so that the padding of a crop is black as in the reference recipe.
            plain = self.preprocess.normalise(pixels)
            # One tensor per augmented view, in the order in which the views were asked for.
            augmented = iter(
                [plain if table is None else self.preprocess.normalise(_flip_and_crop(self, pixels, position, table)) for table in tables]
            )
            strong_view = None if strong_augmentation is None else strong_augmentation(pixels, index)
            # In the order of the request; without augmentation the augmented view is the plain one.
            shown = [next(augmented) if view == "augmented" else strong_view if view == "strong" else plain for view in views]
            yield Batch(tuple(view for view in shown if view is not None), given, index)


def resolve_count(n: SampleCount, available: int) -> int:
    """Return the number that a `SampleCount` means, given the number of available samples; a fraction is at least one sample."""
    if n is None:
        return available
    # An int counts samples and a float is a fraction: 1 is one sample, not all.
    return max(1, round(n * available)) if isinstance(n, float) else n


def split_batches(order: Tensor, size: int) -> list[Tensor]:
    """Split `order` (N,) into batches; a last batch of one sample is merged with the one before, because batch norm cannot train on it."""
    # Merged and not dropped: dropping would leave out another sample in each epoch and change what a pass costs.
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def batch_sizes(count: int, size: int) -> list[int]:
    """Return the sizes of the batches into which `split_batches` splits `count` samples."""
    # Through `split_batches` itself, so that forecasts count the batches that are made.
    return [len(batch) for batch in split_batches(torch.empty(count), size)]


Table = tuple[Tensor, Tensor, Tensor]
"""(flip, top, left) of every sample of the universe, each (universe,)."""


def _moved(table: Table | None, device: torch.device) -> Table | None:
    """Move a table to the device at once, so that no batch has to wait for a transfer."""
    return None if table is None else (table[0].to(device), table[1].to(device), table[2].to(device))


def _flip_and_crop(samples: SampleView, pixels: Tensor, index: Tensor, table: Table) -> Tensor:
    """Augment a batch by the draws of its samples in `table`."""
    # Looked up by universe position: a sample has the same augmentation in every subset, order and batch.
    flip, top, left = (column[index.to(column.device)].to(pixels.device) for column in table)
    padding = samples.preprocess.padding if samples.preprocess.augment == "crop_flip" else 0
    return flip_and_crop(pixels, flip, top, left, padding)


def _strong(samples: SampleView, rng: Stream | None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the strong augmentation of one epoch: AutoAugment, flip and crop with draws of its own, normalisation, Cutout."""
    if rng is None:
        raise ValueError("the 'strong' view needs a random stream; pass rng, or request the 'plain' view")
    # A child stream, so that the strong view's flip and crop are independent of the augmented view's.
    draws = rng.child("strong")
    choices, table = strong.Choices.draw(samples.universe, draws), _augmentation_table(samples, draws)

    def augmented(pixels: Tensor, index: Tensor) -> Tensor:
        images = strong.auto_augment(pixels, index, choices)
        # SOP+'s order: AutoAugment, flip and crop, normalisation, Cutout (zeros after normalisation are the mean colour).
        moved = images if table is None else _flip_and_crop(samples, images, index, table)
        return strong.cut_out(samples.preprocess.normalise(moved), choices.centre[index])

    return augmented


def _augmentation_table(samples: SampleView, rng: Stream | None, number: int = 0) -> Table | None:
    """Draw the table of one epoch, for the `number`-th view of its kind; None without augmentation."""
    if samples.preprocess.augment == "none":
        return None
    if rng is None:
        raise ValueError("the 'augmented' view needs a random stream; pass rng, or request the 'plain' view")
    # One draw for the whole universe, whatever the view: a sample's augmentation must not depend on subset, order or batch size.
    generator = rng.child("augment", *([number] if number else [])).generator()
    # Flips first, then both offsets, from one generator: this order of draws is part of what a seed means.
    flip = torch.rand(samples.universe, generator=generator) < 0.5
    offsets = torch.randint(0, 2 * samples.preprocess.padding + 1, (2, samples.universe), generator=generator)
    return flip, offsets[0], offsets[1]

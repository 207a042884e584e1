"""Reading of (image, label) pairs from a map-style data set or a DataLoader, in the order of the data set and in batches.

A DataLoader is read through a second one with the same data set, `collate_fn`, batch size, workers and pinned memory, but without
shuffling, so that a position always means the same image; the given one is not consumed. Which images count is said in `loaders`. Nothing
is kept in memory, so data may be larger than it.

Shapes: N images, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any

import torch
from torch import Tensor
from torch.utils import data

from sap_core.api import Batch
from sap_core.errors import UserError
from sap_core.sap import checks, loaders

Unpack = Callable[[Any], tuple[Any, Any]]
"""Returns (image, label) of an item of a data set, or (images, labels) of a batch of a DataLoader."""

DEFAULT_BATCH_SIZE = 256
"""Images per batch of a data set that is given without a DataLoader."""

IMAGE_KEYS = ("pixel_values", "image", "images", "img")
LABEL_KEYS = ("labels", "label")
"""Keys of items that are dicts; the first one that an item has is taken."""

# More than one, since a random flip leaves every second image as it is.
_READ_TWICE = 8

_KEPT_OPTIONS = ("num_workers", "timeout", "worker_init_fn", "multiprocessing_context", "prefetch_factor")


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """The images and given labels of one data set or DataLoader.

    Attributes:
        what: "training" or "validation", for messages.
        dataset: the map-style data set.
        index: (N,) int64 positions in `dataset`, ascending.
        batch_size: images per batch.
        loader: the DataLoader whose options are used; None for a data set, which is read in this process.
        unpack: see `Unpack`; None: pairs, and dicts with the keys above.
    """

    what: str
    dataset: Any
    index: Tensor
    batch_size: int
    loader: data.DataLoader[Any] | None = None
    unpack: Unpack | None = None

    @classmethod
    def of(cls, given: object, what: str, batch_size: int | None = None, unpack: Unpack | None = None) -> LabelledImages:
        """Return the images of a data set or DataLoader.

        Args:
            given: a map-style data set of (image, label), or a DataLoader of one.
            what: "training" or "validation", for messages.
            batch_size: images per batch; None: that of the DataLoader, or DEFAULT_BATCH_SIZE.
            unpack: see `Unpack`.

        Raises:
            UserError: `given` is something else, is empty, or has a sampler of unknown images.
        """
        loader = given if isinstance(given, data.DataLoader) else None
        dataset = given if loader is None else loader.dataset
        loaders.check_dataset(dataset, what)
        if unpack is not None and not callable(unpack):
            raise UserError(f"unpack must be a function of one item, not {type(unpack).__name__}; {_UNPACK}")
        if batch_size is not None and (isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1):
            raise UserError(f"batch_size is {batch_size!r}, but must be an integer of at least 1")
        sampler, of_loader = (None, None) if loader is None else loaders.sampler(loader, what)
        index = loaders.sampled(sampler, len(dataset), what)  # type: ignore[arg-type]
        if len(index) == 0:
            raise UserError(f"there are no {what} images; give at least one")
        return cls(what, dataset, index, int(batch_size or of_loader or DEFAULT_BATCH_SIZE), loader, unpack)

    def __len__(self) -> int:
        return len(self.index)

    def batches(self, index: Tensor | None = None, num_outputs: int | None = None) -> Iterator[Batch]:
        """Iterate over checked batches on the CPU.

        Args:
            index: (M,) positions in the data set, read in this order; None: all images.
            num_outputs: number of classes, for the check of labels; None leaves the upper end unchecked.

        Yields:
            Images (B, ...) as they were given, their int64 labels, and their positions in the data set. A last batch of one image is
            merged with the batch before it, because batch norm without running statistics cannot normalise a single one.

        Raises:
            UserError: an item is no pair, images have different sizes, or an image or label is not valid (see `checks`).
        """
        loader = self._all if index is None else self._reader(index, repeated=False)
        batches = iter(loader)
        for block in _blocks(self.index if index is None else index, self.batch_size):
            with self._collation(block):
                given = next(batches)
            images, labels = self._of_items(given, block) if self.loader is None else self._of_batch(given, block)
            checked = checks.check_images(images, self.what, block)
            yield Batch((checked,), checks.check_labels(labels, len(checked), self.what, num_outputs, block), torch.tensor(block))

    def first(self) -> tuple[Tensor, bool]:
        """Return (B, ...) the first images, and whether they differ when they are read again, as with random augmentation."""
        few = self.index[:_READ_TWICE]
        # One loader for both readings, since workers that were started alike would draw alike.
        found = list(LabelledImages(self.what, self.dataset, few, len(few), self.loader, self.unpack).batches(few.repeat(2)))
        # Both readings of a single image come as one batch.
        once, again = (each.inputs for each in found) if len(found) == 2 else found[0].inputs.chunk(2)
        return once, not torch.equal(once, again)

    @cached_property
    def _all(self) -> data.DataLoader[Any]:
        # Kept, because validation images may be read once per alpha, and starting workers can take seconds.
        return self._reader(self.index, repeated=True)

    def _reader(self, index: Tensor, repeated: bool) -> data.DataLoader[Any]:
        blocks = _blocks(index, self.batch_size)
        # A generator of its own, so that no number is drawn from the caller's.
        if self.loader is None:
            return data.DataLoader(self.dataset, batch_sampler=blocks, collate_fn=list, generator=torch.Generator())
        options = {name: getattr(self.loader, name) for name in _KEPT_OPTIONS}
        return data.DataLoader(
            self.dataset,
            batch_sampler=blocks,
            collate_fn=self.loader.collate_fn,
            generator=torch.Generator(),
            # Pinned memory without a GPU is of no use, and torch warns.
            pin_memory=self.loader.pin_memory and torch.cuda.is_available(),
            persistent_workers=repeated and self.loader.num_workers > 0,
            **options,
        )

    def _of_items(self, items: Sequence[Any], block: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, ...) images and (B,) labels of single items of a data set."""
        pairs = [self._pair(item) for item in items]
        images = [self._image(image, where) for (image, _), where in zip(pairs, block, strict=True)]
        for image, where in zip(images, block, strict=True):
            if image.shape != images[0].shape:
                raise UserError(
                    f"{self.what} images have different sizes: {tuple(images[0].shape)} at position {block[0]} and {tuple(image.shape)} at "
                    f"position {where}; {_SIZES}"
                )
        return torch.stack(images), torch.stack([self._label(label, where) for (_, label), where in zip(pairs, block, strict=True)])

    def _of_batch(self, batch: Any, block: Sequence[int]) -> tuple[Any, Any]:
        """Images and labels of a batch that a DataLoader collated."""
        images, labels = self._pair(batch)
        if hasattr(images, "__array__"):
            images = torch.as_tensor(images)
        if isinstance(images, Tensor) and images.ndim and len(images) != len(block):
            raise UserError(
                f"the collate_fn of the {self.what} DataLoader made {len(images)} images of {len(block)} samples, so their positions are "
                "unknown; give a collate_fn that keeps every sample"
            )
        if isinstance(labels, (list, tuple)) and len(labels) == len(block):
            return images, torch.stack([self._label(label, where) for label, where in zip(labels, block, strict=True)])
        return images, torch.as_tensor(labels) if _numbers(labels) else labels

    def _pair(self, given: Any) -> tuple[Any, Any]:
        pair = given if self.unpack is None else self.unpack(given)
        if self.unpack is None and isinstance(given, Mapping):
            keys = [next((key for key in keys if key in given), None) for keys in (IMAGE_KEYS, LABEL_KEYS)]
            if None in keys:
                raise UserError(
                    f"{self.what} items are dicts with the keys {', '.join(map(str, given))}, of which none of {', '.join(IMAGE_KEYS)} is "
                    f"the image or none of {', '.join(LABEL_KEYS)} the label; pass unpack=lambda item: (item['IMAGE'], item['LABEL']) with "
                    "their keys"
                )
            pair = tuple(given[key] for key in keys)
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            found = f"{len(pair)} values" if isinstance(pair, (tuple, list)) else type(pair).__name__
            source = "items are" if self.unpack is None else "items are unpacked to"
            raise UserError(f"{self.what} {source} {found} instead of (image, label); {_UNPACK}")
        return pair[0], pair[1]

    def _image(self, image: Any, where: int) -> Tensor:
        found = torch.as_tensor(image) if hasattr(image, "__array__") and hasattr(image, "dtype") else image
        if not isinstance(found, Tensor):
            raise UserError(
                f"the {self.what} image at position {where} is {loaders.type_name(found)} instead of a tensor; convert images in the "
                "data set's transform (for images of PIL: torchvision.transforms.ToTensor()), and normalise them as in training"
            )
        return found

    def _label(self, label: Any, where: int) -> Tensor:
        found = torch.as_tensor(label) if _numbers(label) else None
        if found is None or found.ndim:
            what = f"has the shape {tuple(found.shape)}" if found is not None else f"is {label!r} ({loaders.type_name(label)})"
            remedy = ".item()" if found is not None and found.numel() == 1 else ".argmax()"
            how = f"unpack=lambda item: (item[0], item[1]{remedy})" if found is not None else "labels that number the classes from 0"
            raise UserError(f"the {self.what} label at position {where} {what}, but must be one integer; pass {how}")
        return found

    @contextmanager
    def _collation(self, block: Sequence[int]) -> Iterator[None]:
        """Turn the errors of torch's `default_collate` into one sentence."""
        try:
            yield
        except StopIteration:
            raise UserError(f"the {self.what} DataLoader ended before position {block[0]} of its data set") from None
        # torch has no type of its own for them; errors of the data set itself remain as they are.
        except (RuntimeError, TypeError) as error:
            if "stack expects each tensor to be equal size" in str(error):
                raise UserError(f"{self.what} images have different sizes (at positions {block[0]} to {block[-1]}); {_SIZES}") from error
            if "default_collate: batch must contain" in str(error):
                raise UserError(
                    f"{self.what} items contain something that cannot be a batch ({str(error).splitlines()[-1].strip()}); convert images "
                    "to tensors in the data set's transform, or give the DataLoader a collate_fn"
                ) from error
            raise


_UNPACK = "pass unpack=lambda item: (item[0], item[1]) or a function that returns the image and the label of an item"
_SIZES = "resize them to one size in the data set's transform, as in training"


def _blocks(index: Tensor, size: int) -> list[list[int]]:
    blocks: list[list[int]] = [block.tolist() for block in index.split(size)]
    if len(blocks) > 1 and len(blocks[-1]) == 1:
        blocks[-2:] = [blocks[-2] + blocks[-1]]
    return blocks


def _numbers(given: Any) -> bool:
    """Return whether labels are numbers, or arrays or lists of them."""
    if isinstance(given, (list, tuple)):
        return all(_numbers(each) for each in given)
    return isinstance(given, (int, float, Tensor)) or (hasattr(given, "dtype") and getattr(given.dtype, "kind", "O") in "biufc")

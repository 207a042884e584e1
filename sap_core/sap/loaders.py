"""Which data sets and DataLoaders the library reads, and which images of its data set a DataLoader contains.

Its sampler says which images count, whatever their order and number in an epoch:

    SequentialSampler, RandomSampler, DistributedSampler    all images of the data set
    SubsetRandomSampler, list, tuple or range               those of its indices
    WeightedRandomSampler                                   those with a weight above zero; weights are otherwise ignored

Any other sampler is refused, since the images that it draws are unknown.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import data

from sap_core.errors import UserError


def check_dataset(dataset: object, what: str) -> None:
    """Check that images can be read by their position.

    Raises:
        UserError: they cannot; the message says what to pass instead.
    """
    # Before the check of methods: a tuple of tensors, a dict and an array have a length and items, too.
    tensors = (
        isinstance(dataset, list) and len(dataset) == 2 and all(isinstance(each, Tensor) or hasattr(each, "__array__") for each in dataset)
    )
    if tensors or isinstance(dataset, (Tensor, tuple)) or hasattr(dataset, "__array__"):
        remedy = "pass torch.utils.data.TensorDataset(images, labels)"
        raise UserError(f"{what} data must be a data set of (image, label) or a DataLoader, not {type_name(dataset)}; {remedy}")
    if isinstance(dataset, (Mapping, str, bytes)):
        keys = f" with the keys {', '.join(map(str, dataset))}; pass one of its values" if isinstance(dataset, Mapping) else ""
        raise UserError(f"{what} data must be a data set of (image, label) or a DataLoader, not {type_name(dataset)}{keys}")
    if isinstance(dataset, data.IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise UserError(
            f"{what} data of type {type_name(dataset)} have no positions to read a trusted image by; pass a map-style data set (with "
            "__len__ and __getitem__) or a DataLoader of one, or list(data) if they fit into memory"
        )


def sampler(loader: data.DataLoader[Any], what: str) -> tuple[data.Sampler[int], int]:
    """Return the sampler and the batch size of a DataLoader.

    Raises:
        UserError: it makes no batches, or by a batch sampler of its own.
    """
    if loader.batch_sampler is None:
        raise UserError(
            f"the {what} DataLoader has batch_size=None, so its data set makes the batches; give it a batch_size, or pass the data set"
        )
    # A subclass may choose the images by itself.
    if type(loader.batch_sampler) is not data.BatchSampler:
        raise _unknown_images(loader.batch_sampler, what)
    return loader.batch_sampler.sampler, loader.batch_sampler.batch_size  # type: ignore[return-value]


def sampled(sampler: data.Sampler[int] | None, length: int, what: str) -> Tensor:
    """Return (N,) int64 positions of the images that a sampler draws from, ascending.

    Args:
        sampler: None for a data set that was given without a DataLoader.
        length: size of the data set.
        what: "training" or "validation", for messages.

    Raises:
        UserError: a sampler of another type.
    """
    if sampler is None or isinstance(sampler, (data.SequentialSampler, data.RandomSampler, data.DistributedSampler)):
        return torch.arange(length)
    if isinstance(sampler, (list, tuple, range)):
        return torch.as_tensor(sampler, dtype=torch.int64).unique()
    if isinstance(sampler, data.SubsetRandomSampler):
        return torch.as_tensor(sampler.indices, dtype=torch.int64).unique()
    if isinstance(sampler, data.WeightedRandomSampler):
        return torch.nonzero(sampler.weights > 0).flatten().cpu()
    raise _unknown_images(sampler, what)


def _unknown_images(sampler: object, what: str) -> UserError:
    return UserError(
        f"which images the {what} DataLoader draws is unknown, because its sampler is {type_name(sampler)}; pass its data set "
        "(loader.dataset), or torch.utils.data.Subset(loader.dataset, indices) for some of its images"
    )


def overlap(one: Any, of_one: Tensor, other: Any, of_other: Tensor) -> int:
    """Return the number of images that two sets share, as far as both are subsets of one data set object.

    Args:
        one: a data set.
        of_one: (N,) positions in it.
        other: another data set.
        of_other: (N,) positions in it.
    """
    (base, first), (same, second) = _base(one, of_one), _base(other, of_other)
    return len(first & second) if base is same else 0


def _base(dataset: Any, index: Tensor) -> tuple[Any, set[int]]:
    """The data set of which another one is a subset, and the positions in it."""
    positions = index.tolist()
    while isinstance(dataset, data.Subset):
        positions = [int(dataset.indices[each]) for each in positions]
        dataset = dataset.dataset
    return dataset, set(positions)


def type_name(given: object) -> str:
    """Return the name of an object's type, with its module unless it is built in."""
    kind = type(given)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"

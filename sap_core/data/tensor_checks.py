"""Checks of the arrays in a tensor file: types, shapes and values of images, labels and split.

Each problem is refused with the index of the first bad image, where there is one, and a remedy in numpy's words.

Shapes: N images of C channels, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor

from sap_core.errors import UserError

NAMES = ("images", "labels", "split")
CHANNELS = (1, 3, 4)
"""Numbers of channels that images usually have."""

_BRIGHT = 8.0
"""Normalised pixels are hardly ever above it, and pixels of 8 bits that were converted to floats nearly always."""


def check_arrays(tensors: dict[str, Tensor], path: Path) -> None:
    """Check that images and labels exist and that all arrays have one length.

    Raises:
        UserError: they do not; the message lists what the file contains.
    """
    shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items()) or "nothing"
    expected = "must contain images (N, ...), labels (N,) and at most split (N,)"
    if not {"images", "labels"} <= tensors.keys():
        raise UserError(f"'{path}' {expected}, but it contains {shapes}; save it with these names")
    for name in ("labels", "split"):
        if name in tensors and tensors[name].ndim != 1:
            raise UserError(f"'{path}' {expected}, but it contains {shapes}; {_flat_remedy(name, tensors[name])}")
    if tensors["images"].ndim < 2 or len({len(tensors[name]) for name in NAMES if name in tensors}) != 1:
        raise UserError(f"'{path}' {expected}, but it contains {shapes}; save arrays of one length")
    if len(tensors["labels"]) == 0:
        raise UserError(f"'{path}' contains no image; save at least one")


def check_shape(found: Sequence[int], expected: Sequence[int], path: Path) -> None:
    """Check the shape of one image.

    Raises:
        UserError: it is not the expected one, or its channels are last.
    """
    refuse_channels_last(found, path)
    if list(found) == list(expected):
        return
    if len(found) == 2 and [1, *found] == list(expected):
        raise UserError(f"'{path}' contains images of shape {tuple(found)} without the axis of the channels; save images[:, None]")
    raise UserError(
        f"'{path}' contains images of shape {tuple(found)}, but dataset.shape={_compact(expected)}; set dataset.shape={_compact(found)}"
    )


def refuse_channels_last(shape: Sequence[int], path: Path) -> None:
    """Check that the channels of images are not last.

    Raises:
        UserError: they are.
    """
    if channels_last(shape):
        first = [shape[-1], *shape[:-1]]
        raise UserError(
            f"'{path}' contains images of shape {tuple(shape)}, which have their channels last; save numpy.moveaxis(images, -1, 1) and set "
            f"dataset.shape={_compact(first)} or leave it out"
        )


def channels_last(shape: Sequence[int]) -> bool:
    """Return whether a shape of one image is (H, W, C) rather than (C, H, W)."""
    # A few pixels by a few are features of a network, such as (512, 4, 4), and no image.
    return len(shape) == 3 and shape[2] in CHANNELS and min(shape[0], shape[1]) > max(CHANNELS)


def checked_images(images: Tensor, mean: Sequence[float], path: Path) -> tuple[Tensor, tuple[str, ...]]:
    """Return images as uint8 or float32, and sentences that the user should know.

    Args:
        images: (N, ...).
        mean: the mean that pixels in [0, 1] are normalised with; empty for none.
        path: the file, for messages.

    Raises:
        UserError: another type than uint8 and floats, a value that is not finite, or floats that contradict `mean`.
    """
    if images.dtype == torch.uint8:
        # As left by images in 0 to 1 that were converted without a factor; black-and-white images look the same.
        dark = images.ndim == 4 and int(images.max()) <= 1
        black = (
            f"no pixel of '{path}' exceeds {int(images.max())} of 255, so images are black; if they were in 0 to 1, save "
            "(images * 255).round().astype('uint8') of the originals, or float32"
        )
        return images, (black,) if dark else ()
    if not images.is_floating_point():
        raise UserError(f"'{path}' contains images of type {_type(images)}{_integer_remedy(images)}")
    values = images.to(torch.float32)
    bad = _first(~values.flatten(1).isfinite().all(1))
    if bad is not None:
        kind = "a value beyond the range of float32" if bool(images[bad].isfinite().all()) else "NaN or infinity"
        raise UserError(f"image {bad} of '{path}' contains {kind}; remove or repair it")
    low, high = float(values.min()), float(values.max())
    eight_bits = low >= 0 and _BRIGHT < high <= 255
    remedy = "; if pixels are 0 to 255, save images.round().astype('uint8')" if eight_bits else ""
    # A little tolerance for interpolated and compressed images.
    if mean and not (low >= -0.01 and high <= 1.01):
        bad = _first(((values < -0.01) | (values > 1.01)).flatten(1).any(1))
        raise UserError(
            f"image {bad} of '{path}' contains values outside 0 to 1 (all are from {low:g} to {high:g}), but dataset.mean and dataset.std "
            f"are of pixels in 0 to 1{remedy or '; if pixels are normalised already, set dataset.mean=[] dataset.std=[]'}"
        )
    # Without a mean they may be what the network was trained on, and vectors need not be pixels.
    if eight_bits and images.ndim == 4:
        return values, (f"the images of '{path}' are floats from {low:g} to {high:g}, which are used as they are{remedy}",)
    return values, ()


def checked_labels(labels: Tensor, num_classes: int, path: Path) -> Tensor:
    """Return labels (N,) as int64.

    Raises:
        UserError: a label is not a whole number from 0 to `num_classes` - 1.
    """
    whole = _whole(labels, "label", path)
    bad = _first((whole < 0) | (whole >= num_classes))
    if bad is None:
        return whole
    low, high, count = int(whole.min()), int(whole.max()), len(whole.unique())
    remedy = "fix the labels"
    # Only complete numbers from 0 say that the option is wrong; otherwise more classes would be an advice that hides a mistake.
    if low == 0 and count == high + 1:
        remedy = f"set dataset.num_classes={high + 1} or fix the labels"
    elif low == 1 and high == num_classes:
        remedy = "if classes are numbered from 1, save labels - 1"
    elif low < 0:
        remedy = "remove images without a label (keep = labels >= 0; images[keep], labels[keep]), or fix the labels"
    raise UserError(
        f"'{path}' contains labels outside 0 to {num_classes - 1}, the range for dataset.num_classes={num_classes}: label {bad} is "
        f"{int(whole[bad])}, the first of {int(((whole < 0) | (whole >= num_classes)).sum())}; {remedy}"
    )


def numbered_labels(labels: Tensor, path: Path) -> tuple[Tensor, int]:
    """Return labels (N,) as int64, and the number of classes if the highest label is the last class.

    Raises:
        UserError: a label is not a whole number from 0.
    """
    whole = _whole(labels, "label", path)
    classes = int(whole.max()) + 1
    return checked_labels(whole, max(classes, 1), path), classes


def check_every_class(train_labels: Tensor, num_classes: int, path: Path) -> None:
    """Check that every class has a training image.

    Raises:
        UserError: it has not.
    """
    # A class without a training image can be neither learnt nor corrected.
    absent = sorted(set(range(num_classes)) - set(train_labels.unique().tolist()))
    if absent:
        shown = ", ".join(map(str, absent[:3])) + (", ..." if len(absent) > 3 else "")
        remedy = (
            "if classes are numbered from 1, save labels - 1" if absent == [0] and num_classes > 2 else
            "fix the labels (classes are numbered without a gap) or dataset.num_classes"
        )  # fmt: skip
        raise UserError(f"'{path}' has no training image for {len(absent)} of {num_classes} classes ({shown}); {remedy}")


def checked_split(split: Tensor, allowed: Collection[int], path: Path) -> Tensor:
    """Return the split (N,) as int64.

    Raises:
        UserError: a value is not in `allowed`.
    """
    whole = split.long() if split.dtype == torch.bool else _whole(split, "split", path)
    bad = _first(~torch.isin(whole, torch.tensor(sorted(allowed))))
    if bad is not None:
        values = ", ".join(map(str, sorted(allowed)))
        raise UserError(
            f"split {bad} of '{path}' is {int(whole[bad])}, but allowed are {values} (0 training, 1 testing, 2 validation); fix the split"
        )
    return whole


def _whole(values: Tensor, what: str, path: Path) -> Tensor:
    """Return numbers (N,) as int64."""
    if values.dtype == torch.bool or values.is_complex():
        remedy = "; if False and True are classes 0 and 1, save labels.astype('int64')" if values.dtype == torch.bool else ""
        raise UserError(f"'{path}' contains a {what} of type {_type(values)} instead of whole numbers{remedy or '; fix them'}")
    if values.is_floating_point():
        bad = _first(~(values.isfinite() & (values == values.round())))
        if bad is not None:
            raise UserError(f"{what} {bad} of '{path}' is {float(values[bad]):g}, which is not a whole number; fix it")
    return values.long()


def _integer_remedy(images: Tensor) -> str:
    if images.dtype == torch.bool:
        return "; save images.astype('uint8') * 255"
    if images.is_complex():
        return "; save uint8 or float32"
    wide = images.to(torch.float64)
    bad = _first(((wide < 0) | (wide > 255)).flatten(1).any(1))
    if bad is None:
        return "; save images.astype('uint8')"
    low, high = float(wide.min()), float(wide.max())
    scale = 65535 if low >= 0 and high <= 65535 else f"{high:g}"
    # 12 bits in 16 are as usual as 16.
    return (
        f", and image {bad} has values outside 0 to 255 (all are from {low:g} to {high:g}); divide by the highest possible value, such as "
        f"(images / {scale}).astype('float32')"
    )


def _flat_remedy(name: str, values: Tensor) -> str:
    if values.ndim == 2 and values.shape[1] == 1:
        return f"save {name}[:, 0]"
    if name == "labels" and values.ndim == 2 and bool(((values != 0).sum(1) == 1).all()):
        return "turn one-hot labels into numbers of classes with labels.argmax(1)"
    return f"save {name} with one number per image"


def _first(bad: Tensor) -> int | None:
    """Return the first position that is true in (N,) bool."""
    found = torch.nonzero(bad)
    return int(found[0]) if len(found) else None


def _type(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _compact(shape: Sequence[int]) -> str:
    return str(list(shape)).replace(" ", "")

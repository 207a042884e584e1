"""Checks of images and labels that a caller gives to the library: type, shape, values, and number.

Every function returns what it was given, or raises `UserError` with the position of the first bad value and a remedy. Nothing is repaired:
a label of the wrong kind usually means that it belongs to another network or another image.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral

import torch
from torch import Tensor

from sap_core.errors import UserError
from sap_core.models.outputs import logits_of, tensors_in

Positions = int | Sequence[int]
"""Position of the first sample among all those of the caller, or the position of each, for messages about one batch of several."""


def check_images(images: object, what: str, positions: Positions = 0) -> Tensor:
    """Check preprocessed images.

    Args:
        images: (N, ...) floating-point values; N may be 0.
        what: "trusted", "training" or "validation", for messages.
        positions: see `Positions`.

    Raises:
        UserError: not a tensor with a batch dimension, not floating point, or an image is not finite.
    """
    given = _tensor(images, f"{what} images", "(N, ...)", "images")
    if not given.is_floating_point():
        scaled = "images.float() / 255" if given.dtype == torch.uint8 else "images.float()"
        raise UserError(
            f"{what} images must be preprocessed floats as the network expects them, but they are {given.dtype}; convert them with "
            f"{scaled} and normalise them as in training"
        )
    if given.ndim < 2:
        raise UserError(
            f"{what} images must have the shape (N, ...), but it is {tuple(given.shape)}; add the dimension of the batch with "
            f"images.unsqueeze(0)"
        )
    if not given.isfinite().all():
        # Only now image by image, since finite images are the rule.
        bad = torch.nonzero(~given.isfinite().flatten(1).all(1)).flatten()
        raise UserError(
            f"some {what} images contain NaN or infinity ({len(bad)} of {len(given)}, the first is image {_position(bad, positions)}); "
            "remove or repair them"
        )
    return given


def check_labels(labels: object, num_images: int, what: str, num_outputs: int | None = None, positions: Positions = 0) -> Tensor:
    """Check the labels of images.

    Args:
        labels: (N,) integers of any size.
        num_images: N.
        what: "trusted", "training" or "validation", for messages.
        num_outputs: C, the number of classes of the network; None leaves the upper end unchecked.
        positions: see `Positions`.

    Returns:
        (N,) int64, on the device of `labels`.

    Raises:
        UserError: another type, shape or number, or a label outside 0 to C - 1.
    """
    given = _tensor(labels, f"{what} labels", "(N,)", "labels")
    if given.ndim != 1:
        raise UserError(
            f"{what} labels must have the shape (N,), one class per image, but it is {tuple(given.shape)}; "
            f"{_flat_remedy(given, num_images)}"
        )
    if len(given) != num_images:
        raise UserError(f"there are {num_images} {what} images and {len(given)} labels; give one label per image")
    if num_images == 0:
        raise UserError(f"there are no {what} images; give at least one")
    values = _integers(given, f"{what} labels", positions)
    _check_range(values, what, num_outputs, positions)
    return values


def check_num_trusted(num_trusted: object, num_images: int) -> int:
    """Check how many trusted samples are taken from `num_images` samples.

    Raises:
        UserError: not an integer, below 1, or above `num_images`.
    """
    if isinstance(num_trusted, bool) or not isinstance(num_trusted, Integral):
        raise UserError(f"num_trusted is {num_trusted!r}, but must be an integer of at least 1")
    if int(num_trusted) < 1:
        raise UserError(f"num_trusted is {num_trusted}, but must be at least 1")
    if int(num_trusted) > num_images:
        raise UserError(
            f"num_trusted is {num_trusted}, but there are only {num_images} training samples; set num_trusted to {num_images} or less"
        )
    return int(num_trusted)


def check_outputs(outputs: Tensor, num_images: int, what: str) -> int:
    """Check the outputs of the network for `num_images` images.

    Returns:
        C, the number of classes.

    Raises:
        UserError: the shape is not (N, C), or there are fewer than two classes.
    """
    if outputs.ndim != 2 or len(outputs) != num_images:
        raise UserError(
            f"the network's output for {num_images} {what} images has the shape {tuple(outputs.shape)} instead of ({num_images}, classes); "
            "give images of shape (N, ...) to a network that classifies them (images.unsqueeze(0) makes a batch of one image)"
        )
    # The largest of one output is always the first, so every accuracy would be that of class 0.
    if outputs.shape[1] < 2:
        raise UserError(f"the network has {outputs.shape[1]} output; it needs one output per class, also for two classes")
    return outputs.shape[1]


def logits(outputs: object, num_images: int, what: str, classes: int | None = None) -> Tensor:
    """Return the logits (N, C) in what the network returned for `num_images` images, by the rule of `sap_core.models.outputs`.

    Args:
        outputs: what the network returned.
        num_images: N.
        what: "training" or "validation", for messages.
        classes: C; None if it is not known.

    Raises:
        UserError: there are none, or fewer than two classes, or several tensors of different widths without a given number of classes.
    """
    # A tensor that is no batch of logits is explained by the images that were given.
    if isinstance(outputs, Tensor) and classes is None:
        check_outputs(outputs, num_images, what)
        return outputs
    try:
        found = logits_of(outputs, num_images, classes)
    except UserError as error:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors_in(outputs))
        expected = f"({num_images}, {classes or 'number of classes'})"
        found_instead = f"a {type(outputs).__name__} with {f'tensors of shapes {shapes}' if shapes else 'no tensor'}"
        raise UserError(
            f"the network must return logits of shape {expected} for {num_images} {what} images, but returns {found_instead}; pass the "
            "number of classes as classes=..., or name the logits 'logits'"
        ) from error
    check_outputs(found, num_images, what)
    return found


def convert(images: Tensor, weight: Tensor, what: str) -> Tensor:
    """Return images on the device and in the precision of a network's weight.

    Raises:
        UserError: a finite value becomes infinite, since it is beyond the range of that precision.
    """
    converted = images.to(weight.device, weight.dtype)
    # Only a narrower range can overflow.
    narrower = torch.finfo(weight.dtype).max < torch.finfo(images.dtype).max
    if narrower and not converted.isfinite().all():
        raise UserError(
            f"{what} images contain values beyond the range of the network's {weight.dtype}; normalise them as in training, or use the "
            "network in float32 (model.float())"
        )
    return converted


@contextmanager
def shape_errors(batch: Tensor, what: str) -> Iterator[None]:
    """Turn torch's errors about shapes within a block into one sentence with the shape of the batch."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    # torch has no type of its own for inputs of a wrong shape; networks also assert their size, or want more than images.
    except (RuntimeError, ValueError, IndexError, TypeError, AssertionError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the network cannot process {what} images of shape {tuple(batch.shape)}, batch first ({why}); give images as the network "
            "expects them, (N, ...)"
        ) from error


def _tensor(given: object, what: str, shape: str, name: str) -> Tensor:
    if not isinstance(given, Tensor):
        raise UserError(f"{what} must be a tensor {shape}, not {type(given).__name__}; convert them with torch.tensor({name})")
    if given.layout != torch.strided or given.is_meta:
        kind = "without values (device meta)" if given.is_meta else f"of layout {given.layout}"
        raise UserError(f"{what} must be a dense tensor {shape} with values, not one {kind}")
    return given


def _flat_remedy(labels: Tensor, num_images: int) -> str:
    """Return what to do about labels that are not one-dimensional."""
    if labels.numel() == num_images and labels.ndim:
        return "use labels.flatten()"
    # Exactly one entry per row; several would be a multi-label problem, which has no single class.
    if labels.ndim == 2 and bool(((labels != 0).sum(1) == 1).all()):
        return "turn one-hot labels into classes with labels.argmax(1)"
    return "give the number of one class for each image"


def _position(bad: Tensor, positions: Positions) -> int:
    """Return the position of the first bad sample of a batch."""
    return positions + int(bad[0]) if isinstance(positions, int) else positions[int(bad[0])]


def _integers(labels: Tensor, what: str, positions: Positions) -> Tensor:
    if labels.dtype == torch.bool:
        raise UserError(f"{what} must be integers, but they are torch.bool; if False and True are classes 0 and 1, use labels.long()")
    if labels.is_complex():
        raise UserError(f"{what} must be integers, but they are {labels.dtype}; give one class per image")
    if labels.is_floating_point():
        # NaN and infinity are not equal to their rounded values or not finite.
        bad = torch.nonzero(~(labels.isfinite() & (labels == labels.round()))).flatten()
        if len(bad):
            raise UserError(
                f"{what} must be integers, but label {_position(bad, positions)} is {float(labels[bad[0]]):g}; give the number of a class "
                "for each image"
            )
        raise UserError(f"{what} must be integers, but they are {labels.dtype}; convert them with labels.long()")
    return labels.long()


def _check_range(labels: Tensor, what: str, num_outputs: int | None, positions: Positions) -> None:
    outside = labels < 0 if num_outputs is None else (labels < 0) | (labels >= num_outputs)
    bad = torch.nonzero(outside).flatten()
    if not len(bad):
        return
    low, high = int(labels.min()), int(labels.max())
    allowed = (
        "must not be negative" if num_outputs is None else f"must be from 0 to {num_outputs - 1}, as the network has {num_outputs} outputs"
    )
    remedy = "remove these samples, or use the network that was trained with these classes"
    if num_outputs == 1:
        remedy = "use a network with one output per class, since one output alone predicts the same class for every image"
    # Numbered from 1, as in MATLAB's files: no other shift is suggested, since it would be a guess.
    if num_outputs is not None and (low, high) == (1, num_outputs):
        remedy = "if classes are numbered from 1, use labels - 1"
    found = f"label {_position(bad, positions)} is {int(labels[bad[0]])} ({len(bad)} of {len(labels)} are outside)"
    raise UserError(f"{what} labels {allowed}, but {found}; {remedy}")

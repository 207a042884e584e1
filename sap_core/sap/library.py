"""SAP as a library: correct a network given trusted images, without a task, a run or a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.modes import evaluating
from sap_core.sap import checks, gram, project, spectrum

Images = Tensor | Iterable[Tensor]
"""Preprocessed inputs: one tensor (N, ...), or an iterable of batches (B, ...)."""


def sap_project(model: nn.Module, images: Images, alpha: float, batch_size: int = 256) -> nn.Module:
    """Return a copy of `model` with weights projected onto the activation space of trusted images (SAP, Algorithm 1, lines 2 to 4).

    Args:
        model: any network of plain Linear, Conv2d and MultiheadAttention layers, each called once per forward pass; it is not changed.
        images: trusted inputs as the network expects them (normalised, not augmented); they are moved to its device and converted to its
            dtype.
        alpha: strength of the projection, positive; the paper searches 2000 to 300000, and a larger alpha changes less.
        batch_size: images per forward pass.

    Raises:
        UserError: there are no images, they are not tensors of finite floats that the network accepts as a batch, alpha is not positive
            and finite, or a layer is not supported.
        FloatingPointError: an activation is not finite.
    """
    # Before the pass over the images, which takes far longer than the check.
    spectrum.check_alpha(alpha)
    # For one alpha a Cholesky solve is cheaper than a decomposition.
    layers = _layers(model, images, batch_size, alphas=1)
    return project.with_weights(model, {name: each.at(alpha) for name, each in layers.items()})


@dataclass(frozen=True)
class Tuned:
    """Result of `sap_tune`.

    Attributes:
        alpha: the best alpha, or None if none is strictly better than the unmodified network.
        model: the network corrected with `alpha`, or the unmodified network.
        unmodified: validation accuracy of the unmodified network, in [0, 1].
        scores: validation accuracy by alpha, largest alpha first.
    """

    alpha: float | None
    model: nn.Module
    unmodified: float
    scores: Mapping[float, float]


def sap_tune(
    model: nn.Module, trusted: Images, val_images: Tensor, val_labels: Tensor, alphas: Sequence[float], batch_size: int = 256
) -> Tuned:
    """Correct `model` with each alpha and select the best by validation accuracy, with one pass over the trusted images.

    The unmodified network wins ties with corrected ones; among alphas the larger one wins.

    Args:
        model: see `sap_project`; it is not changed.
        trusted: trusted inputs, as the `images` of `sap_project`.
        val_images: (N, ...) validation inputs as the network expects them.
        val_labels: (N,) integers from 0 to the number of the network's outputs - 1, on any device; labels as noisy as those of training
            suffice.
        alphas: the grid; repeated values count once.
        batch_size: images per forward pass.

    Returns:
        The best alpha, the network corrected with it, and the accuracy of every alpha and of the unmodified network.

    Raises:
        UserError: there are no alphas or no validation images, images or labels are of another type, shape, number or range than above,
            or as `sap_project`.
        FloatingPointError: an activation is not finite.
    """
    if not alphas:
        raise UserError("sap_tune was given no alphas; the paper's range is 2000 to 300000")
    for alpha in alphas:
        spectrum.check_alpha(alpha)
    val_images, val_labels = _validation(model, val_images, val_labels, batch_size)
    # Lines 2 and 3 of Algorithm 1 once; each alpha repeats line 4 and a validation pass only.
    layers = _layers(model, trusted, batch_size, len(set(alphas)))
    unmodified = _accuracy(model, val_images, val_labels, batch_size)
    # Starts with the unmodified network, which a setting must beat strictly: without a gain nothing is changed.
    best_alpha, best_model, best_score = None, model, unmodified
    scores: dict[float, float] = {}
    # Largest first, and only a strictly better score replaces the best: ties go to the larger alpha, which changes the weights less.
    for alpha in sorted(set(alphas), reverse=True):
        corrected = project.with_weights(model, {name: each.at(alpha) for name, each in layers.items()})
        scores[alpha] = _accuracy(corrected, val_images, val_labels, batch_size)
        if scores[alpha] > best_score:
            best_alpha, best_model, best_score = alpha, corrected, scores[alpha]
    return Tuned(best_alpha, best_model, unmodified, scores)


def _layers(model: nn.Module, images: Images, batch_size: int, alphas: int) -> Mapping[str, project.FactoredWeight | spectrum.LinearSystem]:
    """Return every weight that SAP corrects, prepared for a number of alphas."""
    _check_batch_size(batch_size)
    # Refuses an unsupported network before any image is read.
    moments = gram.init_moments(model)
    for batch in _batches(images, batch_size):
        moments = _observe(model, moments, _for(model, batch, "trusted"))
    # An iterable may turn out empty only after it was consumed.
    if all(each.count == 0 for each in moments.values()):
        raise UserError("there are no trusted images, but SAP needs at least one")
    gram.check_finite(moments)
    return project.prepare(model, moments, alphas)


def _observe(model: nn.Module, moments: dict[str, gram.Moments], batch: Tensor) -> dict[str, gram.Moments]:
    """Return the moments with one more batch; the outputs show whether the network took it for a batch."""

    def check(module: nn.Module, args: Any, outputs: Any) -> None:
        # A convolution takes an image without the dimension of the batch, and would be corrected from the wrong inputs.
        if isinstance(outputs, Tensor) and (outputs.ndim < 2 or len(outputs) != len(batch)):
            checks.check_outputs(outputs, len(batch), "trusted")

    hook = model.register_forward_hook(check)
    try:
        with _shape_errors(batch, "trusted"):
            return gram.observe(model, moments, batch)
    finally:
        hook.remove()


def _validation(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> tuple[Tensor, Tensor]:
    """Return checked validation images and their labels as int64."""
    _check_batch_size(batch_size)
    images = checks.check_images(images, "validation")
    # Everything that needs no network first, since a pass may take long.
    labels = checks.check_labels(labels, len(images), "validation")
    first = _for(model, images[:batch_size], "validation")
    with evaluating(model), _shape_errors(first, "validation"):
        num_outputs = checks.check_outputs(model(first), len(first), "validation")
    return images, checks.check_labels(labels, len(images), "validation", num_outputs)


@contextmanager
def _shape_errors(batch: Tensor, what: str) -> Iterator[None]:
    """Turn torch's errors about shapes into one sentence with the shape of the batch."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    # torch has no type of its own for inputs of a wrong shape.
    except (RuntimeError, ValueError, IndexError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the network cannot process {what} images of shape {tuple(batch.shape)}, batch first ({why}); give images as the network "
            "expects them, (N, ...)"
        ) from error


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1")


def _batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    # Batches are checked as they come, since an iterable may be longer than memory.
    start = 0
    for given in _tensors(images):
        checked = checks.check_images(given, "trusted", start)
        start += len(checked)
        yield from (batch for batch in checked.split(batch_size) if len(batch))


def _tensors(images: object) -> Iterator[object]:
    # An array of numpy is iterable, but its items are images and not batches.
    if isinstance(images, Tensor) or not isinstance(images, Iterable) or hasattr(images, "__array__"):
        yield images
    else:
        yield from images


def _for(model: nn.Module, batch: Tensor, what: str) -> Tensor:
    # Device and dtype of the network, not of the images: callers keep images on the CPU.
    return checks.convert(batch, next(model.parameters()), what)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    correct = 0
    with evaluating(model):
        for batch, given in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            # Compared on the network's device; only the count is transferred.
            predicted = model(_for(model, batch, "validation")).argmax(1)
            correct += int((predicted == given.to(predicted.device)).sum())
    return correct / len(labels)

"""SAP as a library, on images in tensors: correct a network given its trusted images, without a task, a run or a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import Tensor, nn

from sap_core.data.samples import split_batches
from sap_core.errors import UserError
from sap_core.models.modes import evaluating, full_precision
from sap_core.models.unwrap import unwrapped
from sap_core.sap import checks, spectrum
from sap_core.sap.search import accuracy, check_alphas, prepare_layers, right_predictions, search_alphas

Images = Tensor | Iterable[Tensor]
"""Preprocessed inputs: one tensor (N, ...), or an iterable of batches (B, ...)."""


@full_precision()
def sap_project(model: nn.Module, images: Images, alpha: float, batch_size: int = 256, leave: Sequence[str] = ()) -> nn.Module:
    """Return a copy of `model` with weights projected onto the activation space of trusted images (SAP, Algorithm 1, lines 2 to 4).

    Args:
        model: any network whose weights multiply activations as matrices, whatever its layers are called; it is not changed. Of
            a compiled network a copy without compilation is returned.
        images: trusted inputs as the network expects them (normalised, not augmented); they are moved to its device and converted to its
            dtype.
        alpha: strength of the projection, positive; the paper searches 2000 to 300000, and a larger alpha changes less.
        batch_size: images per forward pass.
        leave: patterns (`fnmatch`) of names of parameters that stay as they are; those that SAP does not support must be named here.

    Raises:
        UserError: there are no images, they are not tensors of finite floats that the network accepts as a batch, alpha is not positive
            and finite, a weight is not supported, or a copy of the network would compute with the original's weights.
        FloatingPointError: an activation is not finite.
    """
    # Before the pass over the images, which takes far longer than the check.
    spectrum.check_alpha(alpha)
    # For one alpha a Cholesky solve is cheaper than a decomposition.
    _check_batch_size(batch_size)
    model = unwrapped(model)
    layers = prepare_layers(model, _batches(model, images, batch_size), 1, leave)
    return layers.corrected(model, alpha)


@dataclass(frozen=True, repr=False)
class Tuned:
    """Result of `sap_tune`. `print` shows it in three lines.

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

    def __str__(self) -> str:
        best = max(self.scores, key=lambda alpha: (self.scores[alpha], alpha))
        unmodified, score = (f"{100 * accuracy:.2f} %" for accuracy in (self.unmodified, self.scores[best]))
        if self.alpha is None:
            verdict = f"No alpha is better than the unmodified network (alpha={best:g}: {score}); result.model is the unmodified network."
        else:
            verdict = f"SAP with alpha={best:g} has validation accuracy {score}; result.model is the corrected network."
        low, high = min(self.scores), max(self.scores)
        tried = f"{len(self.scores)} alphas from {low:g} to {high:g}" if low < high else f"alpha={low:g} alone"
        return f"{verdict}\nUnmodified network: validation accuracy {unmodified}.\nTried: {tried}; result.scores has the accuracy of each."

    __repr__ = __str__


@full_precision()
def sap_tune(
    model: nn.Module,
    trusted: Images,
    val_images: Tensor,
    val_labels: Tensor,
    alphas: Iterable[float],
    batch_size: int = 256,
    leave: Sequence[str] = (),
    classes: int | None = None,
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
        leave: see `sap_project`.
        classes: number of classes; needed only if the network returns several matrices of different widths, to tell which are the logits
            (see `sap_core.models.outputs`).

    Returns:
        The best alpha, the network corrected with it, and the accuracy of every alpha and of the unmodified network.

    Raises:
        UserError: there are no alphas or no validation images, images or labels are of another type, shape, number or range than above,
            or as `sap_project`.
        FloatingPointError: an activation is not finite.
    """
    distinct = check_alphas(alphas)
    given, model = model, unwrapped(model)
    val_images, val_labels, num_outputs = _validation(model, val_images, val_labels, batch_size, classes)
    # Lines 2 and 3 of Algorithm 1 once; each alpha repeats line 4 and a validation pass only.
    layers = prepare_layers(model, _batches(model, trusted, batch_size), len(distinct), leave)

    def right(network: nn.Module) -> Tensor:
        blocks = split_batches(torch.arange(len(val_labels)), batch_size)
        batches = ((_for(model, val_images[each], "validation"), val_labels[each]) for each in blocks)
        return right_predictions(network, batches, num_outputs)

    found = search_alphas(model, layers, distinct, right)
    return Tuned(found.alpha, found.model or given, accuracy(found.unmodified), found.scores)


def _validation(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, classes: int | None) -> tuple[Tensor, Tensor, int]:
    """Return checked validation images, their labels as int64, and the number of classes."""
    _check_batch_size(batch_size)
    images = checks.check_images(images, "validation")
    # Everything that needs no network first, since a pass may take long.
    labels = checks.check_labels(labels, len(images), "validation")
    first = _for(model, images[:batch_size], "validation")
    with evaluating(model), checks.shape_errors(first, "validation"):
        outputs = model(first)
    num_outputs = checks.logits(outputs, len(first), "validation", classes).shape[1]
    return images, checks.check_labels(labels, len(images), "validation", num_outputs), num_outputs


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, Integral) or batch_size < 1:
        raise UserError(f"batch_size is {batch_size!r}, but must be an integer of at least 1")


def _batches(model: nn.Module, images: Images, batch_size: int) -> Iterator[Tensor]:
    """Yield checked batches as the network expects them."""
    return (_for(model, batch, "trusted") for batch in _merged(_checked(images, batch_size), batch_size))


def _checked(images: Images, batch_size: int) -> Iterator[Tensor]:
    # Batches are checked as they come, since an iterable may be longer than memory.
    start = 0
    for given in _tensors(images):
        checked = checks.check_images(given, "trusted", start)
        start += len(checked)
        yield from (batch for batch in checked.split(batch_size) if len(batch))


def _merged(batches: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Merge a batch of a single image with the one before it, because batch norm without running statistics cannot normalise one."""
    held: Tensor | None = None
    for batch in batches:
        if held is not None and len(batch) == 1 and len(held) <= size and batch.shape[1:] == held.shape[1:]:
            held = torch.cat([held, batch.to(held)])
            continue
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


def _tensors(images: object) -> Iterator[object]:
    # An array of numpy is iterable, but its items are images and not batches.
    if isinstance(images, Tensor) or hasattr(images, "__array__"):
        yield images
    elif isinstance(images, Iterable):
        for batch in images:
            if isinstance(batch, (list, tuple, Mapping)):
                raise UserError(
                    f"trusted images must be tensors, but each item of the given {type(images).__name__} is a {type(batch).__name__}; pass "
                    "the images alone, such as (images for images, labels in loader)"
                )
            yield batch
    else:
        remedy = "pass its images as a tensor, or use sap_core.correct, which takes data sets"
        raise UserError(f"trusted images must be a tensor (N, ...) or an iterable of such batches, not {type(images).__name__}; {remedy}")


def _for(model: nn.Module, batch: Tensor, what: str) -> Tensor:
    # Device and dtype of the network, not of the images: callers keep images on the CPU.
    return checks.convert(batch, next((parameter for parameter in model.parameters() if parameter.is_floating_point()), batch), what)

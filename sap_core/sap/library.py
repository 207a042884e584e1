"""SAP as a library: correct a network given trusted images, without a task, a run or a sweep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.data.samples import split_batches
from sap_core.errors import UserError
from sap_core.models.copies import check_copies
from sap_core.models.modes import evaluating
from sap_core.models.outputs import logits_of
from sap_core.models.unwrap import unwrapped
from sap_core.sap import gram, project, spectrum

Images = Tensor | Iterable[Tensor]
"""Preprocessed inputs: one tensor (N, ...), or an iterable of batches (B, ...)."""


def sap_project(model: nn.Module, images: Images, alpha: float, batch_size: int = 256) -> nn.Module:
    """Return a copy of `model` with weights projected onto the activation space of trusted images (SAP, Algorithm 1, lines 2 to 4).

    Args:
        model: any network of plain Linear, Conv2d and MultiheadAttention layers, each called once per forward pass; it is not changed. Of
            a compiled network a copy without compilation is returned.
        images: trusted inputs as the network expects them (normalised, not augmented); they are moved to its device and dtype.
        alpha: strength of the projection, positive; the paper searches 2000 to 300000, and a larger alpha changes less.
        batch_size: images per forward pass.

    Raises:
        UserError: there are no images, they are not finite floats, alpha is not positive and finite, a layer is not supported, or a copy of
            the network would compute with the original's weights.
        FloatingPointError: an activation is not finite.
    """
    # Before the pass over the images, which takes far longer than the check.
    spectrum.check_alpha(alpha)
    # For one alpha a Cholesky solve is cheaper than a decomposition.
    model = unwrapped(model)
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
    model: nn.Module,
    trusted: Images,
    val_images: Tensor,
    val_labels: Tensor,
    alphas: Sequence[float],
    batch_size: int = 256,
    classes: int | None = None,
) -> Tuned:
    """Correct `model` with each alpha and select the best by validation accuracy, with one pass over the trusted images.

    The unmodified network wins ties with corrected ones; among alphas the larger one wins.

    Args:
        model: see `sap_project`; it is not changed.
        trusted: trusted inputs, as the `images` of `sap_project`.
        val_images: (N, ...) validation inputs as the network expects them.
        val_labels: (N,) int64 classes; labels as noisy as those of training suffice.
        alphas: the grid; repeated values count once.
        batch_size: images per forward pass.
        classes: number of classes; needed only if the network returns several matrices of different widths, to tell which are the logits
            (see `sap_core.models.outputs`).

    Returns:
        The best alpha, the network corrected with it, and the accuracy of every alpha and of the unmodified network.

    Raises:
        UserError: there are no alphas or no validation images, their number differs from that of the labels, or as `sap_project`.
        FloatingPointError: an activation is not finite.
    """
    if not alphas:
        raise UserError("sap_tune was given no alphas; the paper's range is 2000 to 300000")
    for alpha in alphas:
        spectrum.check_alpha(alpha)
    if len(val_images) != len(val_labels) or len(val_labels) == 0:
        raise UserError(
            f"sap_tune was given {len(val_images)} validation images and {len(val_labels)} labels; it needs one label per image"
        )
    # Lines 2 and 3 of Algorithm 1 once; each alpha repeats line 4 and a validation pass only.
    given, model = model, unwrapped(model)
    layers = _layers(model, trusted, batch_size, len(set(alphas)))
    unmodified = _accuracy(model, val_images, val_labels, batch_size, classes)
    # Starts with the unmodified network, which a setting must beat strictly: without a gain nothing is changed.
    best_alpha, best_model, best_score = None, given, unmodified
    scores: dict[float, float] = {}
    # Largest first, and only a strictly better score replaces the best: ties go to the larger alpha, which changes the weights less.
    for alpha in sorted(set(alphas), reverse=True):
        corrected = project.with_weights(model, {name: each.at(alpha) for name, each in layers.items()})
        scores[alpha] = _accuracy(corrected, val_images, val_labels, batch_size, classes)
        if scores[alpha] > best_score:
            best_alpha, best_model, best_score = alpha, corrected, scores[alpha]
    return Tuned(best_alpha, best_model, unmodified, scores)


def _layers(model: nn.Module, images: Images, batch_size: int, alphas: int) -> Mapping[str, project.FactoredWeight | spectrum.LinearSystem]:
    """Return every weight that SAP corrects, prepared for a number of alphas."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1")
    # Refuses an unsupported network before any image is read.
    moments = gram.init_moments(model)
    checked = False
    for batch in _merged(_batches(images, batch_size), batch_size):
        inputs = _for(model, batch)
        if not checked:
            check_copies(model, inputs[:2], "the network")
            checked = True
        moments = gram.observe(model, moments, inputs)
    # An iterable may turn out empty only after it was consumed.
    if all(each.count == 0 for each in moments.values()):
        raise UserError("there are no trusted images, but SAP needs at least one")
    gram.check_finite(moments)
    return project.prepare(model, moments, alphas)


def _batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    # Batches are checked as they come, since an iterable may be longer than memory.
    for given in [images] if isinstance(images, Tensor) else images:
        if not isinstance(given, Tensor):
            raise UserError(f"trusted images must be a tensor (N, ...) or an iterable of such, not {type(given).__name__}")
        if not given.is_floating_point():
            raise UserError(f"trusted images must be preprocessed floats as the network expects them, but they are {given.dtype}")
        if not given.isfinite().all():
            raise UserError("some trusted images contain NaN or infinity; remove or repair them")
        yield from (batch for batch in given.split(batch_size) if len(batch))


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


def _for(model: nn.Module, batch: Tensor) -> Tensor:
    # Device and dtype of the network, not of the images: callers keep images on the CPU.
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), batch)
    return batch.to(weight.device, weight.dtype)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int, classes: int | None) -> float:
    correct = 0
    with evaluating(model):
        for which in split_batches(torch.arange(len(labels)), batch_size):
            batch, given = images[which], labels[which]
            # Compared on the network's device; only the count is transferred.
            predicted = logits_of(model(_for(model, batch)), len(batch), classes).argmax(1)
            correct += int((predicted == given.to(predicted.device)).sum())
    return correct / len(labels)

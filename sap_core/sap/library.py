"""SAP on one network and a few images, without a task or a run around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.modes import evaluating
from sap_core.sap import gram, project, spectrum

Images = Tensor | Iterable[Tensor]
"""Preprocessed inputs: one tensor (N, ...), or batches (B, ...) of them."""


def sap_project(model: nn.Module, images: Images, alpha: float, batch_size: int = 256) -> nn.Module:
    """A copy of `model` whose weights are projected on what trusted images excite (SAP, Algorithm 1, given the trusted set).

    Args:
        model: any network of plain Linear, Conv2d and MultiheadAttention layers, each called once per forward pass; it is left
            untouched.
        images: trusted inputs as the network takes them (normalised, not augmented); they are moved to the network's device and type.
        alpha: importance knob, positive; the paper searches 2000 to 300000, larger is milder.
        batch_size: images per forward pass.

    Raises:
        UserError: no images, images that are not finite floats, an alpha that is not positive and finite, or a layer without handler.
        FloatingPointError: the network makes non-finite values of finite images.
    """
    spectrum.check_alpha(alpha)
    layers = _layers(model, images, batch_size, alphas=1)
    return project.with_weights(model, {name: each.at(alpha) for name, each in layers.items()})


@dataclass(frozen=True)
class Tuned:
    """What `sap_tune` found. `alpha` is None, and `model` the unmodified network, when no alpha is strictly better."""

    alpha: float | None
    model: nn.Module
    unmodified: float  # accuracy, a fraction in [0, 1]
    scores: Mapping[float, float]  # accuracy by alpha, mildest first


def sap_tune(
    model: nn.Module, trusted: Images, val_images: Tensor, val_labels: Tensor, alphas: Sequence[float], batch_size: int = 256
) -> Tuned:
    """Corrects `model` with each alpha and keeps the best by accuracy on a validation set: SAP's whole search from one pass of images.

    The unmodified network wins ties; among alphas a tie goes to the larger, that is, the milder.

    Args:
        model: see `sap_project`; untouched.
        trusted: trusted inputs, as the `images` of `sap_project`.
        val_images: (N, ...) validation inputs as the network takes them.
        val_labels: (N,) int64 classes to choose by; labels as noisy as those of training will do.
        alphas: the grid; repeated values count once.
        batch_size: images per forward pass.

    Returns:
        The best alpha, the network corrected with it, and the accuracy of every alpha and of the unmodified network.

    Raises:
        UserError: no alphas, no validation images or not one label for each, or what `sap_project` refuses.
        FloatingPointError: the network makes non-finite values of finite images.
    """
    if not alphas:
        raise UserError("sap_tune was given no alphas; the paper's range is 2000 to 300000")
    for alpha in alphas:
        spectrum.check_alpha(alpha)
    if len(val_images) != len(val_labels) or len(val_labels) == 0:
        raise UserError(
            f"sap_tune was given {len(val_images)} validation images and {len(val_labels)} labels; it needs one label per image"
        )
    layers = _layers(model, trusted, batch_size, len(set(alphas)))
    unmodified = _accuracy(model, val_images, val_labels, batch_size)
    best_alpha, best_model, best_score = None, model, unmodified
    scores: dict[float, float] = {}
    for alpha in sorted(set(alphas), reverse=True):
        corrected = project.with_weights(model, {name: each.at(alpha) for name, each in layers.items()})
        scores[alpha] = _accuracy(corrected, val_images, val_labels, batch_size)
        if scores[alpha] > best_score:
            best_alpha, best_model, best_score = alpha, corrected, scores[alpha]
    return Tuned(best_alpha, best_model, unmodified, scores)


def _layers(model: nn.Module, images: Images, batch_size: int, alphas: int) -> Mapping[str, project.FactoredWeight | spectrum.LinearSystem]:
    """Every layer that SAP corrects, ready for `alphas` alphas."""
    if batch_size < 1:
        raise UserError(f"batch_size is {batch_size}, but must be at least 1")
    moments = gram.init_moments(model)
    for batch in _batches(images, batch_size):
        moments = gram.observe(model, moments, _for(model, batch))
    if all(each.count == 0 for each in moments.values()):
        raise UserError("there are no trusted images; SAP needs at least one")
    gram.check_finite(moments)
    return project.prepare(model, moments, alphas)


def _batches(images: Images, batch_size: int) -> Iterator[Tensor]:
    for given in [images] if isinstance(images, Tensor) else images:
        if not isinstance(given, Tensor):
            raise UserError(f"trusted images must be a tensor (N, ...) or an iterable of such, but a {type(given).__name__} was given")
        if not given.is_floating_point():
            raise UserError(f"trusted images must be preprocessed floats as the network takes them, but they are {given.dtype}")
        if not given.isfinite().all():
            raise UserError("some trusted images hold NaN or infinity; remove or repair them")
        yield from (batch for batch in given.split(batch_size) if len(batch))


def _for(model: nn.Module, batch: Tensor) -> Tensor:
    weight = next(model.parameters())
    return batch.to(weight.device, weight.dtype)


def _accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    right = 0
    with evaluating(model):
        for batch, given in zip(images.split(batch_size), labels.split(batch_size), strict=True):
            predicted = model(_for(model, batch)).argmax(1)
            right += int((predicted == given.to(predicted.device)).sum())
    return right / len(labels)

"""Correct one network with several alphas, with one pass over the trusted images, and compare the results with the unmodified network.

Shapes: V validation images, B images of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from sap_core.errors import UserError
from sap_core.models.copies import check_copies
from sap_core.models.modes import evaluating
from sap_core.models.outputs import logits_of
from sap_core.sap import checks, gram, project, spectrum
from sap_core.sap.refusal import find_weights, warn_unreached
from sap_core.sap.weights import Sites, Weights


def check_alphas(alphas: object) -> tuple[float, ...]:
    """Return the distinct alphas, largest first.

    Raises:
        UserError: there are none, or one is not a positive finite number.
    """
    if isinstance(alphas, str) or not isinstance(alphas, Iterable):
        raise UserError(
            f"alphas is {alphas!r}, but must be several numbers, such as [30000.0, 3000.0]; sap_core.ALPHA16 has the paper's range"
        )
    found = []
    for alpha in alphas:
        try:
            # True is the number 1 and surely meant otherwise.
            found.append(float(alpha) if not isinstance(alpha, bool) else alpha)
        except (TypeError, ValueError):
            raise UserError(f"alphas contains {alpha!r}, which is no number; sap_core.ALPHA16 has the paper's range") from None
        spectrum.check_alpha(found[-1])
    if not found:
        raise UserError("there are no alphas to try; the paper's range is 2000 to 300000 (sap_core.ALPHA16)")
    return tuple(sorted(set(found), reverse=True))


@dataclass(frozen=True, eq=False)
class PreparedLayers:
    """Every weight that SAP corrects, prepared for several alphas."""

    sites: Sites
    layers: Mapping[str, project.FactoredWeight | spectrum.LinearSystem]

    def corrected(self, model: nn.Module, alpha: float) -> nn.Module:
        """Return a copy of `model` with projected weights (Algorithm 1, line 4)."""
        return project.with_weights(model, self.sites, {name: each.at(alpha) for name, each in self.layers.items()})


def examine(model: nn.Module, images: Tensor, leave: Sequence[str] = ()) -> Weights:
    """Return the weights of `model` that SAP corrects, and warn of those that no pass reaches.

    Args:
        model: the network; it is not changed.
        images: (B, ...) a few images as the network expects them.
        leave: patterns of names of parameters that stay as they are.

    Raises:
        UserError: the network cannot be copied, or a weight has no values yet or is not supported (see `find_weights`).
        FloatingPointError: a weight is not finite.
    """
    if lazy := next((name for name, parameter in model.named_parameters() if is_lazy(parameter)), None):
        raise UserError(f"'{lazy}' has no values, because a lazy layer takes its size from the first images; run model(images) once before")
    gram.check_batch(model, len(images))
    check_copies(model, images[:2], "the network")
    found = find_weights(model, images, leave)
    for name, parameter in model.named_parameters():
        # One in the last layer would reach no activation, and be noticed by nobody.
        if name not in found.unreached and not bool(parameter.isfinite().all()):
            raise FloatingPointError(f"'{name}' contains NaN or infinity, so the network has diverged")
    warn_unreached(found)
    return found


def prepare_layers(
    model: nn.Module, batches: Iterable[Tensor], alphas: int, leave: Sequence[str] = (), weights: Weights | None = None
) -> PreparedLayers:
    """Return every weight that SAP corrects, prepared for a number of alphas (Algorithm 1, lines 2 and 3).

    Args:
        model: the network; it is not changed.
        batches: trusted images (B, ...) on its device and in its precision.
        alphas: number of alphas.
        leave: patterns of names of parameters that stay as they are.
        weights: what `examine` returned; None: the first batch is examined.

    Raises:
        UserError: there are no images, or the network does not support SAP or the images.
        FloatingPointError: an activation is not finite.
    """
    moments: dict[str, gram.Moments] | None = None
    for batch in batches:
        with checks.shape_errors(batch, "trusted"):
            # The first images show how the network uses its weights.
            weights = weights or examine(model, batch, leave)
            moments = _observe(model, weights.sites, moments or gram.init_moments(weights.sites), batch)
    # An iterable may turn out empty only after it was consumed.
    if moments is None or weights is None:
        raise UserError("there are no trusted images, but SAP needs at least one")
    gram.check_finite(moments)
    return PreparedLayers(weights.sites, project.prepare(model, weights.sites, moments, alphas))


def _observe(model: nn.Module, sites: Sites, moments: dict[str, gram.Moments], batch: Tensor) -> dict[str, gram.Moments]:
    """Return the moments with one more batch; the outputs show whether the network took it for a batch."""

    def check(module: nn.Module, args: Any, outputs: Any) -> None:
        # A convolution takes an image without the dimension of the batch, and would be corrected from the wrong inputs.
        if isinstance(outputs, Tensor) and (outputs.ndim < 2 or len(outputs) != len(batch)):
            checks.check_outputs(outputs, len(batch), "trusted")

    hook = model.register_forward_hook(check)
    try:
        return gram.observe(model, sites, moments, batch)
    finally:
        hook.remove()


@dataclass(frozen=True, eq=False)
class Search:
    """Predictions of the unmodified network and of those corrected with each alpha.

    Attributes:
        unmodified: (V,) bool on the CPU, whether the unmodified network predicts the given label.
        corrected: the same for each alpha, largest first.
        alpha: the best alpha, or None if none is strictly better than the unmodified network.
        model: the network corrected with `alpha`, or None.
    """

    unmodified: Tensor
    corrected: Mapping[float, Tensor]
    alpha: float | None
    model: nn.Module | None

    @property
    def scores(self) -> dict[float, float]:
        """Accuracy by alpha, in [0, 1]."""
        return {alpha: accuracy(right) for alpha, right in self.corrected.items()}


def right_predictions(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Tensor:
    """Return (V,) bool on the CPU: whether the network predicts the given label of each image; outputs that are NaN predict none.

    Args:
        network: any network; it runs in evaluation mode.
        batches: images (B, ...) as the network expects them, and labels (B,) on any device.
        classes: number of classes.
    """
    found = []
    with evaluating(network):
        for images, labels in batches:
            outputs_BC = logits_of(network(images), len(images), classes)
            # `argmax` takes NaN for the largest value, so a network that overflowed would be right about that class.
            predicted = outputs_BC.argmax(1).where(~outputs_BC.isnan().any(1), -1)
            # Compared on the network's device; only the result is transferred.
            found.append((predicted == labels.to(predicted.device)).cpu())
    return torch.cat(found)


def accuracy(right_V: Tensor) -> float:
    """Return the fraction of images that are predicted correctly."""
    return int(right_V.sum()) / len(right_V)


def search_alphas(model: nn.Module, layers: PreparedLayers, alphas: tuple[float, ...], right: Callable[[nn.Module], Tensor]) -> Search:
    """Correct `model` with each alpha and select the best by validation accuracy (Algorithm 1, line 4).

    Args:
        model: the unmodified network.
        layers: its weights (see `prepare_layers`).
        alphas: the grid, as `check_alphas` returns it.
        right: returns (V,) bool on the CPU, whether a network predicts the given labels of the validation images.
    """
    unmodified = right(model)
    # Starts with the unmodified network, which a setting must beat strictly: without a gain nothing is changed.
    best_alpha, best_model, best_score = None, None, accuracy(unmodified)
    found: dict[float, Tensor] = {}
    # Largest first, and only a strictly better score replaces the best: ties go to the larger alpha, which changes the weights less.
    for alpha in alphas:
        corrected = layers.corrected(model, alpha)
        found[alpha] = right(corrected)
        if accuracy(found[alpha]) > best_score:
            best_alpha, best_model, best_score = alpha, corrected, accuracy(found[alpha])
    return Search(unmodified, found, best_alpha, best_model)

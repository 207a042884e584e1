"""SAP as in the released code: unfolded patches, float32 singular vectors, explicit projectors, dense products.

The reference of `sap_end_to_end` only; nothing else uses it. Like the released code it keeps at most 50,000 columns per layer, drawn at
random, and forms the projectors of two sample sets and both their products, of which the correction needs one projector.

Shapes: D inputs, N columns, Q = min(D, N), O outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_COLUMNS = 50_000
Spectrum = tuple[Tensor, Tensor]  # (D, Q) left singular vectors, (Q,) fractions of energy


def collect(model: nn.Module, images: Tensor, batch_size: int) -> dict[str, Tensor]:
    """Returns the float32 inputs of every convolution and linear layer as columns (D, N)."""
    columns: dict[str, list[Tensor]] = {}
    limit = MAX_COLUMNS // -(-len(images) // batch_size)  # columns per batch

    def keep(name: str, layer: nn.Module, x: Tensor) -> None:
        if isinstance(layer, nn.Conv2d):
            x = functional.unfold(x, layer.kernel_size, layer.dilation, layer.padding, layer.stride).transpose(1, 2)  # type: ignore[arg-type]
        rows = x.reshape(-1, x.shape[-1])
        columns.setdefault(name, []).append(rows[torch.randperm(len(rows))[:limit]] if len(rows) > limit else rows)

    hooks = [
        layer.register_forward_pre_hook(lambda layer, given, name=name: keep(name, layer, given[0]))
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        for batch in images.split(batch_size):
            model(batch)
    for hook in hooks:
        hook.remove()
    return {name: torch.cat(rows).T for name, rows in columns.items()}


def spectra(columns: Mapping[str, Tensor]) -> dict[str, Spectrum]:
    """Returns directions and energies of every layer's inputs."""
    found = {}
    for name, columns_DN in columns.items():
        vectors_DQ, values_Q, _ = torch.linalg.svd(columns_DN, full_matrices=False)
        found[name] = vectors_DQ, values_Q**2 / (values_Q**2).sum()
    return found


def corrected(model: nn.Module, retain: Mapping[str, Spectrum], forget: Mapping[str, Spectrum], alpha: float) -> nn.Module:
    """Returns a copy of `model` with W <- W M of the retain set. The other products are computed and unused, as in the released code."""
    model = copy.deepcopy(model)
    with torch.no_grad():
        for name in retain:
            wanted, other = _projector(retain[name], alpha), _projector(forget[name], alpha)
            wanted @ other
            other @ wanted
            weight = model.get_parameter(f"{name}.weight")
            weight.copy_((weight.flatten(1) @ wanted).view_as(weight))
    return model


def _projector(spectrum: Spectrum, alpha: float) -> Tensor:
    """Returns U diag(lambda) U^T, (D, D)."""
    vectors_DQ, energy_Q = spectrum
    return vectors_DQ @ torch.diag(alpha * energy_Q / ((alpha - 1) * energy_Q + 1)) @ vectors_DQ.T


def accuracy(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    """Returns the accuracy on the labels."""
    with torch.no_grad():
        right = [(model(x).argmax(1) == y).sum() for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)]
    return float(sum(right)) / len(labels)

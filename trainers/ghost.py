"""The norm of every sample's own gradient, from one backward pass that makes no sample's gradient: ghost norms.

A layer's gradient for sample i is a product of what it read and what came back to it, so its norm follows from these two:

    Linear        g_i a_i^T                   ||g_i||^2 ||a_i||^2, and ||g_i||^2 for the bias
    Conv2d        G_i A_i^T, A_i its patches  <A_i^T A_i, G_i^T G_i>, T x T for T output positions, where T is small;
                                              where it is not, the product itself, D x O, which is then the smaller of the two
    GroupNorm     sums over positions of g_i and of g_i times the normalised input, written out

Goodfellow, "Efficient per-example gradient computations", 2015; for convolutions Rochette, Manoel and Tramel, 2019, and, for the choice
between the two forms, Bu, Mao and Xu, "Scalable and efficient training of large convolutional neural networks with differential privacy",
NeurIPS 2022. PRL's released code makes all per-sample gradients (B times the network's parameters) by an early opacus.

Only what is read and what comes back is kept; gradients of weights are not computed at all. Products are made for a few samples at a time.

Shapes: B batch, T output positions, D inputs of a weight (channels x kernel), O outputs, K groups of a convolution, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from sap_core.errors import UserError
from sap_core.patches import ConvInputs

LAYERS = (nn.Linear, nn.Conv2d, nn.GroupNorm)
"""Layers whose weights are understood."""

PIECE = 2**22
"""Products are made for so many values (16 MiB of float32) at a time."""


@dataclass(frozen=True, eq=False)
class Use:
    """One layer in one pass: what it read, and where its outputs' gradient will come back."""

    layer: nn.Module
    read: Tensor
    back: GradientEdge


def check(model: nn.Module, trainer: str) -> None:
    """Asks whether every sample's gradient is defined, and every layer understood.

    Raises:
        UserError: batch norm couples the samples; a layer with weights is not understood; two layers share a weight.
    """
    owners: dict[int, str] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            raise UserError(
                f"trainer '{trainer}' needs the gradient of each sample by itself, but batch norm ('{name}') makes a sample's outputs "
                f"depend on the others of its mini-batch; use a network with group norm, such as model=resnet32_gn"
            )
        own = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
        if own and type(layer) not in LAYERS:
            raise UserError(
                f"trainer '{trainer}' takes per-sample gradients of Linear, Conv2d and GroupNorm layers alone, but '{name}' "
                f"is a {type(layer).__name__} with weights; use another model, or trainer={trainer.removesuffix('g')}l"
            )
        for parameter in own:
            if owners.setdefault(id(parameter), name) != name:
                raise UserError(
                    f"trainer '{trainer}' cannot take per-sample gradients of a weight that '{owners[id(parameter)]}' and '{name}' share; "
                    f"use another model"
                )


@contextmanager
def watched(model: nn.Module) -> Iterator[list[Use]]:
    """The uses of all layers with weights in the pass that is made inside.

    Raises:
        UserError: a layer is used twice in one pass, which would mix two gradients.
    """
    uses: list[Use] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> None:
        if any(use.layer is layer for use in uses):
            raise UserError(f"per-sample gradients need layers that are used once in a pass, but {layer} is used again; use another model")
        uses.append(Use(layer, inputs[0].detach(), get_gradient_edge(outputs)))

    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS) and any(p.requires_grad for p in layer.parameters())]
    handles = [layer.register_forward_hook(note) for layer in layers]
    try:
        yield uses
    finally:
        for handle in handles:
            handle.remove()


def squared_norms(uses: Sequence[Use], losses_B: Tensor, keep_graph: bool = False) -> Tensor:
    """(B,) squared norm of the gradient of each sample's loss with respect to all weights that are trained."""
    back = torch.autograd.grad(losses_B.sum(), [use.back for use in uses], retain_graph=keep_graph)
    with torch.no_grad():
        return torch.stack([of_layer(use.layer, use.read, gradient) for use, gradient in zip(uses, back, strict=True)]).sum(0)


def of_layer(layer: nn.Module, read: Tensor, back: Tensor) -> Tensor:
    """(B,) one layer's part of the squared norms. `read` and `back` have the shapes of its inputs and outputs."""
    weight, bias = (getattr(layer, name) is not None and getattr(layer, name).requires_grad for name in ("weight", "bias"))
    total_B = back.new_zeros(len(back))
    if isinstance(layer, nn.GroupNorm):
        normal = functional.group_norm(read, layer.num_groups, eps=layer.eps)
        back_BCT = back.flatten(2) if back.ndim > 2 else back.unsqueeze(2)
        if weight:
            total_B += (back_BCT * normal.reshape(back_BCT.shape)).sum(2).square().sum(1)
        return total_B + back_BCT.sum(2).square().sum(1) if bias else total_B
    if isinstance(layer, nn.Conv2d):
        back_BOT = back.flatten(2)
        if weight:
            total_B += _of_convolution(layer, read, back_BOT)
    else:
        back_BOT = back.reshape(len(back), -1, back.shape[-1]).mT
        if weight:
            read_BDT = read.reshape(len(read), -1, read.shape[-1]).mT
            total_B += product_norms(back_BOT, read_BDT)
    return total_B + back_BOT.sum(2).square().sum(1) if bias else total_B


def _of_convolution(layer: nn.Conv2d, read: Tensor, back_BOT: Tensor) -> Tensor:
    geometry = ConvInputs.of(layer)
    groups, positions = geometry.groups, back_BOT.shape[2]
    mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
    each = groups * geometry.inputs * positions
    parts = []
    for images, back in zip(*(tensor.split(max(1, PIECE // each)) for tensor in (read, back_BOT)), strict=True):
        padded = functional.pad(images, geometry.padding, mode=mode)
        patches = functional.unfold(padded, geometry.kernel, geometry.dilation, stride=geometry.stride)
        grouped = (tensor.reshape(len(images) * groups, -1, positions) for tensor in (back, patches))
        parts.append(product_norms(*grouped).reshape(-1, groups).sum(1))
    return torch.cat(parts)


def product_norms(back_BOT: Tensor, read_BDT: Tensor) -> Tensor:
    """(B,) squared Frobenius norm of back read^T, in the form that takes less arithmetic (and so holds the smaller matrix)."""
    _, outputs, positions = back_BOT.shape
    inputs = read_BDT.shape[1]
    if positions == 1:
        return back_BOT.square().sum((1, 2)) * read_BDT.square().sum((1, 2))
    grams = positions * (inputs + outputs) <= inputs * outputs
    each = 2 * positions**2 if grams else inputs * outputs
    parts = []
    for back, read in zip(*(tensor.split(max(1, PIECE // each)) for tensor in (back_BOT, read_BDT)), strict=True):
        if grams:
            parts.append(((back.mT @ back) * (read.mT @ read)).sum((1, 2)))
        else:
            parts.append((back @ read.mT).square().sum((1, 2)))
    return torch.cat(parts)

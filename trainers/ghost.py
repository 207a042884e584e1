"""Ghost norms: the norm of every sample's gradient from one backward pass, without computing any sample's gradient.

A layer's gradient for sample i is a product of its input and of the gradient at its output, so the norm follows from these two:

    Linear        g_i a_i^T                   ||g_i||^2 ||a_i||^2, and ||g_i||^2 for the bias
    Conv2d        G_i A_i^T, A_i its patches  <A_i^T A_i, G_i^T G_i>, T x T for T output positions, where T is small;
                                              otherwise the product itself, one kernel tap (C x O) at a time
    GroupNorm     sums over positions of g_i and of g_i times the normalised input, written out

Goodfellow, "Efficient per-example gradient computations", 2015; for convolutions Rochette, Manoel and Tramel, 2019, and, for the choice
between the two forms, Bu, Mao and Xu, "Scalable and efficient training of large convolutional neural networks with differential privacy",
NeurIPS 2022. PRL's released code computes all per-sample gradients (B times the network's parameters) with an early opacus.

Gradients of weights are not computed at all, the gradient at a layer's output is released once its norms are computed, and products are
formed for a few samples at a time to bound memory.

Shapes: B batch, T output positions, D inputs of a weight (channels x kernel), O outputs, K groups of a convolution, C channels.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from sap_core.errors import UserError
from sap_core.im2col import ConvInputs

LAYERS = (nn.Linear, nn.Conv2d, nn.GroupNorm)
"""Supported layers with weights."""

CHUNK = 2**20
"""Number of values of a product that is formed at a time: 4 MiB of float32."""


def check(model: nn.Module, trainer: str, precision: str = "float32") -> None:
    """Checks that per-sample gradients are defined for the network, that all layers are supported, and that the precision can rank norms.

    Raises:
        UserError: there is batch norm, which couples samples, an unsupported layer with weights, or a weight shared by two layers; or
            training in bf16.
    """
    if precision == "bf16":
        raise UserError(
            f"trainer '{trainer}' ranks norms of gradients, which bf16 rounds to three digits; use trainer.precision=float32 or tf32"
        )
    owners: dict[int, str] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, _BatchNorm):
            raise UserError(
                f"trainer '{trainer}' needs the gradient of each sample on its own, but batch norm ('{name}') makes a sample's outputs "
                f"depend on the others of its mini-batch; use a network with group norm, such as model=resnet32_gn"
            )
        own = [parameter for parameter in layer.parameters(recurse=False) if parameter.requires_grad]
        if own and type(layer) not in LAYERS:
            raise UserError(
                f"trainer '{trainer}' supports per-sample gradients of Linear, Conv2d and GroupNorm layers only, but '{name}' "
                f"is a {type(layer).__name__} with weights; use another model, or trainer={trainer.removesuffix('g')}l"
            )
        # The gradient of a shared weight is the sum of its layers' contributions, and the norm of a sum does not follow from the norms.
        for parameter in own:
            if owners.setdefault(id(parameter), name) != name:
                raise UserError(
                    f"trainer '{trainer}' has no per-sample gradients for a weight shared by '{owners[id(parameter)]}' and '{name}'; "
                    f"use another model"
                )


def squared_norms(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    inputs_B: Tensor,
    losses_of: Callable[[Tensor], Tensor],
    keep_graph: bool = False,
) -> tuple[Tensor, Tensor]:
    """Returns the (B,) squared norms of each sample's gradient with respect to all trainable weights, and the outputs (B, C).

    `forward` is the model's forward pass (or one that also counts it); `losses_of` maps outputs to (B,) losses. With `keep_graph` the
    outputs can be used in a further backward pass.

    Raises:
        UserError: a layer is used twice in one pass, which would mix two gradients.
    """
    total_B = inputs_B.new_zeros(len(inputs_B))
    # So that the backward pass reaches every layer.
    inputs_B = inputs_B.detach().requires_grad_()
    handles_of: dict[nn.Module, RemovableHandle] = {}

    def on_forward(layer: nn.Module, read: tuple[Tensor, ...], outputs: Tensor) -> None:
        if layer in handles_of:
            raise UserError(
                f"per-sample gradients need layers that are called once per forward pass, but {layer} is called twice; use another model"
            )
        # A hook of the output, not a list to work off later: the layer's norms are computed as its gradient arrives, which can then be
        # released.
        handles_of[layer] = outputs.register_hook(partial(add, layer, read[0].detach()))

    @torch.no_grad()
    def add(layer: nn.Module, read: Tensor, back: Tensor) -> None:
        total_B.add_(of_layer(layer, read, back))

    # Layers whose weights are all frozen contribute nothing to the norm.
    layers = [layer for layer in model.modules() if isinstance(layer, LAYERS) and any(p.requires_grad for p in layer.parameters())]
    handles = [layer.register_forward_hook(on_forward) for layer in layers]
    try:
        with torch.enable_grad():
            outputs_BC = forward(inputs_B)
            # Samples do not interact, so the gradient of the sum is every sample's own. It is asked for at the inputs only: no weight's
            # gradient is formed.
            torch.autograd.grad(losses_of(outputs_BC).sum(), inputs_B, retain_graph=keep_graph)
    finally:
        for handle in (*handles, *handles_of.values()):
            handle.remove()
    return total_B, outputs_BC


def of_layer(layer: nn.Module, read: Tensor, back: Tensor) -> Tensor:
    """Returns the (B,) contribution of one layer, from its inputs `read` and the gradients `back` at its outputs."""
    weight, bias = (getattr(layer, name) is not None and getattr(layer, name).requires_grad for name in ("weight", "bias"))
    total_B = back.new_zeros(len(back))
    if isinstance(layer, nn.GroupNorm):
        # The scale's gradient is the sum over positions of `back` times the normalised input, the shift's that of `back`.
        normal = functional.group_norm(read, layer.num_groups, eps=layer.eps)
        back_BCT = back.flatten(2) if back.ndim > 2 else back.unsqueeze(2)
        if weight:
            total_B += (back_BCT * normal.reshape(back_BCT.shape)).sum(2).square().sum(1)
        return total_B + back_BCT.sum(2).square().sum(1) if bias else total_B
    if isinstance(layer, nn.Conv2d):
        back_BOT = back.flatten(2)
        if weight:
            total_B += _of_convolution(layer, read, back)
    else:
        back_BOT = back.reshape(len(back), -1, back.shape[-1]).mT
        if weight:
            read_BDT = read.reshape(len(read), -1, read.shape[-1]).mT
            total_B += product_norms(back_BOT, read_BDT)
    return total_B + back_BOT.sum(2).square().sum(1) if bias else total_B


def _of_convolution(layer: nn.Conv2d, read: Tensor, back: Tensor) -> Tensor:
    """Returns the (B,) contribution of a convolution's weight, from inputs (B, K C, H, W) and output gradients (B, O, P, Q)."""
    geometry = ConvInputs.from_module(layer)
    output_size, back_BOT = (back.shape[2], back.shape[3]), back.flatten(2)
    groups, inputs, positions = geometry.groups, geometry.inputs, back_BOT.shape[2]
    mode = "constant" if geometry.padding_mode == "zeros" else geometry.padding_mode
    small = gram_form(inputs, back_BOT.shape[1] // groups, positions)
    # Values that one image needs at a time, from which the number of images in a piece follows.
    each = groups * inputs * positions if small else read[0].numel()
    norms = []
    for images, piece in zip(*(tensor.split(max(1, CHUNK // each)) for tensor in (read, back_BOT)), strict=True):
        padded = functional.pad(images, geometry.padding, mode=mode)
        if small:
            patches = functional.unfold(padded, geometry.kernel, geometry.dilation, stride=geometry.stride)
            # Groups share no weights, so each is treated as a sample of its own, and a sample's groups are added up.
            grouped = (tensor.reshape(len(images) * groups, -1, positions) for tensor in (piece, patches))
            norms.append(product_norms(*grouped).reshape(-1, groups).sum(1))
        else:
            norms.append(_tap_by_tap(geometry, padded, piece, output_size))
    return torch.cat(norms)


def _tap_by_tap(geometry: ConvInputs, padded: Tensor, back_BOT: Tensor, output_size: tuple[int, int]) -> Tensor:
    """As `_of_convolution`, with products O x C for one kernel tap at a time, so that no patches are copied."""
    count, groups = len(padded), geometry.groups
    back_BKOT = back_BOT.reshape(count, groups, -1, back_BOT.shape[2])
    # A tap of the kernel is then a strided view with adjacent channels, where unfolding would copy every pixel once per tap.
    channels_last = padded.permute(0, 2, 3, 1).contiguous()
    total_B = padded.new_zeros(count)
    for taps in itertools.product(*map(range, geometry.kernel)):
        rows, columns = (
            slice(tap * step, tap * step + (number - 1) * stride + 1, stride)
            for tap, step, number, stride in zip(taps, geometry.dilation, output_size, geometry.stride, strict=True)
        )
        read_BKTC = channels_last[:, rows, columns].reshape(count, back_BOT.shape[2], groups, -1).transpose(1, 2)
        # Different taps are different entries of the weight, so their squared norms add up.
        total_B += (back_BKOT @ read_BKTC).square().sum((1, 2, 3))
    return total_B


def gram_form(inputs: int, outputs: int, positions: int) -> bool:
    """Do two Gram matrices over positions take less arithmetic than the product over positions?"""
    return positions * (inputs + outputs) <= inputs * outputs


def product_norms(back_BOT: Tensor, read_BDT: Tensor) -> Tensor:
    """Returns the (B,) squared Frobenius norms of back read^T, in the form with less arithmetic, whose matrices are also smaller."""
    _, outputs, positions = back_BOT.shape
    inputs = read_BDT.shape[1]
    # The product has rank one, and its norm is a product of norms.
    if positions == 1:
        return back_BOT.square().sum((1, 2)) * read_BDT.square().sum((1, 2))
    grams = gram_form(inputs, outputs, positions)
    each = 2 * positions**2 if grams else inputs * outputs
    norms = []
    for back, read in zip(*(tensor.split(max(1, CHUNK // each)) for tensor in (back_BOT, read_BDT)), strict=True):
        # ||B R^T||^2 is the trace of (B^T B)(R^T R), the sum over entries of both Gram matrices' product.
        if grams:
            norms.append(((back.mT @ back) * (read.mT @ read)).sum((1, 2)))
        else:
            norms.append((back @ read.mT).square().sum((1, 2)))
    return torch.cat(norms)

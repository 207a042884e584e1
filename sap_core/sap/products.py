"""Products of a matrix of weights with activations, as torch's operators compute them.

Whatever a network's Python code says (`nn.Linear`, `functional.linear`, `x @ w.T`, `einsum`), it arrives at one of these few operators.

Shapes: K groups, O outputs per group, D inputs per group, N columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sap_core.im2col import ConvInputs
from sap_core.sap.layers import LayerInputs, LinearInputs
from sap_core.sap.layouts import ConvNdInputs, GroupedInputs
from sap_core.sap.regions import Region, Regions

aten = torch.ops.aten


@dataclass(frozen=True)
class Product:
    """One reading of an operator as weights times inputs.

    Attributes:
        weight: a view of an operand; `weight.reshape(K, -1, D)` are the matrices (K, O, D).
        inputs: the other operand, of which `layout` makes columns.
        layout: layout of the inputs.
        batched: whether the first axis of `weight` is the batch of a batched product, along which the same matrices may be repeated.
    """

    weight: Tensor
    inputs: Tensor
    layout: LayerInputs
    batched: bool = False


def products(operator: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Product]:
    """Return the ways in which a call may multiply weights with inputs; either operand of a matrix product may be the weight."""
    reader = _READERS.get(operator)
    return [] if reader is None else reader(*args, **kwargs)


def operands(operator: Any, args: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors that a matrix product multiplies with each other; none for other operators."""
    first = _FIRST_OPERAND.get(operator)
    return [] if first is None else list(args[first : first + 2])


def is_product(operator: Any) -> bool:
    """Return whether the operator is a product that `products` can read."""
    return operator in _READERS


def matched(regions: Regions, product: Product) -> tuple[Region, Product] | None:
    """Return the elements of a parameter that are the weight of a product; None if the weight is no view or copy of one parameter.

    Of a weight that is repeated along the batch of a batched product, the region and the returned product have one copy.
    """
    region = regions.region(product.weight)
    if region is None:
        return None
    if product.batched:
        batch, rows, inputs = product.weight.shape
        if batch == 1 or (region.index is None and region.stride[0] == 0):
            region = Region(
                region.parameter, (rows, inputs), region.stride[1:], region.start, None if region.index is None else region.index[0]
            )
            product = Product(product.weight, product.inputs.reshape(-1, inputs), LinearInputs(inputs))
        elif region.index is not None:
            used = _without_repetition(product, region.index)
            if used is None:
                return None
            product, once = used
            region = Region(region.parameter, tuple(once.shape), index=once)
    return None if region.repeats() else (region, product)


def _without_repetition(product: Product, index: Tensor) -> tuple[Product, Tensor] | None:
    """Return a batched product without repeated matrices, and the elements of its weight; None if the order is irregular.

    A weight of several heads is copied for every image before it is multiplied; then the inputs of a head are put together.
    """
    batch, _, inputs = index.shape
    rows = product.inputs.reshape(batch, -1, inputs)
    count = len(index[:, 0, 0].unique())
    if batch % count:
        return None
    times = batch // count
    if torch.equal(index, index[:count].repeat(times, 1, 1)):
        once, rows = index[:count], rows.unflatten(0, (times, count)).transpose(0, 1).reshape(count, -1, inputs)
    elif torch.equal(index, index[::times].repeat_interleave(times, 0)):
        once, rows = index[::times], rows.reshape(count, -1, inputs)
    else:
        return None
    layout = LinearInputs(inputs) if count == 1 else GroupedInputs(inputs, count)
    return Product(product.weight, rows, layout), once


def _mm(first: Tensor, second: Tensor, **_: Any) -> list[Product]:
    # x W^T, the common case, or W x.
    layout = LinearInputs(first.shape[1])
    return [Product(second.mT, first, layout), Product(first, second.mT, layout)]


def _addmm(_: Tensor, first: Tensor, second: Tensor, **options: Any) -> list[Product]:
    return _mm(first, second)


def _mv(matrix: Tensor, vector: Tensor, **_: Any) -> list[Product]:
    layout = LinearInputs(len(vector))
    return [Product(vector.unsqueeze(0), matrix, layout), Product(matrix, vector.unsqueeze(0), layout)]


def _addmv(_: Tensor, matrix: Tensor, vector: Tensor, **options: Any) -> list[Product]:
    return _mv(matrix, vector)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> list[Product]:
    return [Product(weight, x, LinearInputs(weight.shape[-1]))]


def _bmm(first: Tensor, second: Tensor, **_: Any) -> list[Product]:
    layout = GroupedInputs(first.shape[2], len(first))
    return [Product(second.mT, first, layout, batched=True), Product(first, second.mT, layout, batched=True)]


def _baddbmm(_: Tensor, first: Tensor, second: Tensor, **options: Any) -> list[Product]:
    return _bmm(first, second)


def _convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    *_: Any,
) -> list[Product]:
    if transposed:
        # Each pixel's vector of channels is multiplied with the (O kernel, C) matrix, and the results are added up where they overlap.
        matrix = weight.unflatten(0, (groups, -1)).movedim(1, -1)
        pixels = x.movedim(1, -1)
        if groups == 1:
            return [Product(matrix, pixels, LinearInputs(weight.shape[0]))]
        pixels = pixels.unflatten(-1, (groups, -1)).movedim(-2, 0)
        return [Product(matrix, pixels, GroupedInputs(weight.shape[0] // groups, groups))]
    dimensions = weight.ndim - 2
    channels, kernel = weight.shape[1], tuple(weight.shape[2:])
    # torch passes one number where all dimensions have the same.
    sizes = [tuple(size) * dimensions if len(size) == 1 else tuple(size) for size in (stride, dilation, padding)]
    if dimensions != 2:
        return [Product(weight, x, ConvNdInputs(groups, channels, kernel, *sizes))]
    rows, columns = sizes[2]
    geometry: Any = (kernel, sizes[0], sizes[1], (columns, columns, rows, rows), "zeros")
    return [Product(weight, x, ConvInputs(groups, channels, *geometry))]


_READERS: dict[Any, Callable[..., list[Product]]] = {
    aten.mm.default: _mm,
    aten.addmm.default: _addmm,
    aten.mv.default: _mv,
    aten.addmv.default: _addmv,
    aten.linear.default: _linear,
    aten.bmm.default: _bmm,
    aten.baddbmm.default: _baddbmm,
    aten.convolution.default: _convolution,
}

_FIRST_OPERAND: dict[Any, int] = {
    operator: 1 if operator in (aten.addmm.default, aten.addmv.default, aten.baddbmm.default) else 0 for operator in _READERS
}

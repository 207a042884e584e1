"""A network's outputs with projected inputs instead of projected weights, for comparison with SAP.

Written without SAP's layouts of inputs: the inputs of a product are projected where torch multiplies them, with a projector of what the
same weight met in the unmodified network, found by a singular value (or, of many columns, an eigenvalue) decomposition.

Shapes: N columns, D inputs, K groups.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sap_core.models.modes import observable
from sap_core.sap.regions import Region, Regions
from sap_core.sap.trace import ObservingMode

aten = torch.ops.aten
Rows = Tensor
"""(K, N, D) inputs of K matrices as rows."""


@torch.no_grad()
def projected_outputs(model: nn.Module, images: Tensor, corrected: Set[str], alpha: float) -> Tensor:
    """Return the outputs of `model` (in evaluation mode) if every input of the parameters `corrected` is projected.

    Args:
        model: the network, in float64.
        images: trusted images, which are also the inputs.
        corrected: names of parameters.
        alpha: of SAP.
    """
    parameters = {name: parameter for name, parameter in model.named_parameters() if name in corrected}
    seen: dict[Hashable, list[Rows]] = {}

    def keep(key: Hashable, rows: Rows) -> Rows:
        # Of more rows than inputs the sum of products suffices.
        seen.setdefault(key, []).append(rows.clone())
        if sum(each.shape[1] for each in seen[key]) > 2 * rows.shape[2]:
            both = torch.cat(seen[key], dim=1)
            values, vectors = torch.linalg.eigh(both.mT @ both)
            seen[key] = [values.clamp(min=0).sqrt().unsqueeze(-1) * vectors.mT]
        return rows

    with observable(), _Rows(parameters, keep):
        model(images)
    projectors: Mapping[Hashable, Tensor] = {}

    def project(key: Hashable, rows: Rows) -> Rows:
        directions, scale = projectors[key]
        return (rows @ directions.mT * scale.unsqueeze(-2)) @ directions

    projectors = {key: _directions(torch.cat(rows, dim=1), alpha) for key, rows in seen.items()}
    with observable(), _Rows(parameters, project):
        return model(images)


def _directions(rows: Rows, alpha: float) -> tuple[Tensor, Tensor]:
    """(K, Q, D) directions of the rows, and (K, Q) the importance of each."""
    _, values, directions = torch.linalg.svd(rows, full_matrices=False)
    energy = values**2 / (values**2).sum(-1, keepdim=True).clamp(min=1e-300)
    return directions, alpha * energy / ((alpha - 1) * energy + 1)


class _Rows(ObservingMode):
    """Passes the inputs of products with parameters through a function before they are multiplied."""

    def __init__(self, parameters: Mapping[str, Tensor], through: Callable[[Hashable, Rows], Rows]) -> None:
        super().__init__()
        self._regions = Regions(parameters)
        self._through = through

    def observe(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if operator is aten.convolution.default and (region := self._regions.region(args[1])) is not None:
            key = (region.parameter, region.start)
            return (self._transposed if args[6] else self._convolved)(key, *args)
        first = FIRST_FACTOR.get(operator)
        if first is not None:
            factors = list(args[first : first + 2])
            for weight, other in ((1, 0), (0, 1)):
                region = self._regions.region(factors[weight])
                if region is not None:
                    # The summed axis is the last one of the first factor, and the last but one (or the only one) of the second.
                    across = other == 1 and factors[other].ndim > 1
                    rows = factors[other].mT if across else factors[other]
                    rows = self._rows(region, factors[weight].ndim == 3, rows)
                    factors[other] = rows.mT if across else rows
                    break
            args = (*args[:first], *factors, *args[first + 2 :])
        result = operator(*args, **kwargs)
        self._regions.follow(operator, args, result)
        return result

    def _rows(self, region: Region, batched: bool, rows: Tensor) -> Tensor:
        if not batched:
            return self._through((region.parameter, region.start), rows.reshape(1, -1, rows.shape[-1])).view_as(rows)
        # Each matrix of a batch by the place of its first element, so that copies of one matrix are one.
        places = region.elements[:, 0, 0].tolist()
        parts = [self._through((region.parameter, place), rows[k : k + 1]) for k, place in enumerate(places)]
        return torch.cat(parts)

    def _convolved(self, key: Hashable, x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        stride, padding, dilation, _, _, groups = geometry
        if weight.ndim == 3:
            # A convolution of sequences is one of images of height one.
            x, weight = x.unsqueeze(2), weight.unsqueeze(2)
            stride, padding, dilation = [1, *stride], [0, *padding], [1, *dilation]
            return self._convolved(key, x, weight, bias, stride, padding, dilation, False, [0, 0], groups).squeeze(2)
        patches = functional.unfold(x, weight.shape[2:], dilation, padding, stride)  # (B, K D, L)
        rows = patches.unflatten(1, (groups, -1)).permute(1, 0, 3, 2)  # (K, B, L, D)
        rows = self._through(key, rows.flatten(1, 2)).view(rows.shape)
        made = torch.einsum("kbld,kod->bkol", rows, weight.reshape(groups, -1, rows.shape[-1])).flatten(1, 2)
        if bias is not None:
            made = made + bias[:, None]
        size = [
            (length + 2 * pad - step * (taps - 1) - 1) // jump + 1
            for length, pad, step, taps, jump in zip(x.shape[2:], padding, dilation, weight.shape[2:], stride, strict=True)
        ]
        return made.unflatten(2, size)

    def _transposed(self, key: Hashable, x: Tensor, *rest: Any) -> Tensor:
        groups = rest[-1]
        pixels = x.movedim(1, -1).unflatten(-1, (groups, -1)).movedim(-2, 0)  # (K, B, ..., D)
        pixels = self._through(key, pixels.flatten(1, -2)).view(pixels.shape)
        return aten.convolution.default(pixels.movedim(0, -2).flatten(-2).movedim(-1, 1), *rest)


FIRST_FACTOR = {
    aten.mm.default: 0, aten.mv.default: 0, aten.bmm.default: 0,
    aten.addmm.default: 1, aten.addmv.default: 1, aten.baddbmm.default: 1,
}  # fmt: skip
"""Matrix products -> position of the first of their two factors."""

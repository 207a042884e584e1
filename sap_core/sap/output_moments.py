"""Streaming second moments of layer outputs, for the projections of outputs in SAP's released code.

Only layers whose output is weight times input plus bias are supported: Linear and Conv2d.

Shapes: K groups, O outputs per group, N columns (positions, tokens or samples), B images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.im2col import CHUNK_BYTES, sum_in_place
from sap_core.sap.gram import Moments
from sap_core.sap.layers import described
from sap_core.sap.weights import WeightSite


@dataclass(frozen=True)
class LayerOutputs:
    """Layout of a layer's outputs, tensors (..., K O) with channels last; implements `sap_core.sap.layers.LayerInputs`."""

    inputs: int  # O; named as in LayerInputs, whose columns have this length
    groups: int = 1

    @property
    def flops_per_column(self) -> float:
        # One multiply-add per entry of the (O, O) Gram matrix and group.
        return 2 * self.groups * self.inputs**2

    def count_columns(self, x: Tensor) -> int:
        return x.numel() // (self.inputs * self.groups)

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        width = self.inputs * self.groups
        # Chunks bound the float64 copy of a large feature map.
        for vectors in x.reshape(-1, width).split(max(1, CHUNK_BYTES // (8 * width))):
            yield vectors.to(torch.float64).view(-1, self.groups, self.inputs).permute(1, 2, 0)

    def partial_gram(self, x: Tensor) -> Tensor:
        return sum_in_place(columns_KON @ columns_KON.mT for columns_KON in self.column_chunks(x))

    def gram(self, sums: Tensor) -> Tensor:
        return sums


def init_moments(model: nn.Module, sites: Mapping[str, WeightSite]) -> dict[str, Moments]:
    """Return empty moments for the outputs of the layers that SAP corrects, by the name of the weight.

    Raises:
        UserError: a weight is not that of one layer, which is a Linear or a Conv2d and is called by no other name.
    """
    modules = dict(model.named_modules())
    moments = {}
    for name, site in sites.items():
        layers = [layer for layer, _ in site.calls] or [site.region.parameter.rpartition(".")[0]]
        module = modules[layers[0]]
        # P^T applied to an output is P^T W and P^T b only where the output is W x + b; attention's output is not.
        if len(layers) > 1 or not site.calls or not isinstance(module, nn.Linear | nn.Conv2d):
            raise UserError(f"the output side of {described(layers[0], module)} cannot be projected; set side=input for this network")
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        # The same accumulator as for inputs: a layer's outputs are columns like any others.
        outputs = math.prod(site.region.size) // (site.layout.groups * site.layout.inputs)
        moments[name] = Moments(LayerOutputs(outputs, groups))
    return moments


@contextmanager
def recording_outputs(model: nn.Module, sites: Mapping[str, WeightSite], moments: Mapping[str, Moments]) -> Iterator[dict[str, Moments]]:
    """Yield a copy of `moments` to which forward passes of `model` within the block add the layers' outputs."""
    modules, updated = dict(model.named_modules()), dict(moments)
    layers = {name: sites[name].calls[0][0] for name in moments}

    def observer(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            # Every position of a feature map is one output vector.
            channels_last = output.movedim(1, -1) if isinstance(module, nn.Conv2d) else output
            # Outputs are never shared between layers, so no cache is needed.
            updated[name] = updated[name].updated(channels_last)

        return hook

    hooks = [modules[layer].register_forward_hook(observer(name)) for name, layer in layers.items()]
    try:
        yield updated
    finally:
        for hook in hooks:
            hook.remove()

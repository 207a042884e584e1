"""Streaming second moments of layer outputs, for the projections that SAP's released code offers on that side.

Only layers whose output is their weights times their input, plus a bias, take part: Linear and Conv2d.

Shapes: K groups, O outputs per group, N columns (positions, tokens or samples), B images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.im2col import PIECE_BYTES, sum_of
from sap_core.sap.gram import Moments
from sap_core.sap.layers import called, sites


@dataclass(frozen=True)
class Outputs:
    """The outputs of one layer, channels last: (..., K * O) tensors; a handler as `sap_core.sap.layers.Handler`."""

    inputs: int  # O
    groups: int = 1

    @property
    def flops_per_column(self) -> float:
        return 2 * self.groups * self.inputs**2

    def columns(self, x: Tensor) -> int:
        return x.numel() // (self.inputs * self.groups)

    def pieces(self, x: Tensor) -> Iterator[Tensor]:
        width = self.inputs * self.groups
        for vectors in x.reshape(-1, width).split(max(1, PIECE_BYTES // (8 * width))):
            yield vectors.to(torch.float64).view(-1, self.groups, self.inputs).permute(1, 2, 0)

    def sums(self, x: Tensor) -> Tensor:
        return sum_of(columns_KON @ columns_KON.mT for columns_KON in self.pieces(x))

    def gram(self, sums: Tensor) -> Tensor:
        return sums


def unseen(model: nn.Module) -> dict[str, Moments]:
    """The outputs of the layers that SAP corrects, by the same names, none of which has been seen yet.

    Raises:
        UserError: a layer is neither Linear nor Conv2d.
    """
    modules = dict(model.named_modules())
    moments = {}
    for name, site in sites(model).items():
        module = modules[site.layer]
        if not isinstance(module, nn.Linear | nn.Conv2d):
            raise UserError(f"the output side of {called(site.layer, module)} cannot be projected; set side=input for this network")
        groups = module.groups if isinstance(module, nn.Conv2d) else 1
        moments[name] = Moments(Outputs(site.weight.shape[0] // groups, groups))
    return moments


@contextmanager
def watching(model: nn.Module, moments: Mapping[str, Moments]) -> Iterator[dict[str, Moments]]:
    """Inside, a forward pass of `model` adds the layers' outputs to the yielded copy of `moments`."""
    modules, updated = dict(model.named_modules()), dict(moments)

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def hook(module: nn.Module, args: object, output: Tensor) -> None:
            channels_last = output.movedim(1, -1) if isinstance(module, nn.Conv2d) else output
            updated[name] = updated[name].plus(channels_last)

        return hook

    hooks = [modules[name].register_forward_hook(watch(name)) for name in moments]
    try:
        yield updated
    finally:
        for hook in hooks:
            hook.remove()

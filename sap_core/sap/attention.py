"""Inputs of the four weights of torch's `MultiheadAttention`.

The query, key and value weights are multiplied with the arguments of the call. The input of `out_proj` never leaves the module, which
passes that weight to a function (or to a fused kernel) without calling the layer, so a forward hook on it never fires. Therefore the call
is repeated with the identity matrix as `out_proj`: for any mask, extra key or kernel it then returns the concatenated heads, and exactly,
because the sum of one number and zeros is not rounded. The repeated call counts in seconds but not in FLOPs, and the output of the network
is not affected.

Shapes: E embedding; all others as `MultiheadAttention` has them.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

_SIGNATURE = inspect.signature(nn.MultiheadAttention.forward)


class _Unhooked(nn.Module):
    """Calls the `forward` of a module without its hooks, which would otherwise recurse."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.forward(*args, **kwargs)


def qkv_inputs(attention: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Return (query, key, value) of the call `attention(*args, **kwargs)`."""
    # Bound by torch's own signature, so that positional and keyword arguments are both found.
    arguments = _SIGNATURE.bind(attention, *args, **kwargs).arguments
    return arguments["query"], arguments["key"], arguments["value"]


def out_proj_inputs(attention: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return (..., E) the input of `out_proj` in the call `attention(*args, **kwargs)`."""
    # Identity and a zero bias make the module return its own `out_proj` input.
    weight, bias = attention.out_proj.weight, attention.out_proj.bias
    identity = {"module.out_proj.weight": torch.eye(attention.embed_dim, dtype=weight.dtype, device=weight.device)}
    if bias is not None:
        identity["module.out_proj.bias"] = torch.zeros_like(bias)
    # `functional_call` replaces the parameters for this one call and leaves the module as it is.
    heads: Tensor = functional_call(_Unhooked(attention), identity, args, dict(kwargs))[0]
    return heads

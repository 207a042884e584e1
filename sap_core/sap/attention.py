"""What the weights of torch's `MultiheadAttention` are multiplied with.

Its query, key and value weights meet the call's own inputs. What `out_proj` meets never leaves the module, which hands that weight to a
function (or to a fused kernel) without calling the layer: a hook there sees nothing. So the call is made once more with a unit matrix in
the place of `out_proj`: whatever masks, extra keys or kernel it takes, it then returns what its heads gathered, exactly, because a sum
of one number and zeros is not rounded. That second call is counted in seconds and not in FLOPs; a network's own result is not touched.

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
    """Calls a module past its hooks."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.module.forward(*args, **kwargs)


def inputs_of(attention: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """(query, key, value) of the call `attention(*args, **kwargs)`."""
    given = _SIGNATURE.bind(attention, *args, **kwargs).arguments
    return given["query"], given["key"], given["value"]


def heads_of(attention: nn.MultiheadAttention, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """(..., E) what `out_proj` is multiplied with in the call `attention(*args, **kwargs)`."""
    weight, bias = attention.out_proj.weight, attention.out_proj.bias
    unit = {"module.out_proj.weight": torch.eye(attention.embed_dim, dtype=weight.dtype, device=weight.device)}
    if bias is not None:
        unit["module.out_proj.bias"] = torch.zeros_like(bias)
    heads: Tensor = functional_call(_Unhooked(attention), unit, args, dict(kwargs))[0]
    return heads

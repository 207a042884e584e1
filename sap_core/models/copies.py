"""Copies of networks, and the check that a copy is a network of its own.

Corrections are made on copies. A copy may silently compute with the original's weights: functions are not copied, so a `forward` that was
replaced on the object, a hook or a lambda that refers to the original goes on to do so. Such networks are refused before any work.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sap_core.errors import UserError
from sap_core.models.modes import batch_statistics, evaluating, observable
from sap_core.models.outputs import tensors_in

_STATISTICS = ("running_mean", "running_var")


def copied(model: nn.Module) -> nn.Module:
    """Return a copy of `model` that shares no memory with it.

    Unlike `copy.deepcopy` it copies networks that keep results of their last forward pass as attributes, without the graph of these.
    """
    return copy.deepcopy(model, memo_of(model))


def memo_of(model: nn.Module) -> dict[int, Any]:
    """Return the argument `memo` with which `copy.deepcopy` can copy `model`, alone or inside of a larger structure."""
    # torch refuses to copy a tensor that belongs to a graph; a copy's next forward pass makes new ones.
    kept = (tensor for module in model.modules() for tensor in tensors_in(vars(module)))
    return {id(tensor): tensor.detach().clone() for tensor in kept if not tensor.is_leaf}


def check_copies(model: nn.Module, inputs: Tensor, who: str) -> None:
    """Check that a copy of `model` computes what the original computes, with weights of its own. The network is not changed.

    Args:
        model: the network, on a device with values (not meta).
        inputs: (N, ...) inputs; with at least two different ones results that a copy has kept are noticed as well.
        who: name of the network, for messages.

    Raises:
        UserError: it cannot be copied, or its copies do not work.
    """
    # Such a network cannot be run at all; whoever runs it says so.
    if len(inputs) == 1 and batch_statistics(model):
        return
    with torch.random.fork_rng(devices=[]):
        # Before the copy, so that results that the network keeps are copied as well.
        _outputs(model, inputs)
    try:
        twin = copied(model)
    # Attributes of any type are copied, and may raise anything.
    except Exception as error:
        raise UserError(
            f"{who} cannot be copied ({_said(error)}), and corrections are made on copies; keep what cannot be copied out of the network's "
            "attributes, or define __deepcopy__ in its class"
        ) from error
    # Inputs in another order than the original sees first, so that results that it kept are not the right ones.
    others = inputs.flip(0)
    with torch.random.fork_rng(devices=[]):
        expected, again = (_outputs(model, images) for images in (others, others))
        reads = _Reads(_storages(model), _storages(twin))
        try:
            with reads:
                found = _outputs(twin, others)
        except Exception as error:
            raise UserError(f"a copy of {who} does not run, but the original does ({_said(error)}); {_REMEDY}") from error
        if reads.shared is not None:
            raise UserError(f"a copy of {who} computes with the original's weights ('{reads.shared}'); {_REMEDY}")
        # A network that draws numbers of its own gives two answers by itself.
        if _same(expected, again) and not _same(expected, found):
            raise UserError(f"a copy of {who} computes something else than the original; {_REMEDY}")
        if not reads.own and any(True for _ in twin.parameters()) and _ignores_weights(twin, others, found):
            raise UserError(f"{who} does not compute with its own parameters; {_REMEDY}")


_REMEDY = (
    "a forward method, hook or function that was attached to the object refers to the original or to fixed weights: define it as a method "
    "of the class that uses self"
)


class _Reads(TorchFunctionMode):
    """Records which of two networks' weights torch's functions get within the block."""

    def __init__(self, original: Mapping[int, str], own: Mapping[int, str]) -> None:
        super().__init__()
        self._original, self._own = original, own
        self.shared: str | None = None  # name of a weight of the original
        self.own = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in tensors_in((args, kwargs)):
            key = _storage(tensor)
            self.shared = self.shared or self._original.get(key)
            self.own = self.own or key in self._own
        return func(*args, **(kwargs or {}))


def _storages(model: nn.Module) -> dict[int, str]:
    """Return the memory of weights and running statistics: identity of a storage -> name."""
    statistics = [(name, buffer) for name, buffer in model.named_buffers() if name.rpartition(".")[2] in _STATISTICS]
    return {key: name for name, tensor in (*model.named_parameters(), *statistics) if (key := _storage(tensor))}


def _storage(tensor: Tensor) -> int:
    """Return the identity of a tensor's memory; 0 for tensors without (sparse ones)."""
    # Views share it, unlike the identity of the tensor object.
    with suppress(NotImplementedError, RuntimeError):
        return int(tensor.untyped_storage()._cdata)
    return 0


def _outputs(model: nn.Module, inputs: Tensor) -> list[Tensor]:
    # Not `torch.manual_seed`, which would also seed GPUs, whose state is not restored.
    torch.default_generator.manual_seed(0)
    with evaluating(model), observable():
        return list(tensors_in(model(inputs)))


def _ignores_weights(twin: nn.Module, inputs: Tensor, before: list[Tensor]) -> bool:
    """Return whether other weights give the same outputs. Changes `twin`."""
    with torch.no_grad():
        for parameter in twin.parameters():
            if parameter.is_floating_point() or parameter.is_complex():
                parameter.normal_()
    return _same(before, _outputs(twin, inputs))


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    """Return whether outputs agree up to rounding."""
    return len(one) == len(other) and all(
        first.shape == second.shape and torch.allclose(first.double(), second.double(), rtol=1e-3, atol=1e-5, equal_nan=True)
        for first, second in zip(one, other, strict=True)
        if not first.is_complex()
    )


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

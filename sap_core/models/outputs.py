"""The logits in what a network returns: one rule, for every network and every caller.

1. A tensor is the logits.
2. A structure with an entry `logits` (key of a mapping; attribute of a named tuple, dataclass or other object) means that entry.
3. Of any other structure (tuple, list, mapping, dataclass, object) the first floating-point tensor of shape (N, C) is the logits, where
   nested structures are searched in their order. Auxiliary heads and features that follow are ignored.

In all three cases the logits must have the shape (N, C), for N images and C classes; with one output (N,) will do, too.

`build_network` attaches the rule to a network as a forward hook, so that trainers, correctors and the evaluation call `network(images)` and
get logits, and copies of the network obey it as well.

Shapes: N images, C outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, fx, nn

from sap_core.errors import UserError

_DEPTH = 4
"""Depth to which nested structures are searched."""


def logits_of(outputs: Any, samples: int, classes: int | None) -> Tensor:
    """Return the logits (N, C) in what a network returned for a batch.

    Args:
        outputs: a tensor, or a structure that contains the logits.
        samples: N.
        classes: C; None: it is not known, and all tensors that could be the logits must have the same C.

    Raises:
        UserError: there is no tensor of that shape, or it is not clear which one is meant; the message names the shapes that were found.
    """
    named = None if isinstance(outputs, Tensor) else _named_logits(outputs)
    candidates = [outputs] if isinstance(outputs, Tensor) else [named] if named is not None else tensors_in(outputs)
    found = [tensor for tensor in candidates if tensor.is_floating_point() and _fits(tuple(tensor.shape), samples, classes)]
    if found and len({tensor.shape for tensor in found}) == 1:
        return found[0]
    raise UserError(_complaint(outputs, named, samples, classes))


class TakeLogits:
    """Forward hook that replaces what a network returns by its logits (see `logits_of`).

    Args:
        classes: C.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], outputs: Any) -> Any:
        # While a graph is traced there are no shapes; the copy that is made from the graph is called with tensors.
        if isinstance(outputs, fx.Proxy):
            return outputs
        images = args[0] if args else next(iter(kwargs.values()))
        return logits_of(outputs, len(images), self.classes)


def returns_logits(model: nn.Module) -> bool:
    """Return whether the hook is attached to `model`."""
    return any(isinstance(hook, TakeLogits) for hook in model._forward_hooks.values())


@contextmanager
def returning_logits(model: nn.Module, classes: int) -> Iterator[None]:
    """Make calls of `model` return logits (N, `classes`) within a block, for networks that `build_network` did not build."""
    if returns_logits(model):
        yield
        return
    hook = model.register_forward_hook(TakeLogits(classes), with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()


def _fits(shape: tuple[int, ...], samples: int, classes: int | None) -> bool:
    if classes is None:
        return len(shape) == 2 and shape[0] == samples
    # The output of a regression may lack the axis of its only target.
    return shape == (samples, classes) or (classes == 1 and shape == (samples,))


def _named_logits(outputs: Any) -> Tensor | None:
    found = outputs.get("logits") if isinstance(outputs, Mapping) else getattr(outputs, "logits", None)
    return found if isinstance(found, Tensor) else None


def tensors_in(value: Any, depth: int = _DEPTH) -> Iterator[Tensor]:
    """Yield the tensors in a structure in their order, to a depth of four."""
    if isinstance(value, Tensor):
        yield value
    elif depth and not isinstance(value, nn.Module | str | bytes | type):
        for part in _parts(value):
            yield from tensors_in(part, depth - 1)


def _parts(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, tuple | list):
        yield from value
    elif is_dataclass(value):
        yield from (getattr(value, item.name) for item in fields(value))
    else:
        yield from getattr(value, "__dict__", {}).values()


def _complaint(outputs: Any, named: Tensor | None, samples: int, classes: int | None) -> str:
    expected = f"({samples}, {'number of classes' if classes is None else classes})"
    if isinstance(outputs, Tensor):
        found = f"a tensor of shape {tuple(outputs.shape)}" + ("" if outputs.is_floating_point() else f" and type {outputs.dtype}")
    elif named is not None:
        found = f"a {type(outputs).__name__} whose logits have the shape {tuple(named.shape)}"
    else:
        shapes = [str(tuple(tensor.shape)) for tensor in tensors_in(outputs)]
        found = f"a {type(outputs).__name__} with " + (f"tensors of shapes {', '.join(shapes[:6])}" if shapes else "no tensor")
    return (
        f"the network must return logits of shape {expected} for {samples} images of {classes or 'these'} classes, but it returns {found}; "
        "set its number of outputs in model=..., or the number of classes in dataset=..."
    )

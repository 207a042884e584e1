"""Streaming second moments of layer inputs: one float64 Gram matrix R R^T per layer, or R itself while it is smaller.

A pass hooks every layer of the unmodified network, in evaluation mode. Sums are immutable, so the sums over the first images of an order
can be kept while the pass goes on to more of them (nested trusted sets), at no cost but memory. Layers that read the same tensor in the
same way (the branches of an Inception block) share one `Moments`: it is computed, kept and factored once.

A layer type takes part by a handler in `HANDLERS`: how many inputs its weights have, and how an input tensor becomes their columns. What
has weights but no handler is refused by name, as is every use of a layer that one Gram matrix cannot describe. (torch's attention, for
one, never calls its output projection as a layer: a hook there sees nothing.)

Source: SAP, Algorithm 1 (representations of all layers from one forward pass); sums instead of a random part of the columns.

Shapes: K groups, D inputs per group, N columns, B images.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.modes import evaluating
from sap_core.patches import PIECE_BYTES, ConvInputs, sum_of


class Handler(Protocol):
    """How one layer's input becomes the columns that its weights are multiplied with; equal (and hashed) by what it does."""

    @property
    def groups(self) -> int: ...

    @property
    def inputs(self) -> int:
        """D: columns of the layer's weight matrix, per group."""

    @property
    def flops_per_column(self) -> float:
        """Of the Gram matrices."""

    def columns(self, x: Tensor) -> int:
        """N: how many columns an input tensor makes."""

    def pieces(self, x: Tensor) -> Iterator[Tensor]:
        """(K, D, N) float64 columns, a part at a time."""

    def sums(self, x: Tensor) -> Tensor:
        """What `gram` is made of, in the handler's own form; adds up over inputs; float64, a fresh tensor."""

    def gram(self, sums: Tensor) -> Tensor:
        """(K, D, D) float64, the sum of column column^T over all inputs in `sums`."""


@dataclass(frozen=True)
class LinearInputs:
    """The inputs of one `Linear`: every vector along the last axis is a column (samples, tokens)."""

    inputs: int
    groups: int = 1

    @classmethod
    def of(cls, linear: nn.Module) -> LinearInputs:
        """Reads a layer's width."""
        assert isinstance(linear, nn.Linear)
        return cls(linear.in_features)

    @property
    def flops_per_column(self) -> float:
        return 2 * self.inputs**2

    def columns(self, x: Tensor) -> int:
        return x.numel() // self.inputs

    def pieces(self, x: Tensor) -> Iterator[Tensor]:
        for vectors_ND in x.reshape(-1, self.inputs).split(max(1, PIECE_BYTES // (8 * self.inputs))):
            yield vectors_ND.to(torch.float64).mT.unsqueeze(0)

    def sums(self, x: Tensor) -> Tensor:
        return sum_of(columns_KDN @ columns_KDN.mT for columns_KDN in self.pieces(x))

    def gram(self, sums: Tensor) -> Tensor:
        return sums


HANDLERS: dict[type[nn.Module], Callable[[nn.Module], Handler]] = {nn.Linear: LinearInputs.of, nn.Conv2d: ConvInputs.of}
"""By exact type: a subclass may do something else with its weights."""


@dataclass(frozen=True, eq=False)
class Moments:
    """What one layer has seen: its inputs while they make fewer columns than it has inputs, sums of their products from then on."""

    handler: Handler
    seen: tuple[Tensor, ...] = ()  # inputs as they came, one tensor per batch
    sums: Tensor | None = None  # in the handler's form
    count: int = 0  # N
    flops: float = 0.0  # spent on sums

    def plus(self, x: Tensor) -> Moments:
        """These and one more input tensor (of at least one image)."""
        count = self.count + self.handler.columns(x)
        if count < self.handler.inputs:
            return replace(self, seen=(*self.seen, x.detach().clone()), count=count)  # later layers may overwrite their input
        sums = self.handler.sums(x)
        if self.sums is not None:
            sums += self.sums
        for earlier in self.seen:
            sums += self.handler.sums(earlier)
        counted = count if self.sums is None else count - self.count
        return Moments(self.handler, (), sums, count, self.flops + counted * self.handler.flops_per_column)

    @property
    def gram(self) -> Tensor | None:
        """(K, D, D) R R^T where there are no fewer columns than inputs, else None; put together at every call."""
        return None if self.sums is None else self.handler.gram(self.sums)

    @property
    def columns(self) -> Tensor | None:
        """R (K, D, N) where there are fewer columns than inputs, else None; made at every call."""
        return None if self.sums is not None else torch.cat([piece for x in self.seen for piece in self.handler.pieces(x)], dim=-1)

    @property
    def finite(self) -> Tensor:
        """() bool: is all that was seen finite?"""
        return torch.stack([each.isfinite().all() for each in (self.seen if self.sums is None else (self.sums,))]).all()


def total_flops(moments: Mapping[str, Moments]) -> float:
    """Spent on all of them; what layers share counts once."""
    return sum(each.flops for each in {id(each): each for each in moments.values()}.values())


def validate(model: nn.Module) -> dict[str, Moments]:
    """The layers of `model` that SAP corrects, by name, none of which has seen anything yet.

    Biases and the one-dimensional weights of norms stay as they are and need no handler.

    Raises:
        UserError: a module holds a weight of two or more dimensions that no handler knows, or shares one with another module.
    """
    moments: dict[str, Moments] = {}
    unseen: dict[Handler, Moments] = {}  # one for all layers of the same kind, so that those with the same inputs go on sharing it
    owners: dict[int, str] = {}
    unknown: dict[tuple[type[nn.Module], str], str] = {}  # the first of each kind
    for name, module in model.named_modules():
        handled = type(module) in HANDLERS
        for weight_name, weight in module.named_parameters(recurse=False):
            if weight.ndim < 2:
                continue
            if not handled or weight_name != "weight":
                unknown.setdefault((type(module), weight_name), f"'{weight_name}' of {_called(name, module)}")
            if id(weight) in owners:
                raise UserError(
                    f"{_called(name, module)} shares its weight with {owners[id(weight)]}; SAP needs one input per weight: untie them"
                )
            owners[id(weight)] = _called(name, module)
        if handled and "weight" not in dict(module.named_parameters(recurse=False)):
            raise UserError(
                f"the weight of {_called(name, module)} is computed, not a parameter; SAP needs it plain: remove the reparametrisation"
            )
        if handled:
            handler = HANDLERS[type(module)](module)
            moments[name] = unseen.setdefault(handler, Moments(handler))
    if unknown:
        raise UserError(
            f"SAP has no handler for {', '.join(unknown.values())}; it corrects plain Linear and Conv2d layers, so use a network of these, "
            "or add the type to sap_core.gram.HANDLERS"
        )
    if not moments:
        raise UserError(f"SAP found no Linear or Conv2d layer in {type(model).__name__}: nothing to correct")
    return moments


def observe(model: nn.Module, moments: Mapping[str, Moments], inputs: Tensor) -> dict[str, Moments]:
    """`moments` (by layer name) and what these layers see when `model` is given the batch `inputs` (B, ...).

    Raises:
        UserError: a layer sees no input, or is called more than once.
    """
    updated = dict(moments)
    calls = dict.fromkeys(moments, 0)
    inputs_seen = _Inputs()
    modules = dict(model.named_modules())

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[name] += 1
            if calls[name] > 1:
                raise UserError(f"{_called(name, module)} is called more than once in a forward pass; SAP needs one input per weight")
            updated[name] = inputs_seen.added_to(moments[name], args[0] if args else kwargs["input"])

        return hook

    hooks = [modules[name].register_forward_pre_hook(watch(name), with_kwargs=True) for name in moments]
    try:
        with evaluating(model):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for name, count in calls.items():
        if count == 0:
            raise UserError(
                f"{_called(name, modules[name])} saw no input in the forward pass; SAP cannot correct it: remove it, or call it"
            )
    return updated


class _Inputs:
    """The tensors that one forward pass has shown so far, and what each made of which moments.

    The same tensor object, unmodified since, read by an equal handler on top of the same moments can only give what it gave before.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, int, int], tuple[weakref.ref[Tensor], Moments]] = {}

    def added_to(self, moments: Moments, x: Tensor) -> Moments:
        """`moments.plus(x)`, computed once."""
        if x.is_inference():  # has no version by which a modification would show
            return moments.plus(x)
        key = id(x), x._version, id(moments)
        made = self._made.get(key)
        if made is None or made[0]() is not x:  # the second: another tensor at the place of one that is gone
            made = self._made[key] = weakref.ref(x), moments.plus(x)
        return made[1]


def check_finite(moments: Mapping[str, Moments]) -> None:
    """Raises FloatingPointError, naming the first such layer, where inputs were not finite: the network has diverged."""
    finite = torch.stack([each.finite.cpu() for each in moments.values()])
    for name, good in zip(moments, finite.tolist(), strict=True):
        if not good:
            raise FloatingPointError(f"the inputs of layer '{name}' are not finite, so the network has diverged")


def _called(name: str, module: nn.Module) -> str:
    return f"layer '{name}' ({type(module).__name__})" if name else f"the network itself ({type(module).__name__})"

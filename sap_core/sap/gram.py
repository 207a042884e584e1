"""Streaming second moments of layer inputs: one float64 Gram matrix R R^T per layer, or R itself while it is smaller.

A pass hooks every layer of the unmodified network, in evaluation mode. Sums are immutable, so the sums over the first images of an order
can be kept while the pass goes on to more of them (nested trusted sets), at no cost but memory. Layers that read the same tensor in the
same way (the branches of an Inception block) share one `Moments`: it is computed, kept and factored once.

Which layers take part, and how their inputs become columns, is said in `handlers`. Every use of a layer that one Gram matrix cannot
describe is refused by name.

Source: SAP, Algorithm 1 (representations of all layers from one forward pass); sums instead of a random part of the columns.

Shapes: K groups, D inputs per group, N columns, B images.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.modes import evaluating
from sap_core.sap.layers import LAYERS, Handler, called, sites


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
    """The weights of `model` that SAP corrects, by name (see `sites`), none of which has seen anything yet.

    Raises:
        UserError: a module holds a weight of two or more dimensions that no handler knows, or shares one with another module.
    """
    unseen: dict[Handler, Moments] = {}  # one for all weights of the same kind, so that those with the same inputs go on sharing it
    return {name: unseen.setdefault(site.handler, Moments(site.handler)) for name, site in sites(model).items()}


def observe(model: nn.Module, moments: Mapping[str, Moments], inputs: Tensor) -> dict[str, Moments]:
    """`moments` (of some or all weights, by name) and what these meet when `model` is given the batch `inputs` (B, ...).

    Raises:
        UserError: a layer sees no input, or is called more than once.
    """
    updated = dict(moments)
    modules, of_model = dict(model.named_modules()), sites(model)
    names: dict[str, dict[str, str]] = {}  # layer -> part -> name
    for name in moments:
        names.setdefault(of_model[name].layer, {})[of_model[name].part] = name
    calls = dict.fromkeys(names, 0)
    inputs_seen = _Inputs()

    def watch(layer: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls[layer] += 1
            if calls[layer] > 1:
                raise UserError(f"{called(layer, module)} is called more than once in a forward pass; SAP needs one input per weight")
            seen = LAYERS[type(module)].inputs(module, args, kwargs)
            for part, name in names[layer].items():
                updated[name] = inputs_seen.added_to(moments[name], seen[part])

        return hook

    hooks = [modules[layer].register_forward_pre_hook(watch(layer), with_kwargs=True) for layer in names]
    try:
        with evaluating(model):
            model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, count in calls.items():
        if count == 0:
            raise UserError(
                f"{called(layer, modules[layer])} saw no input in the forward pass; SAP cannot correct it: remove it, or call it"
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

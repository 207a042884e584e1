"""Streaming second moments of layer inputs: the float64 Gram matrix R R^T of each layer, or R itself while it is smaller.

The inputs of every weight of the unmodified network are observed in evaluation mode, by forward hooks on layers of the types in `layers`
and otherwise where the weight is multiplied (`collect`). `Moments` are immutable, so that the moments of
the first images of an order remain available while the pass continues with more of them (nested trusted sets). Layers that read the same
tensor in the same layout (branches of an Inception block) share one `Moments`, which is computed, stored and decomposed once.

Which weights there are is found by `weights`.

Source: SAP, Algorithm 1, line 2 (inputs of all layers from one forward pass); complete sums instead of a random subset of the columns.

Shapes: K groups, D inputs per group, N columns, B images.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.float64 import where_float64_is
from sap_core.models.modes import batch_statistics, evaluating, observable
from sap_core.sap.collect import collecting
from sap_core.sap.layers import LAYERS, LayerInputs
from sap_core.sap.weights import WeightSite


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of the inputs of one layer.

    Attributes:
        layout: turns input tensors into columns.
        stored: the input tensors, one per batch, while they have fewer columns than inputs (N < D); then empty.
        sums: sums of `LayerInputs.partial_gram` once N >= D; else None.
        count: N, number of columns.
        flops: FLOPs spent on `sums`.
    """

    layout: LayerInputs
    stored: tuple[Tensor, ...] = ()
    sums: Tensor | None = None
    count: int = 0
    flops: float = 0.0

    def updated(self, x: Tensor) -> Moments:
        """Return the moments with one more input tensor, of at least one image."""
        # Sums are float64, as is everything that is computed from them.
        x = where_float64_is(x)
        added = self.layout.count_columns(x)
        # A layer of a mixture of experts may be called with no token at all.
        if not added:
            return self
        count = self.count + added
        # While N < D the columns take less memory than the Gram matrix, and the N x N system of equation (4) is cheaper.
        if count < self.layout.inputs:
            # Cloned: an in-place layer may overwrite x.
            return replace(self, stored=(*self.stored, x.detach().clone()), count=count)
        # N has reached D: from here on the Gram matrix (D x D) is smaller than the columns (D x N).
        sums = self.layout.partial_gram(x)
        # Algorithm 1, line 2: R R^T is a sum of x x^T over columns, so batches and nested trusted sets add up.
        if self.sums is not None:
            sums += self.sums
        for earlier in self.stored:
            sums += self.layout.partial_gram(earlier)
        # At the change from columns to sums, the stored columns are multiplied, too, and their FLOPs are booked then.
        counted = count if self.sums is None else count - self.count
        # A new object each time: a smaller trusted set keeps the old one as its final sums.
        return Moments(self.layout, (), sums, count, self.flops + counted * self.layout.flops_per_column)

    @property
    def gram(self) -> Tensor | None:
        """(K, D, D) R R^T if N >= D, else None; assembled at every access."""
        return None if self.sums is None else self.layout.gram(self.sums)

    @property
    def columns(self) -> Tensor | None:
        """(K, D, N) R if N < D, else None; assembled at every access."""
        return None if self.sums is not None else torch.cat([chunk for x in self.stored for chunk in self.layout.column_chunks(x)], dim=-1)

    @property
    def finite(self) -> Tensor:
        """() bool: whether all inputs were finite."""
        # NaN and infinity survive summation, so a look at the sums replaces one at every input; the result stays on the device.
        return torch.stack([each.isfinite().all() for each in (self.stored if self.sums is None else (self.sums,))]).all()


def total_flops(moments: Mapping[str, Moments]) -> float:
    """Return the FLOPs spent on all moments; shared ones count once."""
    # By identity: the readers of one tensor share one object, whose work was done once.
    return sum(each.flops for each in {id(each): each for each in moments.values()}.values())


def init_moments(sites: Mapping[str, WeightSite]) -> dict[str, Moments]:
    """Return empty moments for each weight, by name (see `weights.classify`)."""
    # One object per layout, so that weights that read the same tensors keep sharing theirs.
    empty: dict[LayerInputs, Moments] = {}
    return {name: empty.setdefault(site.layout, Moments(site.layout)) for name, site in sites.items()}


def observe(model: nn.Module, sites: Mapping[str, WeightSite], moments: Mapping[str, Moments], inputs: Tensor) -> dict[str, Moments]:
    """Add the inputs of weights in one forward pass to their moments; of a weight that is used several times those of every use.

    Args:
        model: the network; it runs in evaluation mode without gradients, and is not changed.
        sites: weights of the network.
        moments: moments of some or all of these weights, by name.
        inputs: (B, ...) one batch.

    Returns:
        The updated moments, by name.

    Raises:
        UserError: the batch is a single image, and the network cannot work on it.
    """
    check_batch(model, len(inputs))
    updated, modules, cache = dict(moments), dict(model.named_modules()), _UpdateCache()
    # Which weights each layer's calls serve: layer -> (name of the weight within it, name of the weight).
    served: dict[str, list[tuple[str, str]]] = {}
    for name in moments:
        for layer, weight in sites[name].calls:
            served.setdefault(layer, []).append((weight, name))

    def observer(layer: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            # By exact type, as the site was found.
            tensors = LAYERS[type(module)].inputs(module, args, kwargs)
            for weight, name in served[layer]:
                updated[name] = cache.updated(updated[name], tensors[weight])

        return hook

    def collect(name: str, x: Tensor) -> None:
        updated[name] = updated[name].updated(x)

    # One forward pass of the unmodified network gives R of every weight; nothing is collected again behind a projected layer.
    products = {name: sites[name] for name in moments if not sites[name].calls}
    with ExitStack() as stack:
        for layer in served:
            # Removed also after an error: a hook that stayed would observe every later pass and keep the moments alive.
            stack.callback(modules[layer].register_forward_pre_hook(observer(layer), with_kwargs=True).remove)
        stack.enter_context(evaluating(model))
        stack.enter_context(observable())
        if products:
            stack.enter_context(collecting(model, products, collect))
        model(inputs)
    return updated


def check_batch(model: nn.Module, size: int) -> None:
    """Check that the network can work on batches of `size` images.

    Raises:
        UserError: the batch is a single image, and a norm needs several.
    """
    if size == 1 and (norm := batch_statistics(model)):
        raise UserError(
            f"batch norm '{norm}' has no running statistics, so the network cannot work on a single image; use at least 2 trusted images, "
            "and a batch size of at least 2"
        )


class _UpdateCache:
    """Updated moments of one forward pass, by input tensor and previous moments.

    The same unmodified tensor, added to the same moments, gives the same result, so layers with a common input share one update.
    """

    def __init__(self) -> None:
        # Weak references: the cache must not keep activations of the whole pass in memory.
        self._updates: dict[tuple[int, int, int], tuple[weakref.ref[Tensor], Moments]] = {}

    def updated(self, moments: Moments, x: Tensor) -> Moments:
        """Return `moments.updated(x)`, computed once."""
        # Such tensors have no version counter, so an in-place change could not be noticed.
        if x.is_inference():
            return moments.updated(x)
        # The version counter changes when an in-place layer overwrites the tensor, which then is another input.
        key = id(x), x._version, id(moments)
        entry = self._updates.get(key)
        # A new tensor may have the id of one that was freed.
        if entry is None or entry[0]() is not x:
            entry = self._updates[key] = weakref.ref(x), moments.updated(x)
        return entry[1]


def check_finite(moments: Mapping[str, Moments]) -> None:
    """Check that every weight got inputs, and that all of them were finite.

    Raises:
        UserError: a weight got none.
        FloatingPointError: they were not finite, so the network has diverged; the message names the first such layer.
    """
    for name, each in moments.items():
        # Experts of a mixture, for example, may be skipped by all trusted samples.
        if each.count == 0:
            raise UserError(
                f"weight '{name}' got no input from the trusted samples, so SAP cannot correct it; use more trusted samples, or leave it "
                f"as it is (option `leave`)"
            )
    finite = torch.stack([each.finite.cpu() for each in moments.values()])
    for name, good in zip(moments, finite.tolist(), strict=True):
        if not good:
            raise FloatingPointError(f"the inputs of layer '{name}' are not finite, so the network has diverged")

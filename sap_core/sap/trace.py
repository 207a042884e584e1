"""How a forward pass uses each parameter: multiplied with activations as a matrix, element by element, as a table, or not at all.

One pass in evaluation mode is observed operator by operator (`TorchDispatchMode`), so the answer does not depend on the classes of the
layers. A tensor is an *activation* if it depends on the network's input; everything else (parameters, buffers, and what is computed from
them alone) is *constant*. The pass may be on torch's meta device, where nothing is computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sap_core.models.modes import evaluating, observable
from sap_core.sap.layers import LayerInputs
from sap_core.sap.products import is_product, matched, operands, products
from sap_core.sap.regions import Region, Regions, alive, storage_of, tensors_in

Kind = Literal["product", "constant", "elementwise", "unsupported"]


@dataclass(frozen=True)
class Use:
    """One use of a parameter in the pass.

    Attributes:
        kind: `product`: multiplied with activations as a matrix; `constant`: multiplied with constants by a layer; `elementwise`: added,
            multiplied element by element, concatenated, or a weight of a norm; `unsupported`: anything else.
        reason: for `unsupported`, in words.
        matrix: for `unsupported`, whether a matrix computed from the parameter multiplies activations.
        region: for `product`, the elements that are used.
        layout: for `product`, the layout of the inputs.
        layers: names of the observed layers that were running.
    """

    kind: Kind
    reason: str = ""
    matrix: bool = False
    region: Region | None = None
    layout: LayerInputs | None = None
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Trace:
    """Uses of each parameter, and the parameters that the pass read."""

    uses: Mapping[str, list[Use]]
    reached: frozenset[str]


def trace(model: nn.Module, inputs: Tensor, parameters: Mapping[str, Tensor], layers: Mapping[str, nn.Module]) -> Trace:
    """Observe one forward pass of `model` in evaluation mode. Random states and training flags stay as they are.

    Args:
        model: the network; it is not changed.
        inputs: (B, ...) a few inputs, on the network's device.
        parameters: the network's parameters by name.
        layers: layers whose calls are noted in `Use.layers`.
    """
    mode = _TraceMode(parameters, inputs)
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with ExitStack() as stack:
        for name, layer in layers.items():
            # Kept even after an error inside the layer, hence `always_call`.
            stack.callback(layer.register_forward_pre_hook(lambda *_, name=name: mode.running.append(name)).remove)
            stack.callback(layer.register_forward_hook(mode.leave, always_call=True).remove)
        # A network may draw random numbers even in evaluation mode, and the streams of the caller must not depend on this pass.
        stack.enter_context(torch.random.fork_rng(devices))
        stack.enter_context(evaluating(model))
        stack.enter_context(observable())
        stack.enter_context(mode)
        model(inputs)
    return Trace(mode.uses, frozenset(mode.reached))


class ObservingMode(TorchDispatchMode):
    """Calls `observe` for each basic operator; composed ones (`linear`, `einsum`) are taken apart first."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # By default torch imports its compiler for every mode, which takes seconds; nothing is compiled here.
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        options = kwargs or {}
        with self:
            result = func.decompose(*args, **options)
        if result is NotImplemented:
            result = self.observe(func, args, options)
        return result

    def observe(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute and return the result of a basic operator."""
        raise NotImplementedError


# Operators that add, concatenate, copy or normalise, apart from those that torch itself marks as pointwise.
_ELEMENTWISE = frozenset({
    "cat", "stack", "copy", "copy_", "prelu", "_prelu_kernel", "rms_norm", "_fused_rms_norm",
    "native_layer_norm", "native_group_norm", "native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm", "batch_norm_elemt",
    "_native_batch_norm_legit", "_native_batch_norm_legit_no_training", "_batch_norm_no_update", "_batch_norm_with_update",
    "index_put", "index_put_", "_index_put_impl_", "_unsafe_index_put", "index_copy", "index_copy_", "index_add", "index_add_",
    "masked_scatter", "masked_scatter_", "slice_scatter", "select_scatter", "diagonal_scatter",
    "scatter", "scatter_", "scatter_add", "scatter_add_",
})  # fmt: skip
_LOOKUPS = frozenset({"embedding", "index", "_unsafe_index", "index_select", "gather", "take"})
_ATTENTION = "_scaled_dot_product"


@dataclass(frozen=True)
class _Constant:
    """What a constant tensor was computed from."""

    names: frozenset[str]
    # The output of a layer on constants (tokens, coordinates) takes the place of an activation and not that of a weight.
    of_layer: bool = False


@dataclass
class _TraceMode(ObservingMode):
    """Follows activations and parameters through the pass."""

    parameters: Mapping[str, Tensor]
    inputs: Tensor
    uses: dict[str, list[Use]] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)
    running: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self._regions = Regions(self.parameters)
        # By storage, so that views need no care. The weak reference keeps the identity from being used again, but not the memory.
        self._activations: dict[int, object] = {}
        self._constants: dict[int, tuple[object, _Constant]] = {}
        self._mark(self.inputs)

    def leave(self, *_: Any) -> None:
        """Note the end of a layer's call, as a forward hook."""
        self.running.pop()

    def observe(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tensors = list(tensors_in(args, kwargs))
        sources = [self._source(each) for each in tensors]
        names = frozenset[str]().union(*(each.names for each in sources))
        self.reached |= names
        active = any(map(self._active, tensors))
        of_layer = False
        if names and is_product(operator):
            of_layer = self._product(operator, args, kwargs)
        elif names and active:
            self._other(operator, args, tensors)
        result = operator(*args, **kwargs)
        copied = not active and self._regions.follow(operator, args, result)
        for each in tensors_in(result):
            if active:
                self._mark(each)
            elif names and not copied and not self._regions.names(each):
                # An output of a layer stays one when it is reshaped, normalised or added to.
                of_layer = of_layer or any(source.of_layer for source in sources)
                storage = storage_of(each)
                before = self._constants[storage][1].names if storage in self._constants else frozenset()
                self._constants[storage] = alive(each), _Constant(names | before, of_layer)
        return result

    def _mark(self, tensor: Tensor) -> None:
        self._activations[storage_of(tensor)] = alive(tensor)

    def _active(self, tensor: Tensor) -> bool:
        return storage_of(tensor) in self._activations

    def _source(self, tensor: Tensor) -> _Constant:
        if self._active(tensor):
            return _Constant(frozenset())
        known = self._constants.get(storage_of(tensor))
        return _Constant(frozenset(self._regions.names(tensor))) if known is None else known[1]

    def _use(self, names: Sequence[str] | frozenset[str], kind: Kind, reason: str = "", **more: Any) -> None:
        for name in names:
            self.uses.setdefault(name, []).append(Use(kind, reason, layers=tuple(self.running), **more))

    def _product(self, operator: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Note the uses of a product; return whether it is a layer's product with constants."""
        pair = operands(operator, args)
        active = [self._active(each) for each in pair]
        # What is left is the bias.
        for each in tensors_in(args, kwargs):
            if any(active) and all(each is not operand for operand in pair):
                self._use(self._source(each).names, "elementwise")
        found = products(operator, args, kwargs)
        if not any(active):
            weights = [each for product in found for each in self._regions.names(product.weight)]
            self._use(weights, "constant")
            # Of two parameters outside of layers the product is a computed matrix.
            return bool(self.running) or not all(self._source(each).names for each in pair)
        for operand in (each for each, moves in zip(pair, active, strict=True) if not moves):
            source = self._source(operand)
            if not source.names or (source.of_layer and found and found[0].batched):
                continue
            use = self._region(found, operand)
            if use is None:
                # Of a weight and its one-dimensional scale the weight is named.
                names = [name for name in source.names if self.parameters[name].ndim >= 2] or source.names
                self._use(names, "unsupported", "a matrix computed from it is multiplied with activations", matrix=True)
            else:
                self._use(source.names, "product", region=use[0], layout=use[1])
        return False

    def _region(self, found: Sequence[Any], operand: Tensor) -> tuple[Region, LayerInputs] | None:
        for product in found:
            if storage_of(product.weight) == storage_of(operand):
                used = matched(self._regions, product)
                return None if used is None else (used[0], used[1].layout)
        return None

    def _other(self, operator: Any, args: tuple[Any, ...], tensors: Sequence[Tensor]) -> None:
        """Note the uses of parameters that meet activations in an operator that is no matrix product."""
        name = operator.overloadpacket.__name__
        for position, each in enumerate(tensors):
            source = self._source(each)
            # A layer's output on constants is no parameter's matter: it takes the place of an activation.
            if not source.names or source.of_layer:
                continue
            if name.startswith(_ATTENTION) and position < 3:
                self._use(source.names, "unsupported", "it is a query, key or value of attention")
            elif name in ("mul", "mul_") and any(self._active(other) and _repeated(other, each) for other in tensors):
                self._use(source.names, "unsupported", "it is multiplied element by element with repeated activations")
            elif torch.Tag.pointwise in operator.tags or name in _ELEMENTWISE or name.startswith(_ATTENTION):
                self._use(source.names, "elementwise")
            elif name in _LOOKUPS:
                self._use(source.names, "unsupported", "activations select its rows")
            else:
                self._use(source.names, "unsupported", f"torch's operator {name} reads it")


def _repeated(activation: Tensor, weight: Tensor) -> bool:
    """Return whether a product element by element repeats activations along one axis of a weight and shares another with it.

    A sum over the second axis makes it a matrix product: `(x[:, None] * weight).sum(-1)`.
    """
    missing = max(0, weight.ndim - activation.ndim)
    sizes = list(zip(reversed(weight.shape), [*reversed(activation.shape), *[1] * missing], strict=False))
    return any(own > 1 and other == 1 for own, other in sizes) and any(own > 1 and other > 1 for own, other in sizes)

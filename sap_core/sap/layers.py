"""Which weights SAP corrects, and what each is multiplied with: one entry per layer type.

A layer type takes part by an entry in `LAYERS`: the weights it holds, how many inputs each has, and how a call's input tensors become
their columns. What has weights of two or more dimensions but no entry is refused by name; so is a weight that two layers share. Norms,
biases and everything of one dimension stay as they are, and so do the parameters in `ADDED`, which are added to or stand among a
network's activations (class tokens, position embeddings) and are multiplied with nothing.

Shapes: K groups, D inputs per group, N columns, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.im2col import PIECE_BYTES, ConvInputs, sum_of
from sap_core.sap.attention import heads_of, inputs_of


class Handler(Protocol):
    """How one weight's input becomes the columns that it is multiplied with; equal (and hashed) by what it does."""

    @property
    def groups(self) -> int: ...

    @property
    def inputs(self) -> int:
        """D: columns of the weight matrix, per group."""

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
    """The inputs of one linear map: every vector along the last axis is a column (samples, tokens)."""

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


@dataclass(frozen=True)
class Part:
    """One weight of a layer: rows of a parameter, by its name within the layer."""

    handler: Handler
    parameter: str = "weight"
    rows: tuple[int, int] | None = None  # first and last + 1; None: all


class Layer(Protocol):
    """How a layer type takes part. Parts are named within the layer; '' names the only part of a plain layer."""

    def parts(self, module: nn.Module) -> Mapping[str, Part]: ...

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """What each part is multiplied with in the call `module(*args, **kwargs)`."""

    @property
    def added(self) -> tuple[str, ...]:
        """Its parameters of two or more dimensions that are multiplied with nothing."""


@dataclass(frozen=True)
class Plain:
    """A layer with one input and one `weight`."""

    handler: Callable[[nn.Module], Handler]
    added: tuple[str, ...] = ()

    def parts(self, module: nn.Module) -> Mapping[str, Part]:
        return {"": Part(self.handler(module))}

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        return {"": args[0] if args else kwargs["input"]}


@dataclass(frozen=True)
class Attention:
    """torch's `MultiheadAttention`: queries, keys and values are made of its three inputs, its output of what its heads gather.

    Where the three inputs are one tensor (self-attention), the three parts share one Gram matrix, as all readers of one tensor do. The
    joint `in_proj_weight` counts as its three blocks of rows.
    """

    added: tuple[str, ...] = ("bias_k", "bias_v")

    def parts(self, module: nn.Module) -> Mapping[str, Part]:
        assert isinstance(module, nn.MultiheadAttention)
        width = module.embed_dim
        parts = {}
        for place, (letter, inputs) in enumerate(zip("qkv", (width, module.kdim, module.vdim), strict=True)):
            if module._qkv_same_embed_dim:
                parts[f"{letter}_proj"] = Part(LinearInputs(inputs), "in_proj_weight", (place * width, (place + 1) * width))
            else:
                parts[f"{letter}_proj"] = Part(LinearInputs(inputs), f"{letter}_proj_weight")
        return parts | {"out_proj": Part(LinearInputs(width), "out_proj.weight")}

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        assert isinstance(module, nn.MultiheadAttention)
        query, key, value = inputs_of(module, args, kwargs)
        return {"q_proj": query, "k_proj": key, "v_proj": value, "out_proj": heads_of(module, args, kwargs)}


LAYERS: dict[type[nn.Module], Layer] = {
    nn.Linear: Plain(LinearInputs.of),
    nn.Conv2d: Plain(ConvInputs.of),
    nn.MultiheadAttention: Attention(),
}
"""By exact type: a subclass may do something else with its weights."""

ADDED: dict[str, tuple[str, ...]] = {
    "torchvision.models.vision_transformer.VisionTransformer": ("class_token",),
    "torchvision.models.vision_transformer.Encoder": ("pos_embedding",),
    "timm.models.vision_transformer.VisionTransformer": ("cls_token", "reg_token", "pos_embed"),
}
"""Parameters that are multiplied with nothing, by the exact type that holds them (named, so that nothing is imported)."""


@dataclass(frozen=True, eq=False)
class Site:
    """One weight of a network that SAP corrects."""

    layer: str  # the name of the module that is called
    part: str  # the weight's name within it
    weight: Tensor  # (O, ...) the parameter, or rows of it: writing here writes there
    handler: Handler


def sites(model: nn.Module) -> dict[str, Site]:
    """The weights of `model` that SAP corrects, by the name of their layer ('head'), or of their part of it ('attention.q_proj').

    Raises:
        UserError: a module holds a weight of two or more dimensions that no entry knows, or shares one with another module.
    """
    found: dict[str, Site] = {}
    known: set[str] = set()  # full names of parameters that need nothing more
    for name, module in model.named_modules():
        known |= {_join(name, each) for each in ADDED.get(f"{type(module).__module__}.{type(module).__qualname__}", ())}
        layer = LAYERS.get(type(module))
        if layer is None:
            continue
        own = dict(module.named_parameters())
        for part, each in layer.parts(module).items():
            if each.parameter not in own:
                raise UserError(
                    f"the {each.parameter} of {called(name, module)} is computed, not a parameter; SAP needs it plain: remove the "
                    "reparametrisation"
                )
            weight = own[each.parameter].detach()
            found[_join(name, part)] = Site(name, part, weight if each.rows is None else weight[slice(*each.rows)], each.handler)
            known.add(_join(name, each.parameter))
        known |= {_join(name, each) for each in layer.added}
    _refuse_others(model, known)
    if not found:
        raise UserError(f"SAP found no Linear, Conv2d or MultiheadAttention layer in {type(model).__name__}: nothing to correct")
    return found


def _refuse_others(model: nn.Module, known: set[str]) -> None:
    """Raises UserError for weights that no layer type knows, and for those that two modules hold."""
    owners: dict[int, str] = {}
    unknown: dict[tuple[type[nn.Module], str], str] = {}  # the first of each kind
    for name, module in model.named_modules():
        for weight_name, weight in module.named_parameters(recurse=False):
            if weight.ndim < 2:
                continue
            if _join(name, weight_name) not in known:
                unknown.setdefault((type(module), weight_name), f"'{weight_name}' of {called(name, module)}")
            if id(weight) in owners:
                raise UserError(
                    f"{called(name, module)} shares its weight with {owners[id(weight)]}; SAP needs one input per weight: untie them"
                )
            owners[id(weight)] = called(name, module)
    if unknown:
        raise UserError(
            f"SAP has no handler for {', '.join(unknown.values())}; it corrects plain Linear and Conv2d layers and torch's "
            "MultiheadAttention, so use a network of these, or add the type to sap_core.sap.layers.LAYERS (a parameter that is added to "
            "activations and multiplied with nothing: to ADDED)"
        )


def called(name: str, module: nn.Module) -> str:
    """A module in words."""
    return f"layer '{name}' ({type(module).__name__})" if name else f"the network itself ({type(module).__name__})"


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)

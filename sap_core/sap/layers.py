"""The layer types whose inputs SAP collects from their calls: their weights, and the inputs that each weight is multiplied with.

An entry of `LAYERS` lists the weights of a layer and turns the input tensors of a call into the columns of a matrix. Weights of all other
layers are found by the operators that multiply them (`weights`).

Shapes: K groups, D inputs per group, N columns, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sap_core.im2col import CHUNK_BYTES, ConvInputs, sum_in_place
from sap_core.sap.attention import out_proj_inputs, qkv_inputs


class LayerInputs(Protocol):
    """The layout of a weight's inputs as columns of a matrix. Instances with equal layouts are equal, and share Gram matrices.

    The weight is used as K matrices (O, D), one per group; the inputs form K matrices (D, N).
    """

    # Groups of a convolution read different channels, so each has a Gram matrix and a projector of its own.
    @property
    def groups(self) -> int:
        """K: groups of input channels."""

    @property
    def inputs(self) -> int:
        """D: inputs per group."""

    @property
    def flops_per_column(self) -> float:
        """FLOPs of the Gram matrices per column."""

    def count_columns(self, x: Tensor) -> int:
        """Return N, the number of columns of an input tensor."""

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the columns of an input tensor as (K, D, n) float64 tensors, a few at a time to limit memory."""

    def partial_gram(self, x: Tensor) -> Tensor:
        """Return a new float64 tensor for `gram`, in a form of the layout's own that can be added up over inputs."""

    def gram(self, sums: Tensor) -> Tensor:
        """Return the Gram matrices (K, D, D) float64, sums of column column^T, from sums of `partial_gram`."""


@dataclass(frozen=True)
class LinearInputs:
    """Inputs of a linear map: each vector along the last axis (a sample or a token) is a column."""

    inputs: int
    groups: int = 1

    @classmethod
    def from_module(cls, linear: nn.Module) -> LinearInputs:
        """Read the width of a layer."""
        assert isinstance(linear, nn.Linear)
        return cls(linear.in_features)

    @property
    def flops_per_column(self) -> float:
        # One multiply-add for each entry of the (D, D) Gram matrix; symmetry is not used by the product.
        return 2 * self.inputs**2

    def count_columns(self, x: Tensor) -> int:
        # Tokens count like samples: a vision transformer's layer has one column per token and image.
        return x.numel() // self.inputs

    def column_chunks(self, x: Tensor) -> Iterator[Tensor]:
        # float64 doubles the size of the input, so it is converted in chunks.
        for vectors_ND in x.reshape(-1, self.inputs).split(max(1, CHUNK_BYTES // (8 * self.inputs))):
            yield vectors_ND.to(torch.float64).mT.unsqueeze(0)

    def partial_gram(self, x: Tensor) -> Tensor:
        return sum_in_place(columns_KDN @ columns_KDN.mT for columns_KDN in self.column_chunks(x))

    def gram(self, sums: Tensor) -> Tensor:
        # Nothing to assemble here; convolutions assemble theirs from correlations (`im2col`).
        return sums


@dataclass(frozen=True)
class LayerWeight:
    """One weight of a layer: a parameter, or rows of it."""

    layout: LayerInputs
    parameter: str = "weight"  # name within the layer
    rows: tuple[int, int] | None = None  # first and last + 1; None: all rows


class LayerType(Protocol):
    """Support for one type of layer. Weights have names within the layer; the only weight of a simple layer is named ''."""

    def weights(self, module: nn.Module) -> Mapping[str, LayerWeight]:
        """Return the weights of a layer by name."""

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Return the input tensor of each weight in the call `module(*args, **kwargs)`."""


@dataclass(frozen=True)
class SingleWeightLayer:
    """A layer with one input and one `weight`."""

    layout_of: Callable[[nn.Module], LayerInputs]

    def weights(self, module: nn.Module) -> Mapping[str, LayerWeight]:
        return {"": LayerWeight(self.layout_of(module))}

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        # The layer may be called with its input by keyword, as torch's signature names it.
        return {"": args[0] if args else kwargs["input"]}


@dataclass(frozen=True)
class AttentionLayer:
    """torch's `MultiheadAttention`, with the weights q_proj, k_proj, v_proj and out_proj.

    In self-attention the first three weights read the same tensor and share one Gram matrix, as all readers of one tensor do. The joint
    `in_proj_weight` is treated as three weights, its blocks of rows.
    """

    def weights(self, module: nn.Module) -> Mapping[str, LayerWeight]:
        assert isinstance(module, nn.MultiheadAttention)
        width = module.embed_dim
        weights = {}
        # torch keeps q, k and v in one parameter if their widths are equal, else in three.
        for block, (letter, inputs) in enumerate(zip("qkv", (width, module.kdim, module.vdim), strict=True)):
            if module._qkv_same_embed_dim:
                weights[f"{letter}_proj"] = LayerWeight(LinearInputs(inputs), "in_proj_weight", (block * width, (block + 1) * width))
            else:
                weights[f"{letter}_proj"] = LayerWeight(LinearInputs(inputs), f"{letter}_proj_weight")
        return weights | {"out_proj": LayerWeight(LinearInputs(width), "out_proj.weight")}

    def inputs(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Mapping[str, Tensor]:
        assert isinstance(module, nn.MultiheadAttention)
        query, key, value = qkv_inputs(module, args, kwargs)
        return {"q_proj": query, "k_proj": key, "v_proj": value, "out_proj": out_proj_inputs(module, args, kwargs)}


# SAP's released code adds projection methods to each network; here an entry serves the layer type in every network.
LAYERS: dict[type[nn.Module], LayerType] = {
    nn.Linear: SingleWeightLayer(LinearInputs.from_module),
    nn.Conv2d: SingleWeightLayer(ConvInputs.from_module),
    nn.MultiheadAttention: AttentionLayer(),
}
"""Supported layers by exact type, because a subclass may use its weights differently."""


def described(name: str, module: nn.Module) -> str:
    """Return a module's name and type for messages."""
    return f"layer '{name}' ({type(module).__name__})" if name else f"the network itself ({type(module).__name__})"


def joined(*names: str) -> str:
    """Return the name of a part of a part; the network itself has the name ''."""
    return ".".join(name for name in names if name)

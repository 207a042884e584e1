"""The layer types that SAP corrects: their weights, and the inputs that each weight is multiplied with.

To support another layer type, add an entry to `LAYERS`: it lists the weights of the layer and turns the input tensors of a call into the
columns of a matrix. Modules with weights of two or more dimensions but without an entry are refused by name, and so are weights that two
layers share. Norms, biases and other one-dimensional parameters are not changed, nor are the parameters in `ADDITIVE_PARAMETERS`, which
are added to the activations or concatenated with them (position embeddings, class tokens) and multiply nothing.

Shapes: K groups, D inputs per group, N columns, O outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sap_core.errors import UserError
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

    @property
    def added(self) -> tuple[str, ...]:
        """Names of parameters of two or more dimensions that multiply nothing."""


@dataclass(frozen=True)
class SingleWeightLayer:
    """A layer with one input and one `weight`."""

    layout_of: Callable[[nn.Module], LayerInputs]
    added: tuple[str, ...] = ()

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

    added: tuple[str, ...] = ("bias_k", "bias_v")

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

ADDITIVE_PARAMETERS: dict[str, tuple[str, ...]] = {
    "torchvision.models.vision_transformer.VisionTransformer": ("class_token",),
    "torchvision.models.vision_transformer.Encoder": ("pos_embedding",),
    "timm.models.vision_transformer.VisionTransformer": ("cls_token", "reg_token", "pos_embed"),
}
"""Parameters that multiply nothing, by the name of the exact type that owns them (names, so that torchvision and timm are not imported)."""


@dataclass(frozen=True, eq=False)
class WeightSite:
    """One weight of a network that SAP corrects."""

    layer: str  # name of the layer within the network
    name: str  # name of the weight within the layer
    weight: Tensor  # (O, ...) the parameter or rows of it; shares its memory, so writing to it changes the network
    layout: LayerInputs


def weight_sites(model: nn.Module) -> dict[str, WeightSite]:
    """Return the weights of `model` that SAP corrects, by name: that of the layer ('head'), or of a weight within it ('attention.q_proj').

    Raises:
        UserError: the network has no supported layer, an unsupported weight of two or more dimensions, a weight that is computed by a
            reparametrisation, or one that two modules share.
    """
    found: dict[str, WeightSite] = {}
    known: set[str] = set()  # full names of parameters that are corrected or need no correction
    for name, module in model.named_modules():
        known |= {_join(name, each) for each in ADDITIVE_PARAMETERS.get(f"{type(module).__module__}.{type(module).__qualname__}", ())}
        # No `isinstance`: a subclass may transform its weight before it multiplies with it.
        layer_type = LAYERS.get(type(module))
        if layer_type is None:
            continue
        parameters = dict(module.named_parameters())
        for weight_name, each in layer_type.weights(module).items():
            # Under a reparametrisation (weight or spectral norm) the module's weight is recomputed from other parameters at each call, so
            # that a projected value would be overwritten.
            if each.parameter not in parameters:
                raise UserError(
                    f"the {each.parameter} of {described(name, module)} is computed by a reparametrisation; SAP needs a plain parameter: "
                    "remove the reparametrisation"
                )
            weight = parameters[each.parameter].detach()
            # Slicing keeps the view: writing to the rows of `in_proj_weight` writes to the network.
            found[_join(name, weight_name)] = WeightSite(
                name, weight_name, weight if each.rows is None else weight[slice(*each.rows)], each.layout
            )
            # The parameter's full name, for the check below that no weight of two or more dimensions is left over.
            known.add(_join(name, each.parameter))
        known |= {_join(name, each) for each in layer_type.added}
    _refuse_unsupported(model, known)
    if not found:
        raise UserError(
            f"{type(model).__name__} has no Linear, Conv2d or MultiheadAttention layer, so SAP has nothing to correct; "
            "use a network with one"
        )
    return found


def _refuse_unsupported(model: nn.Module, known: set[str]) -> None:
    """Raise UserError for weights of unsupported layers and for weights that two modules share."""
    # By parameter, not by layer type: a weight that no entry lists must not stay uncorrected silently.
    owners: dict[int, str] = {}
    # The first weight of each kind, for the message.
    unknown: dict[tuple[type[nn.Module], str], str] = {}
    for name, module in model.named_modules():
        # Each module's own parameters, so that a shared weight is met once per owner.
        for weight_name, weight in module.named_parameters(recurse=False):
            # Norms, biases and scales are not projected, as in the released code.
            if weight.ndim < 2:
                continue
            if _join(name, weight_name) not in known:
                unknown.setdefault((type(module), weight_name), f"'{weight_name}' of {described(name, module)}")
            # Two layers with one weight have two matrices R, and the projection onto one range is not the other's.
            if id(weight) in owners:
                raise UserError(
                    f"{described(name, module)} shares its weight with {owners[id(weight)]}; SAP needs one input per weight: "
                    "untie the weights"
                )
            owners[id(weight)] = described(name, module)
    if unknown:
        raise UserError(
            f"SAP does not support {', '.join(unknown.values())}; it corrects plain Linear and Conv2d layers and torch's "
            "MultiheadAttention: use a network of these, or add the type to LAYERS in sap_core.sap.layers (or to ADDITIVE_PARAMETERS, if "
            "the parameter multiplies nothing)"
        )


def described(name: str, module: nn.Module) -> str:
    """Return a module's name and type for messages."""
    return f"layer '{name}' ({type(module).__name__})" if name else f"the network itself ({type(module).__name__})"


def _join(*names: str) -> str:
    return ".".join(name for name in names if name)

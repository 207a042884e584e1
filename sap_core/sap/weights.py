"""Which weights of a network SAP corrects, which it leaves as they are, and which it refuses.

The rule is applied to what one pass in evaluation mode does with each parameter (`trace`), not to the class of the layer:

- Parameters that are multiplied with activations as a matrix are corrected, wherever the product is computed.
- Parameters that are added, concatenated, multiplied element by element or looked up by position, those of norms, and those that meet
  constants only, are left. So are biases and all other one-dimensional parameters that multiply nothing as a matrix.
- Parameters that the pass does not reach (auxiliary heads) are left, with one warning that names them.
- All others are refused by name, unless the option `leave` names them.

Source: SAP corrects all layers; its released code names the layers of each network that it supports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from sap_core.float64 import to_float64
from sap_core.sap.layers import LAYERS, LayerInputs, joined
from sap_core.sap.regions import Region
from sap_core.sap.trace import Use, trace

IMAGES = 2
"""Inputs of the pass that shows how parameters are used; more than one, because some networks normalise over the batch."""


@dataclass(frozen=True, eq=False)
class WeightSite:
    """One weight of a network that SAP corrects.

    Attributes:
        region: the parameter and its elements, whose `reshape(K, -1, D)` are the matrices.
        layout: layout of the inputs.
        calls: (name of the layer, name of the weight within it) for each layer from whose calls the inputs are collected; empty if they
            are collected from the products themselves.
    """

    region: Region
    layout: LayerInputs
    calls: tuple[tuple[str, str], ...] = ()

    def matrix(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Return the weight as (K, O, D) float64, whose rows are multiplied with the columns of the layout."""
        # Rows of a convolution's weight are ordered as its patches: channel, kernel row, kernel column.
        return to_float64(self.region.read(parameters)).reshape(self.layout.groups, -1, self.layout.inputs)


Sites = dict[str, WeightSite]
"""Name of the weight -> site. The name is that of the layer ('head'), or of a weight within it ('attention.q_proj')."""


@dataclass(frozen=True)
class Weights:
    """All parameters of a network that are corrected, or that have two or more dimensions.

    Attributes:
        sites: corrected weights, in the order of the network's modules.
        left: names of parameters that stay as they are -> reason.
        unreached: names of parameters that no pass in evaluation mode reaches.
        refused: names of parameters that SAP does not support -> reason.
    """

    sites: Sites
    left: Mapping[str, str]
    unreached: tuple[str, ...]
    refused: Mapping[str, str]


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of a network by name; a shared one under its first name."""
    return dict(model.named_parameters())


def classify(model: nn.Module, inputs: Tensor) -> Weights:
    """Find out by one pass in evaluation mode what SAP does with each parameter of `model`, which is not changed.

    Args:
        model: the network.
        inputs: (B, ...) inputs as the network expects them, of which the first `IMAGES` are used; on the meta device with the network.
    """
    parameters = parameters_of(model)
    # No `isinstance`: a subclass, or a `forward` of the instance's own, may transform its weight before it multiplies with it.
    layers = {name: module for name, module in model.named_modules() if type(module) in LAYERS and "forward" not in vars(module)}
    refused = dict(_opaque(model))
    # Cloned, because a network may overwrite its input.
    hidden = dict(_unregistered(model, {id(parameter) for parameter in parameters.values()}))
    found = trace(model, inputs[:IMAGES].clone(), {**parameters, **hidden}, layers)
    for name in hidden:
        if any(use.kind in ("product", "unsupported") for use in found.uses.get(name, ())):
            refused[name] = "it is no parameter of the network, because it is in a Python list or dict or a plain attribute"
    from_calls = _sites_of_layers(layers, parameters, found.uses)
    sites, left, unreached = Sites(), dict[str, str](), list[str]()
    for name, parameter in parameters.items():
        uses = found.uses.get(name, [])
        if name in refused:
            continue
        if reason := _unsupported(parameter, uses):
            refused[name] = reason
        elif any(use.kind == "product" for use in uses):
            sites |= from_calls.get(name) or _sites_of_products(name, uses)
        elif parameter.ndim >= 2 and name in found.reached:
            left[name] = "multiplies constants" if any(use.kind == "constant" for use in uses) else "multiplies nothing as a matrix"
        elif parameter.ndim >= 2:
            unreached.append(name)
    return Weights(_in_order(model, sites), left, tuple(unreached), refused)


def _opaque(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of parameters whose use cannot be observed on every device, and of weights that are no parameters -> reason."""
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            yield from ((joined(name, own), "it belongs to a TorchScript module") for own, p in module.named_parameters() if p.ndim >= 2)
        elif isinstance(module, nn.RNNBase):
            yield from ((joined(name, own), "it belongs to a recurrent layer") for own, p in module.named_parameters() if p.ndim >= 2)
        elif ".quantized" in type(module).__module__ and "weight" in dir(type(module)):
            # Quantised layers keep packed weights, which `weight()` unpacks.
            yield joined(name, "weight"), "it is quantised"
        elif type(module) in LAYERS:
            # Under a reparametrisation of the old kind the module's weight is an attribute that is computed before each call.
            own = dict(module.named_parameters())
            missing = {each.parameter for each in LAYERS[type(module)].weights(module).values()} - own.keys()
            if not any(parameter.ndim >= 2 for parameter in own.values()):
                yield from ((joined(name, each), "it is computed and no parameter") for each in missing)


def _unregistered(model: nn.Module, known: Set[int]) -> Iterator[tuple[str, Tensor]]:
    """Names and values of weights in attributes that torch does not search for parameters, such as lists of layers."""
    own = vars(nn.Module())
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in own:
                continue
            for place, each in _weights_in(value):
                if id(each) not in known and each.ndim >= 2:
                    yield joined(name, key, place), each


def _weights_in(value: object, depth: int = 3) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, nn.Module):
        yield from value.named_parameters()
    elif isinstance(value, Tensor):
        if value.requires_grad and value.is_leaf:
            yield "", value
    elif depth and isinstance(value, (list, tuple, dict)):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            for place, each in _weights_in(part, depth - 1):
                yield joined(str(key), place), each


def _unsupported(parameter: Tensor, uses: Sequence[Use]) -> str:
    """Reason why SAP cannot correct a parameter and must not leave it; '' if there is none."""
    for use in uses:
        if use.kind == "unsupported" and (parameter.ndim >= 2 or use.matrix):
            return use.reason
    used = [use for use in uses if use.kind == "product"]
    if used and parameter.is_complex():
        return "it is complex"
    if used and any(use.kind == "elementwise" for use in uses):
        return "it is multiplied with activations as a matrix, and also added to them or multiplied element by element"
    # One matrix has one projector: that of its inputs, which it must multiply from the same side in every use.
    regions = {use.region.key: use.region for use in used if use.region is not None}
    layouts = {(use.region.key, use.layout) for use in used if use.region is not None}
    overlap = any(_overlap(first, second) for first, second in combinations(regions.values(), 2))
    return "it is multiplied with activations in different ways" if overlap or len(layouts) > len(regions) else ""


def _overlap(first: Region, second: Region) -> bool:
    return bool(torch.isin(first.elements, second.elements).any())


def _sites_of_layers(
    layers: Mapping[str, nn.Module], parameters: Mapping[str, Tensor], uses: Mapping[str, Sequence[Use]]
) -> dict[str, Sites]:
    """The sites of each parameter that is multiplied in calls of its own layers only."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    owners: dict[str, set[str]] = {}
    found: dict[str, dict[object, tuple[str, WeightSite]]] = {}
    for layer, module in layers.items():
        own = dict(module.named_parameters(remove_duplicate=False))
        for weight, each in LAYERS[type(module)].weights(module).items():
            if each.parameter not in own:
                continue
            tensor = own[each.parameter].detach()
            name = names[id(own[each.parameter])]
            owners.setdefault(name, set()).add(layer)
            region = Region.of(name, tensor, tensor if each.rows is None else tensor[slice(*each.rows)])
            # Layers that share a weight share its site, if their inputs have one layout.
            title, site = found.setdefault(name, {}).setdefault(
                (region.key, each.layout), (joined(layer, weight), WeightSite(region, each.layout))
            )
            found[name][region.key, each.layout] = title, WeightSite(region, each.layout, (*site.calls, (layer, weight)))
    return {
        name: dict(sites.values())
        for name, sites in found.items()
        if len({site.region.key for _, site in sites.values()}) == len(sites)
        and all(owners[name] & set(use.layers) for use in uses.get(name, ()) if use.kind == "product")
    }


def _sites_of_products(name: str, uses: Sequence[Use]) -> Sites:
    """The sites of a parameter that is multiplied elsewhere, for example by `functional.linear` in the code of another module."""
    regions = {use.region.key: use for use in uses if use.region is not None}
    sites = [WeightSite(use.region, use.layout) for use in regions.values() if use.region is not None and use.layout is not None]
    # As for layers, the weight of a module has the name of the module.
    title = "" if name == "weight" else name.removesuffix(".weight")
    return {title: sites[0]} if len(sites) == 1 else {f"{name}.{place}": site for place, site in enumerate(sites)}


def _in_order(model: nn.Module, sites: Sites) -> Sites:
    places = {name: place for place, (name, _) in enumerate(model.named_modules())}
    # Stable: the weights of a layer keep their order.
    return dict(sorted(sites.items(), key=lambda each: places[_module_of(each[1])]))


def _module_of(site: WeightSite) -> str:
    return site.calls[0][0] if site.calls else site.region.parameter.rpartition(".")[0]

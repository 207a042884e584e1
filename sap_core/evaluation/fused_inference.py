"""The quick form of a network, for evaluation: the same function to rounding, in less time.

- A batch norm in evaluation mode is a fixed scale and shift per channel, so it goes into the weights of the convolution or linear layer
  whose output it normalises: W' = W * s, b' = (b - mean) * s + shift, with s = scale / sqrt(var + eps).
- On a CPU, networks with two-dimensional convolutions keep their weights in channels-last order. Measured faster for every network here,
  small ones included (benchmarks/evaluation.py); the layout spreads from the first convolution on, so inputs stay as they are.

Which norm goes into which layer is found once per structure, by tracing the forward pass with torch.fx (torch's own `fuse` traces every
network anew, follows neither shared modules nor norms without scale, and takes any failure to the caller). What was found is tried on
made-up weights and inputs; a network that cannot be traced, or whose quick form says something else there, is evaluated as it is. So the
form depends on the structure alone, never on a candidate's numbers.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

_NORM_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d,
}  # fmt: skip
"""Layers and the norm that goes into each; exactly these classes, because a subclass may do anything."""

_TOLERANCE = 1e-3
"""Relative; rounding is 1e-6 or so, and a norm in the wrong layer changes the first digit."""

_MOST_FORMS = 32


@dataclass(frozen=True)
class Form:
    """What to do to a network of one structure; the default is nothing."""

    folds: tuple[tuple[str, str], ...] = ()  # names of (layer, norm after it)
    channels_last: bool = False


FORMS: dict[Hashable, Form] = {}
"""Forms found so far, by structure of the network."""


def fused_copy(model: nn.Module, inputs: Tensor) -> nn.Module:
    """A copy of `model` in evaluation mode and quick form. `model` stays untouched, and the copy does not change with it.

    Args:
        model: any network.
        inputs: some inputs as the network takes them, (B, ...); their shape, type and device count, their values do not.
    """
    return apply_fusion(copy.deepcopy(model).eval(), fusion_plan_for(model, inputs))


def fusion_plan_for(model: nn.Module, inputs: Tensor) -> Form:
    """What is done to networks of this structure; found at the first sight of it."""
    structure = _structure(model, inputs)
    if structure not in FORMS:
        if len(FORMS) == _MOST_FORMS:
            FORMS.clear()
        FORMS[structure] = find_form(model, inputs)
    return FORMS[structure]


@torch.no_grad()
def apply_fusion(network: nn.Module, form: Form) -> nn.Module:
    """`network`, changed in place to this form."""
    for layer_name, norm_name in form.folds:
        layer, norm = network.get_submodule(layer_name), network.get_submodule(norm_name)
        numbers = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        layer.weight, layer.bias = fuse_conv_bn_weights(layer.weight, layer.bias, *numbers)  # type: ignore[arg-type]  # linear ones too
        network.set_submodule(norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last) if form.channels_last else network


def find_form(model: nn.Module, inputs: Tensor) -> Form:
    """Traces a copy, and tries what was found on made-up numbers."""
    network = copy.deepcopy(model).eval()
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # a forward pass that draws numbers must not move the global generator
        try:
            channels_last = inputs.device.type == "cpu" and any(isinstance(module, nn.Conv2d) for module in network.modules())
            form = Form(tuple(_folds(_Tracer().trace(network), network)), channels_last)
            made_up = _make_up(network, inputs)
            said, wanted = apply_fusion(copy.deepcopy(network), form)(made_up), network(made_up)
            same = bool((said - wanted).abs().max() <= _TOLERANCE * wanted.abs().max())
        except Exception:  # whatever a forward pass may say to stand-ins for tensors, or to made-up numbers
            return Form()
    return form if same else Form()


class _Tracer(Tracer):
    proxy_buffer_attributes = True  # a buffer that the forward pass reads by itself shows in the graph, as parameters do


def _folds(graph: Graph, network: nn.Module) -> Iterator[tuple[str, str]]:
    """(layer, norm) where nothing else reads the layer's output, and nothing else uses the two or their tensors."""
    modules = dict(network.named_modules())
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    owners = Counter(id(tensor) for module in modules.values() for tensor in _own_tensors(module))

    def alone(name: str) -> bool:
        module = modules[name]
        hooked = bool(module._forward_hooks or module._forward_pre_hooks)
        unshared = names[id(module)] == 1 and all(owners[id(tensor)] == 1 for tensor in _own_tensors(module))
        return calls[name] == 1 and name not in read and unshared and not hooked

    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
        if not (isinstance(source, Node) and source.op == "call_module" and len(source.users) == 1):
            continue
        layer, norm = modules[str(source.target)], modules[str(node.target)]
        fits = type(norm) is _NORM_OF.get(type(layer)) and _fixed(norm) and layer.get_parameter("weight").shape[0] == norm.num_features
        if fits and alone(str(source.target)) and alone(str(node.target)):
            yield str(source.target), str(node.target)


def _fixed(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Is it a batch norm that normalises by running statistics, not by those of the batch?"""
    return isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None and not module.training


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]


def _make_up(network: nn.Module, inputs: Tensor) -> Tensor:
    """Gives `network` random weights and running statistics, and returns three random inputs."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.is_floating_point():
            made_up = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(made_up * (parameter.numel() / len(parameter)) ** -0.5 if parameter.ndim > 1 else 1 + 0.3 * made_up)
    for module in network.modules():
        if _fixed(module) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return torch.randn((3, *inputs.shape[1:]), generator=generator).to(inputs)


_COMMON = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, str, tuple, list, dict, set, type(None))


def _structure(model: nn.Module, inputs: Tensor) -> Hashable:
    """What the course of a forward pass depends on, beside the numbers in tensors."""
    seen: dict[int, int] = {}

    def tensor_key(name: str, tensor: Tensor | None) -> Hashable:
        if tensor is None:
            return name
        return name, seen.setdefault(id(tensor), len(seen)), tuple(tensor.shape), tensor.dtype, tensor.device.type

    def module_key(name: str, module: nn.Module) -> Hashable:
        tensors = tuple(tensor_key(*item) for item in (*module._parameters.items(), *module._buffers.items()))
        settings = tuple((key, repr(value)) for key, value in vars(module).items() if key not in _COMMON and isinstance(value, _PLAIN))
        return name, type(module), bool(module._forward_hooks or module._forward_pre_hooks), tensors, settings

    modules = tuple(module_key(*item) for item in model.named_modules(remove_duplicate=False))
    return tuple(inputs.shape[1:]), inputs.dtype, inputs.device.type, modules

"""Fused inference copies of networks: the same function up to rounding, evaluated faster.

- Batch norm folding: in evaluation mode a batch norm is a fixed scale and shift per channel, which is folded into the convolution or linear
  layer before it: W' = W * s, b' = (b - mean) * s + shift, with s = scale / sqrt(var + eps).
- On a CPU, the weights of networks with two-dimensional convolutions are stored channels-last. This is faster for every network of this
  project, small ones included (`benchmarks/evaluation.py`). The memory format propagates from the first convolution, so inputs need no
  conversion.

The fusion plan of a network (which norm is folded into which layer) is found once per structure, by tracing the forward pass with torch.fx.
torch's own `fuse` is not used: it traces every network again, does not handle shared modules or norms without scale, and raises on networks
that cannot be traced. A plan is checked on random weights and inputs; a network that cannot be traced, or whose fused copy deviates there,
is evaluated without fusion. So a plan depends on the structure only and never on the weights of a candidate, and all candidates of a
search are evaluated in the same way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.fx import Graph, Node, Tracer
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights

from sap_core.models.copies import copied

_NORM_OF: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: nn.BatchNorm1d, nn.Conv1d: nn.BatchNorm1d, nn.Conv2d: nn.BatchNorm2d, nn.Conv3d: nn.BatchNorm3d,
}  # fmt: skip
"""Layer type -> type of the norm that can be folded into it; exact types only, because a subclass may compute anything."""

_TOLERANCE = 1e-3
"""Maximum relative deviation of a fused copy. Rounding is about 1e-6; a norm folded into a wrong layer changes the first digit."""

_MAX_PLANS = 32
"""Number of cached plans; the cache is cleared when it is full."""


@dataclass(frozen=True)
class FusionPlan:
    """Changes to networks of one structure; the default plan changes nothing."""

    folds: tuple[tuple[str, str], ...] = ()  # names of (layer, norm that is folded into it)
    channels_last: bool = False


PLANS: dict[Hashable, FusionPlan] = {}
"""Forms found so far, by structure of the network."""


def fused_copy(model: nn.Module, inputs: Tensor) -> nn.Module:
    """Return a fused copy of `model` in evaluation mode, which shares no memory with it.

    Args:
        model: any network; it is not changed.
        inputs: (B, ...) example inputs; only their shape, dtype and device are used.
    """
    # A copy: the corrector may continue to train the network that it yielded.
    return apply_fusion(copied(model).eval(), fusion_plan_for(model, inputs))


def fusion_plan_for(model: nn.Module, inputs: Tensor) -> FusionPlan:
    """Return the plan for networks of this structure, computed once and then cached."""
    # Keyed by structure, not by object: all settings of a search and all seeds of a cell share one plan.
    structure = _structure(model, inputs)
    if structure not in PLANS:
        # A plan is found again in a moment, so no order of use is kept.
        if len(PLANS) == _MAX_PLANS:
            PLANS.clear()
        PLANS[structure] = find_plan(model, inputs)
    return PLANS[structure]


@torch.no_grad()
def apply_fusion(network: nn.Module, plan: FusionPlan) -> nn.Module:
    """Apply a plan to `network` in place and return it."""
    for layer_name, norm_name in plan.folds:
        layer, norm = network.get_submodule(layer_name), network.get_submodule(norm_name)
        statistics = norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        layer.weight, layer.bias = fuse_conv_bn_weights(layer.weight, layer.bias, *statistics)  # type: ignore[arg-type]  # linear layers work, too
        # The norm's place is kept, so that a Sequential's numbering and the forward code stay valid.
        network.set_submodule(norm_name, nn.Identity())
    return network.to(memory_format=torch.channels_last) if plan.channels_last else network


def find_plan(model: nn.Module, inputs: Tensor) -> FusionPlan:
    """Trace a copy of the network, and check the plan on random weights and inputs."""
    network = copied(model).eval()
    # A forward pass that draws numbers must not move the global generator.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            # Only CPUs were measured (`benchmarks/evaluation.py`), so other devices keep the usual layout.
            channels_last = inputs.device.type == "cpu" and any(isinstance(module, nn.Conv2d) for module in network.modules())
            # Tracing executes the forward code on proxies, so a copy is traced: the code may store what it sees.
            plan = FusionPlan(tuple(_folds(_Tracer().trace(network), network)), channels_last)
            example = _randomise(network, inputs)
            found, expected = apply_fusion(copied(network), plan)(example), network(example)
            # NaN compares false, so a plan that gives NaN is not used.
            same = bool((found - expected).abs().max() <= _TOLERANCE * expected.abs().max())
        except Exception:  # a forward pass may raise anything on fx proxies or on random weights
            return FusionPlan()
    return plan if same else FusionPlan()


class _Tracer(Tracer):
    # Buffers that the forward pass reads directly appear in the graph, like parameters.
    proxy_buffer_attributes = True


def _folds(graph: Graph, network: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield (layer, norm) where only the norm reads the layer's output, and nothing else uses the two modules or their tensors."""
    modules = dict(network.named_modules())
    # How often a module is called, by name; a fold is valid for exactly one call.
    calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
    read = {str(node.target).rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    # Without removing duplicates: a module that is registered under two names is counted twice.
    names = Counter(id(module) for _, module in network.named_modules(remove_duplicate=False))
    # Two modules may share one parameter; folding would change both.
    owners = Counter(id(tensor) for module in modules.values() for tensor in _own_tensors(module))

    # A layer that is called twice, shared, hooked or read directly would compute something else after folding.
    def used_once(name: str) -> bool:
        module = modules[name]
        hooked = bool(module._forward_hooks or module._forward_pre_hooks)
        unshared = names[id(module)] == 1 and all(owners[id(tensor)] == 1 for tensor in _own_tensors(module))
        return calls[name] == 1 and name not in read and unshared and not hooked

    for node in graph.nodes:
        source = node.args[0] if node.op == "call_module" and len(node.args) == 1 and not node.kwargs else None
        # Only the norm may read the layer's output: another reader would get the folded values.
        if not (isinstance(source, Node) and source.op == "call_module" and len(source.users) == 1):
            continue
        layer, norm = modules[str(source.target)], modules[str(node.target)]
        # The number of channels is compared, too, since a norm may act on another axis than the layer's outputs.
        foldable = type(norm) is _NORM_OF.get(type(layer)) and _fixed(norm) and layer.get_parameter("weight").shape[0] == norm.num_features
        if foldable and used_once(str(source.target)) and used_once(str(node.target)):
            yield str(source.target), str(node.target)


def _fixed(module: nn.Module) -> TypeGuard[_BatchNorm]:
    """Return whether a module is a batch norm that uses running statistics, as opposed to those of the batch."""
    return isinstance(module, _BatchNorm) and module.running_mean is not None and module.running_var is not None and not module.training


def _own_tensors(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module._parameters.values(), *module._buffers.values()) if tensor is not None]


def _randomise(network: nn.Module, inputs: Tensor) -> Tensor:
    """Set random weights and running statistics in place, and return three random inputs."""
    # A fixed seed, so that every process finds the same plan.
    generator = torch.Generator().manual_seed(0)
    # Scales that keep activations of the order of one, so that a wrong fold is visible and nothing overflows.
    for parameter in network.parameters():
        if parameter.is_floating_point():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values * (parameter.numel() / len(parameter)) ** -0.5 if parameter.ndim > 1 else 1 + 0.3 * values)
    for module in network.modules():
        if _fixed(module) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            # Away from zero, as a small variance would amplify rounding beyond the tolerance.
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return torch.randn((3, *inputs.shape[1:]), generator=generator).to(inputs)


_COMMON = frozenset(vars(nn.Module()))
_PLAIN = (bool, int, float, str, tuple, list, dict, set, type(None))


def _structure(model: nn.Module, inputs: Tensor) -> Hashable:
    """Return everything that the graph of a forward pass depends on; that is, all but the values of tensors."""
    seen: dict[int, int] = {}

    def tensor_key(name: str, tensor: Tensor | None) -> Hashable:
        if tensor is None:
            return name
        # The order of first appearance stands for the identity of a tensor, so that shared tensors show without their addresses.
        return name, seen.setdefault(id(tensor), len(seen)), tuple(tensor.shape), tensor.dtype, tensor.device.type

    def module_key(name: str, module: nn.Module) -> Hashable:
        tensors = tuple(tensor_key(*item) for item in (*module._parameters.items(), *module._buffers.items()))
        # Plain attributes such as a stride or an eps decide what the forward pass computes.
        settings = tuple((key, repr(value)) for key, value in vars(module).items() if key not in _COMMON and isinstance(value, _PLAIN))
        return name, type(module), bool(module._forward_hooks or module._forward_pre_hooks), tensors, settings

    modules = tuple(module_key(*item) for item in model.named_modules(remove_duplicate=False))
    return tuple(inputs.shape[1:]), inputs.dtype, inputs.device.type, modules

"""Freezing of all but the last k layers of a network.

A layer is a module that owns a weight of two or more dimensions (a convolution, a linear map). Layers are counted in the order in which the
network registers them, shortcuts included; modules registered between two layers (norms, biases) belong to the earlier one.

Source: the corrective unlearning benchmark (Goel et al. 2024), which runs the frozen layers in evaluation mode. Deviation: it cuts its
networks by hand, at blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from sap_core.errors import UserError
from sap_core.models.ensemble import Ensemble


@dataclass(frozen=True)
class Frozen:
    """Names of the modules and parameters that are not trained."""

    modules: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()

    def trainable(self, model: nn.Module) -> list[Tensor]:
        """Returns the parameters of `model` that are not frozen."""
        return [parameter for name, parameter in model.named_parameters() if name not in self.parameters]

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, frozen modules of `model` are in evaluation mode and frozen parameters do not require gradients."""
        # Only parameters that ask for gradients now: others were frozen by somebody else and stay so afterwards.
        frozen = [parameter for name, parameter in model.named_parameters() if name in self.parameters and parameter.requires_grad]
        # Running statistics of frozen norms must not move either. Modes are not restored: each pass begins with `model.train()`.
        for name, module in model.named_modules():
            if name in self.modules:
                module.training = False
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in frozen:
                parameter.requires_grad_()


NOTHING_FROZEN = Frozen()


def all_but_last(model: nn.Module, k: int, method: str) -> Frozen:
    """Returns the modules and parameters before the last `k` layers; for an ensemble, those of each member.

    Raises:
        UserError: the network has fewer layers.
    """
    # An ensemble registers its networks one after the other, so the last k layers are counted within each.
    if isinstance(model, Ensemble):
        members = [(f"nets.{number}.", _before(net, k, method)) for number, net in enumerate(model.nets)]
        modules = {prefix + name for prefix, member in members for name in member.modules}
        return Frozen(frozenset(modules), frozenset({prefix + name for prefix, member in members for name in member.parameters}))
    return _before(model, k, method)


def layer_names(model: nn.Module) -> list[str]:
    """Returns the names of the layers, first to last."""
    # Weights of norms, and biases, have one dimension.
    return [name for name, module in model.named_modules() if any(own.ndim > 1 for own in module.parameters(recurse=False))]


def _before(model: nn.Module, k: int, method: str) -> Frozen:
    found = layer_names(model)
    if k > len(found):
        raise UserError(
            f"{method}.k={k} exceeds the number of layers of the network, {len(found)}; use a smaller {method}.k, "
            f"or finetune or retrain, which train all layers"
        )
    # Whatever is registered before the first trained layer is frozen, so a norm between two layers goes with the earlier one.
    first = found[-k]
    names = [name for name, _ in model.named_modules()]
    # Containers of the first trained layer come before it in this order, but hold trained layers as well: they stay in train mode.
    earlier = names[: names.index(first)]
    ancestors = {first[:position] for position, letter in enumerate(first) if letter == "."} | {
        ""
    }  # modules that contain the first trained layer
    parameters = [name for name, _ in model.named_parameters()]
    trained = next(position for position, name in enumerate(parameters) if name.startswith(f"{first}."))
    return Frozen(frozenset(name for name in earlier if name not in ancestors), frozenset(parameters[:trained]))

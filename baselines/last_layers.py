"""The last k layers of a network, for methods that leave the others alone.

A layer is a module that owns a weight of two or more dimensions (a convolution, a linear map); layers count in the order in which the
network registers them, shortcuts included. What is registered between two layers (norms, biases) belongs to the earlier one.

Source: the corrective unlearning benchmark (Goel et al. 2024), which runs the frozen part in evaluation mode. Deviation: it cuts its
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
    """What does not train, by name."""

    modules: frozenset[str] = frozenset()
    parameters: frozenset[str] = frozenset()

    def trainable(self, model: nn.Module) -> list[Tensor]:
        """The parameters of `model` that are not frozen."""
        return [parameter for name, parameter in model.named_parameters() if name not in self.parameters]

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Inside, frozen modules of `model` are in evaluation mode and frozen parameters ask for no gradients."""
        frozen = [parameter for name, parameter in model.named_parameters() if name in self.parameters and parameter.requires_grad]
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
    """What comes before the last `k` layers; of an ensemble, before each member's.

    Raises:
        UserError: the network has fewer layers.
    """
    if isinstance(model, Ensemble):
        parts = [(f"nets.{number}.", _before(net, k, method)) for number, net in enumerate(model.nets)]
        modules = {prefix + name for prefix, part in parts for name in part.modules}
        return Frozen(frozenset(modules), frozenset({prefix + name for prefix, part in parts for name in part.parameters}))
    return _before(model, k, method)


def layer_names(model: nn.Module) -> list[str]:
    """The names of the layers, first to last."""
    return [name for name, module in model.named_modules() if any(own.ndim > 1 for own in module.parameters(recurse=False))]


def _before(model: nn.Module, k: int, method: str) -> Frozen:
    found = layer_names(model)
    if k > len(found):
        raise UserError(
            f"{method}.k={k} is more layers than the network has ({len(found)}); ask for at most that many, "
            f"or use finetune or retrain, which train all of them"
        )
    first = found[-k]
    names = [name for name, _ in model.named_modules()]
    earlier = names[: names.index(first)]
    above = {first[:place] for place, letter in enumerate(first) if letter == "."} | {""}  # modules that the first trained layer is part of
    parameters = [name for name, _ in model.named_parameters()]
    trained = next(place for place, name in enumerate(parameters) if name.startswith(f"{first}."))
    return Frozen(frozenset(name for name in earlier if name not in above), frozenset(parameters[:trained]))

"""Reads from the shapes of a state dict for how many classes and for how many input channels its network was built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

_CLASSES = (3, 5)
"""Two numbers of classes that a network is built with, to see which sizes follow from them."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class StateShape:
    """What the shapes of a state dict tell about its network; None: unknown."""

    num_outputs: int | None  # classes
    channels: int | None  # input channels of the first convolution


def describe(state: Mapping[str, Tensor], build: Callable[[int], nn.Module]) -> StateShape:
    """Return the number of outputs and input channels of the network that a state dict belongs to.

    Args:
        state: names and tensors, with the names of the network (see `pretrained.read_state`).
        build: builds the network for a number of classes; only names and shapes are read, so the meta device suffices.
    """
    few, many = build(_CLASSES[0]), build(_CLASSES[1])
    return StateShape(_num_outputs(state, few, many), input_channels(state, many))


def head_size(state: Mapping[str, Tensor], build: Callable[[int], nn.Module]) -> int | None:
    """Return the number of classes of a state dict's head, or None if its shapes do not tell (see `describe`)."""
    return describe(state, build).num_outputs


def head_names(few: nn.Module, many: nn.Module) -> list[str]:
    """Return the names of the parameters and buffers whose shapes differ between two networks: those of the head."""
    shapes = {name: value.shape for name, value in many.state_dict().items()}
    return [name for name, value in few.state_dict().items() if name in shapes and shapes[name] != value.shape]


def input_channels(state: Mapping[str, Tensor], network: nn.Module) -> int | None:
    """Return the number of channels that the network's first convolution, in the order of its modules, has in a state dict.

    None if the network has no convolution, or the state dict lacks it.
    """
    for name, module in network.named_modules():
        if isinstance(module, _CONVOLUTIONS):
            weight = state.get(f"{name}.weight" if name else "weight")
            # The weight's second axis counts the channels of one group.
            return None if weight is None or weight.ndim != module.weight.ndim else int(weight.shape[1]) * module.groups
    return None


def _num_outputs(state: Mapping[str, Tensor], few: nn.Module, many: nn.Module) -> int | None:
    low, high = (network.state_dict() for network in (few, many))
    found = set()
    for name in head_names(few, many):
        given = state.get(name)
        if given is None or given.ndim != low[name].ndim or low[name].ndim != high[name].ndim:
            continue
        for size, first, second in zip(given.shape, low[name].shape, high[name].shape, strict=True):
            if first == second:
                continue
            # Sizes are linear in the number of classes: a head for boxes has several rows per class, a detector one more class.
            slope = (second - first) / (_CLASSES[1] - _CLASSES[0])
            found.add((size - first) / slope + _CLASSES[0])
    # Auxiliary heads have the same number of classes; a state dict whose heads disagree is of another network.
    (count,) = found if len(found) == 1 else (None,)
    return int(count) if count is not None and count == int(count) and count >= 1 else None

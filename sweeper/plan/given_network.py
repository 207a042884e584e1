"""Reads from a cell's checkpoint for which inputs and outputs its network was trained, and checks that it fits the cell's network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sap_core.api import HasUsualSize, ReadsWeights
from sap_core.construct import locate
from sap_core.data.source import DataSet
from sap_core.models.build import build_network
from sap_core.models.head import describe, head_names
from sap_core.models.pretrained import read_state
from sweeper.config.component import Component, parse_component
from sweeper.config.target import resolve_class
from sweeper.plan.cell import Cell
from sweeper.plan.input_format import NetworkFormat
from trainers.pretrained import CHECKPOINT, Pretrained

_GUESSED_SIDES = (224, 32)
"""Sides with which a network is built to compare names and shapes; some accept only one of them."""


@dataclass(frozen=True)
class GivenNetwork:
    """The network of a cell and its checkpoint, if it has one.

    Attributes:
        checkpoint: path of the file as configured; None: the network is trained in the sweep.
        num_outputs: outputs of the checkpoint's head; None: unknown.
        head: name of a parameter of the head, for messages.
        format: its inputs.
    """

    checkpoint: str | None
    num_outputs: int | None
    head: str
    format: NetworkFormat


def read_network(cell: Mapping[str, Any], sides: tuple[int, ...], plugins: list[str]) -> GivenNetwork:
    """Read what a composed cell's checkpoint tells about its network.

    Args:
        cell: the composed cell.
        sides: sizes of the data set's images, with which the network is built first.
        plugins: further packages that it may name.

    Raises:
        UserError: the checkpoint does not exist or contains no state dict.
    """
    model = parse_component(cell["model"], "model", nn.Module, plugins)
    network = _build(model, (*sides, *_GUESSED_SIDES))
    path = given_checkpoint(cell["trainer"], plugins)
    outputs, channels, head = None, None, ""
    # A network that cannot be built for any size is refused later, by name and with the reason.
    if network is not None and path is not None:
        build, some = network
        with warnings.catch_warnings():
            # The planner reads the file again to compare it with the network, and says then what it changed.
            warnings.simplefilter("ignore")
            state = read_state(path, some, CHECKPOINT, cell["trainer"].get("key"))
        found = describe(state, build)
        outputs, channels = found.num_outputs, found.channels
        head = next(iter(head_names(build(3), build(5))), "")
    cls = locate(model.target)
    named = str(model.settings.get("network") or model.name)
    size = cls.usual_size(**model.settings) if isinstance(cls, HasUsualSize) else None
    return GivenNetwork(path, outputs, head, NetworkFormat(named, channels, size, lambda c, side: _runs(model, c, side)))


def given_checkpoint(trainer: Mapping[str, Any], plugins: list[str]) -> str | None:
    """Return the path of the checkpoint that a configured trainer loads in place of training; None if it trains."""
    cls: Any = resolve_class(trainer.get("_target_"), "trainer", plugins)
    reads = isinstance(cls, ReadsWeights) and "checkpoint" in cls.file_fields
    return str(trainer["checkpoint"]) if reads and trainer.get("checkpoint") else None


def check_checkpoint(cell: Cell) -> None:
    """Make the checks of a job that loads a checkpoint: names and shapes of the weights, and the shape of the outputs.

    Raises:
        UserError: as `trainers.pretrained.Pretrained.fit`.
    """
    if not isinstance(cell.trainer.instance, Pretrained):
        return
    dataset: DataSet = cell.dataset.instance
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = build_network(cell.model.entry, dataset.classes.num, dataset.shape)
        cell.trainer.instance.load(network, torch.zeros(2, *dataset.shape), dataset.classes.num)


def _build(model: Component, sides: tuple[int, ...]) -> tuple[Callable[[int], nn.Module], nn.Module] | None:
    """Return (builds the network for a number of classes, the network) for the first size that it accepts; None if it accepts none."""
    for side in dict.fromkeys(sides):

        def build(classes: int, side: int = side) -> nn.Module:
            return _on_meta(model, classes, (3, side, side))

        with suppress(Exception):  # networks raise exceptions of any type for unsupported sizes
            return build, build(3)
    return None


def _on_meta(model: Component, classes: int, shape: tuple[int, ...]) -> nn.Module:
    """Build a network for its names and shapes: on the meta device, which allocates nothing, or on the CPU where that is impossible."""
    try:
        with torch.device("meta"):
            network: nn.Module = build_network(model.entry, classes, shape)
    except Exception:  # such as a constructor that reads the value of a tensor
        with torch.random.fork_rng(devices=[]):
            network = build_network(model.entry, classes, shape)
    return network


@torch.no_grad()
def _runs(model: Component, channels: int, side: int) -> bool:
    """Return whether the network accepts inputs of (channels, side, side)."""
    shape = (channels, side, side)
    for device in ("meta", "cpu"):
        with suppress(Exception), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            with torch.device(device):
                network: nn.Module = build_network(model.entry, 3, shape)
                network.eval()(torch.zeros(2, *shape))
            return True
    return False

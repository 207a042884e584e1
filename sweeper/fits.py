"""Do a cell's trainer and methods fit its data and its network? What can be refused before any work begins is refused here."""

from __future__ import annotations

import torch
from torch import nn

from sap_core.construct import construct
from sap_core.errors import UserError
from sweeper.cells import Cell
from sweeper.forecast import flops_of

COUNTS = ("num_trusted", "num_retain", "num_forget")
"""Fields of methods that count training samples."""


def check_fits(cell: Cell) -> None:
    """Asks trainer and settings that offer `refuse(kind, network)`, a pruner that offers `refuse(trainer)`, and counts samples.

    Raises:
        UserError: the first part that cannot work in this cell, with the reason.
    """
    if cell.pruner is not None and hasattr(cell.pruner.instance, "refuse"):
        cell.pruner.instance.refuse(cell.warming().trainer.instance)
    train = cell.sizes[0]
    settings = [(search.name, search.method, setting) for search in cell.searches for setting in search.settings]
    settings += [(search.method, search.method, search.ground.base) for search in cell.sampled]
    for search, method, setting in settings:
        counts = {name: setting.settings[name] for name in COUNTS if setting.settings.get(name) is not None}
        for name, count in counts.items():
            if count > train:
                raise UserError(
                    f"{search} asks for {name}={count}, but {cell.dataset.name} has {train} training samples here; ask for at most "
                    f"that many (method.{method}.corrector.{name}=...)"
                )
    asked = [part for part in (cell.trainer.instance, *(setting.instance for *_, setting in settings)) if hasattr(part, "refuse")]
    if asked:
        network = _network(cell)
        for instance in asked:
            instance.refuse(cell.dataset.instance.kind, network)


def _network(cell: Cell) -> nn.Module:
    """The cell's network on torch's meta device: names and shapes without memory."""
    flops_of(cell.model, cell.dataset)  # says in one sentence why a network cannot be built
    data = cell.dataset.instance
    with torch.device("meta"):
        network: nn.Module = construct(cell.model.entry, num_outputs=data.classes.num, input_shape=data.shape)
    return network

"""A network that was trained elsewhere: a checkpoint is loaded, nothing is trained.

It stands where a trainer stands, so that everything after it (correction, rows, reports) is as for any other baseline. The rows count the
checkpoint by what it holds (see `ReadsWeights` in `sap_core.roles`), not by where it lies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from sap_core.errors import UserError
from sap_core.models.pretrained import load_whole


@dataclass(frozen=True)
class Given:
    """Fills `task.build(0)` with a checkpoint's weights, all of them."""

    name: ClassVar[str] = "given"
    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ("checkpoint",)

    checkpoint: str  # a state dict, whole or under one key: safetensors, or .pt/.pth as torch.save writes it

    def fit(self, task: Task, run: Run) -> Fitted:
        """Loads; there is nothing to resume.

        Raises:
            UserError: no such file, or no weights of this network in it, or the network's outputs are not this data set's.
        """
        model = task.build(0)
        load_whole(model, self.checkpoint, "trainer.checkpoint")
        model = model.to(task.device).eval()
        (batch, *_) = task.val.subset(torch.arange(2)).batches(2)
        with torch.no_grad():
            outputs = tuple(model(batch.inputs).shape)
        if outputs != (2, task.num_outputs):
            raise UserError(
                f"the network gives outputs of shape {outputs} for 2 images, but the data set has {task.num_outputs} classes; "
                f"set its number of outputs in model=..., or the number of classes in dataset=..."
            )
        return Fitted(model)

    def forecast(self, sizes: Sizes) -> Passes:
        """No passes at all."""
        return Passes()

"""Pretrained: loads a checkpoint that was trained outside the sweep instead of training a network.

Everything downstream (correction, rows, reports) treats the result as any other baseline. Ids hold the checkpoint's content, not its path
(`ReadsWeights` in `sap_core.roles`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sap_core.api import Fitted, Passes, Run, Sizes, Task, TaskType
from sap_core.errors import UserError
from sap_core.models.pretrained import load_state_strictly

CHECKPOINT = "trainer.checkpoint"
"""Option that names the file, for messages."""


@dataclass(frozen=True)
class Pretrained:
    """Loads all weights of `task.build(0)` from `checkpoint`."""

    name: ClassVar[str] = "given"
    version: ClassVar[int] = 1
    file_fields: ClassVar[tuple[str, ...]] = ("checkpoint",)

    checkpoint: str  # path of a file with the network's state dict: safetensors, what torch.save writes, or .npz
    key: str | None = None  # which weights of the file, if it holds several, such as state_dict_ema: a key, or a prefix of names

    def refuse(self, kind: TaskType, model: nn.Module) -> None:
        """Refuses a checkpoint that does not fit the network, at planning time.

        Raises:
            UserError: see `load_state_strictly`.
        """
        load_state_strictly(model, self.checkpoint, CHECKPOINT, self.key)

    def fit(self, task: Task, run: Run) -> Fitted:
        """Loads the checkpoint. There is nothing to resume.

        Raises:
            UserError: the file does not exist, does not hold this network's weights, or the network has another number of outputs than
                the data set has classes.
        """
        (batch, *_) = task.train.subset(torch.arange(2)).batches(2)
        return Fitted(self.load(task.build(0), batch.inputs, task.num_outputs))

    def load(self, model: nn.Module, inputs: Tensor, num_outputs: int) -> nn.Module:
        """Loads the checkpoint into `model`; planning makes the same checks, with zeros as images.

        Args:
            model: the network, with any weights.
            inputs: (2, ...) preprocessed images, on the device on which the network is to be.
            num_outputs: classes.

        Returns:
            The network in evaluation mode, on the device of `inputs`.

        Raises:
            UserError: as `fit`.
        """
        load_state_strictly(model, self.checkpoint, CHECKPOINT, self.key)
        model = model.to(inputs.device).eval()
        # Names and shapes of weights do not tell what a network answers with (a plug-in's need not follow the number of classes), so two
        # images are passed through it.
        with torch.no_grad():
            outputs = tuple(model(inputs).shape)
        if outputs != (2, num_outputs):
            raise UserError(
                f"the network gives outputs of shape {outputs} for 2 images, but the data set has {num_outputs} classes; "
                f"set its number of outputs in model=..., or the number of classes in dataset=..."
            )
        return model

    def forecast(self, sizes: Sizes) -> Passes:
        """Returns zero passes: nothing is trained."""
        return Passes()

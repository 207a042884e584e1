"""Bootstrapping, hard form: the target mixes the given label with the class that the network predicts.

Reed, Lee, Anguelov, Szegedy, Erhan and Rabinovich, "Training deep neural networks on noisy labels with bootstrapping", 2014 (ICLR 2015
workshop), in the form in which PRL's authors compare with it (github.com/illidanlab/PRL, commit e89afe6):

    l_i = weight CE(z_i, y_i) + (1 - weight) CE(z_i, argmax_c z_ic)

The soft form is not offered.

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import ranges
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class Bootstrapping:
    """Cross-entropy with the given label and with the predicted class."""

    name: ClassVar[str] = "bootstrapping"
    version: ClassVar[int] = 1

    weight: float = 0.8  # of the given label
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "[0, 1]", weight=self.weight)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("bootstrapping", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) losses l_i."""
        given_B = functional.cross_entropy(logits_BC, batch.labels, reduction="none")
        # The argmax has no gradient: the predicted class is a target like the given one.
        predicted_B = functional.cross_entropy(logits_BC, logits_BC.argmax(1), reduction="none")
        return self.weight * given_B + (1 - self.weight) * predicted_B

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

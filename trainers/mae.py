"""MAE: mean absolute error between predicted probabilities and the one-hot label, a bounded and symmetric loss that trains slowly.

Ghosh, Kumar and Sastry, "Robust loss functions under label noise for deep neural networks", AAAI 2017.

    L = sum_c |p_c - y_c| = 2 (1 - p_y)

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class MAE:
    """Mean absolute error; it has no hyperparameters of its own."""

    name: ClassVar[str] = "mae"
    version: ClassVar[int] = 1

    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("mae", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) absolute errors, in [0, 2]."""
        p_B = logits_BC.softmax(1).gather(1, batch.labels[:, None]).squeeze(1)
        return 2 * (1 - p_B)

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

"""GCE, generalised cross-entropy: interpolates between cross-entropy (q to 0) and mean absolute error (q = 1).

Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels", NeurIPS 2018 (equation 6, q =
0.7). The truncated form of the same paper is not offered.

    L = (1 - p_y^q) / q

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import ranges
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class GCE:
    """Generalised cross-entropy of every sample."""

    name: ClassVar[str] = "gce"
    version: ClassVar[int] = 1

    q: float = 0.7
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "(0, 1]", q=self.q)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("gce", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) losses, in [0, 1 / q]."""
        # p^q as exp(q log p): a probability that rounds to 0 still has a gradient.
        log_p_B = logits_BC.log_softmax(1).gather(1, batch.labels[:, None]).squeeze(1)
        return (1 - (self.q * log_p_B).exp()) / self.q

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

"""GLS, generalised label smoothing: cross-entropy with a smoothing rate that may be negative.

Wei, Liu, Liu, Niu, Sugiyama and Liu, "To smooth or not? When label smoothing meets noisy labels", ICML 2022. References:
github.com/UCSC-REAL/negative-label-smoothing, and github.com/sangamesh-kodge/LabelNoiseRobustness (rates 0.2 and -0.2).

    L = (1 - r) * (-log p_y) + r * mean_c(-log p_c)

A rate in [0, 1) is plain label smoothing (torch's `label_smoothing`). With a negative rate the loss is unbounded below, which is why the
original starts with plain cross-entropy where noise is heavy (`warmup_epochs`).

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from sap_core.errors import at_least
from trainers import ranges
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class GLS:
    """Smooths the given label by `rate`. Soft targets, such as those of MixUp, are refused."""

    name: ClassVar[str] = "gls"
    version: ClassVar[int] = 1

    rate: float = -0.2
    warmup_epochs: int = 0  # number of first epochs with plain cross-entropy
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "(-inf, 1)", rate=self.rate)
        at_least("trainer", 0, warmup_epochs=self.warmup_epochs)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("gls", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) smoothed cross-entropies."""
        # Written out, because torch's label smoothing rejects negative rates.
        surprise_BC = -logits_BC.log_softmax(1)
        given_B = surprise_BC.gather(1, batch.labels[:, None]).squeeze(1)
        rate = self.rate if context.epoch > self.warmup_epochs else 0.0
        return (1 - rate) * given_B + rate * surprise_BC.mean(1)

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

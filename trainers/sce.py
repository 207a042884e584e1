"""SCE, symmetric cross-entropy: cross-entropy plus its reverse, in which prediction and label are exchanged.

Wang, Ma, Chen, Luo, Yi and Bailey, "Symmetric cross entropy for robust learning with noisy labels", ICCV 2019. Reference:
github.com/YisenWang/symmetric_cross_entropy_for_noisy_labels.

    L = alpha * CE + beta * RCE,   RCE = -sum_c p_c log y_c = -A (1 - p_y)   with log 0 := A

Deviations: the released code clamps the one-hot label at 1e-4 instead, which is A = log(1e-4) = -9.21. It also clamps predictions at 1e-7,
which is unnecessary here: RCE has no logarithm of them.

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
class SCE:
    """Symmetric cross-entropy. alpha 0.1 and beta 1.0 are common for CIFAR-10; CIFAR-100 is usually run with 6.0 and 0.1."""

    name: ClassVar[str] = "sce"
    version: ClassVar[int] = 1

    alpha: float = 0.1  # of cross-entropy
    beta: float = 1.0  # of reverse cross-entropy
    log_zero: float = -4.0  # A
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "[0, inf)", alpha=self.alpha, beta=self.beta)
        ranges.check("trainer", "(-inf, 0)", log_zero=self.log_zero)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("sce", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) symmetric cross-entropies."""
        p_B = logits_BC.softmax(1).gather(1, batch.labels[:, None]).squeeze(1)
        # Reverse cross-entropy in closed form: log y is 0 at the given class and A at all others, whose probabilities add up to 1 - p_y.
        return self.alpha * functional.cross_entropy(logits_BC, batch.labels, reduction="none") - self.beta * self.log_zero * (1 - p_B)

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

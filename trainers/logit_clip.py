"""LogitClip: cross-entropy on logits of clipped norm, which bounds the loss of every sample.

Wei, Zhuang, Xie, Feng, Niu, An and Li, "Mitigating memorization of noisy labels by clipping the model prediction", ICML 2023. Reference:
github.com/hongxin001/LogitClip, whose code gives logits beyond the threshold the norm 1 / tau instead of tau, so that it jumps for tau
other than 1. `form: released` does that; the default is the paper's.

    z' = z                    where ||z||_p <= tau
    z' = tau * z / ||z||_p    elsewhere

Shapes: B batch, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import ranges
from trainers.loop import EpochContext
from trainers.sgd import FLAT, SGD

TINY = 1.0e-7
"""Added to norms, so that zero logits do not divide by zero."""


@dataclass(frozen=True)
class LogitClip:
    """Clips in training only; predictions are the argmax of the raw logits, which clipping does not change.

    Clipped logits have a bounded gap, so the loss cannot fall below log(1 + (C - 1) exp(-tau sqrt(C / (C - 1)))) for p = 2. The threshold
    must be tuned.
    """

    name: ClassVar[str] = "logit_clip"
    version: ClassVar[int] = 1

    tau: float = 1.0
    p: float = 2.0  # order of the norm
    form: Literal["paper", "released"] = "paper"
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "(0, inf)", tau=self.tau)
        ranges.check("trainer", "[1, inf)", p=self.p)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("logit_clip", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, context: EpochContext) -> Tensor:
        """Returns the (B,) cross-entropies of the clipped logits."""
        # In training only: clipping does not change the largest logit, so the network itself stays as it is.
        return functional.cross_entropy(self.clip(logits_BC), batch.labels, reduction="none")

    def clip(self, logits_BC: Tensor) -> Tensor:
        """Returns (B, C) logits whose norm is at most tau."""
        norm_B1 = torch.linalg.vector_norm(logits_BC, self.p, dim=1, keepdim=True) + TINY
        # The released code compares with tau, but scales to 1 / tau.
        target = self.tau if self.form == "paper" else 1 / self.tau
        return torch.where(norm_B1 > self.tau, target * logits_BC / norm_B1, logits_BC)

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe."""
        return self.recipe.forecast(sizes)

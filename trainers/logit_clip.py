"""LogitClip: cross-entropy on logits whose norm is clipped, so that no sample's loss pulls without bound.

Wei, Zhuang, Xie, Feng, Niu, An and Li, "Mitigating memorization of noisy labels by clipping the model prediction", ICML 2023. Reference:
github.com/hongxin001/LogitClip, whose code gives logits beyond the threshold the norm 1 / tau, not tau: at tau other than 1 it jumps.
`form: released` does that; the default is the paper's.

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
from trainers import checks
from trainers.loop import Moment
from trainers.sgd import FLAT, SGD

TINY = 1.0e-7


@dataclass(frozen=True)
class LogitClip:
    """Clips while training only; predictions are argmax over raw logits, which clipping would not change.

    The largest gap between clipped logits is bounded, so the loss has a floor above 0:
    log(1 + (C - 1) exp(-tau sqrt(C / (C - 1)))) for p = 2. The threshold must be tuned.
    """

    name: ClassVar[str] = "logit_clip"
    version: ClassVar[int] = 1

    tau: float = 1.0
    p: float = 2.0  # the norm
    form: Literal["paper", "released"] = "paper"
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        checks.within("trainer", "(0, inf)", tau=self.tau)
        checks.within("trainer", "[1, inf)", p=self.p)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        return self.recipe.fit_losses("logit_clip", task, run, self.losses)

    def losses(self, logits_BC: Tensor, batch: Batch, moment: Moment) -> Tensor:
        """(B,) cross-entropies of the clipped logits."""
        return functional.cross_entropy(self.clip(logits_BC), batch.labels, reduction="none")

    def clip(self, logits_BC: Tensor) -> Tensor:
        """(B, C) logits of norm at most tau."""
        norm_B1 = torch.linalg.vector_norm(logits_BC, self.p, dim=1, keepdim=True) + TINY
        target = self.tau if self.form == "paper" else 1 / self.tau
        return torch.where(norm_B1 > self.tau, target * logits_BC / norm_B1, logits_BC)

    def forecast(self, sizes: Sizes) -> Passes:
        """Those of the recipe."""
        return self.recipe.forecast(sizes)

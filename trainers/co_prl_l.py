"""co-PRL-L: two networks, each ranks by loss-layer gradients, and learns from what the other one keeps.

Liu et al., ICML 2021 (see `trainers.prl_l`), with the exchange of co-teaching. Reference: github.com/illidanlab/PRL (commit e89afe6).
Deviations: those of `trainers.kept`; the first network is handed out (the released code reports the mean accuracy of both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.kept import Keep, by_outputs
from trainers.prl_l import loss_gradient
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class CoPRL_L:  # noqa: N801 - the paper's name
    """Two networks that exchange what they keep."""

    name: ClassVar[str] = "co_prl_l"
    version: ClassVar[int] = 1

    keep: Keep = field(default=Keep(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 2, task, run, "co_prl_l", by_outputs(loss_gradient))

    def forecast(self, sizes: Sizes) -> Passes:
        """Passes for scores over all samples, and for learning over what is kept."""
        return self.keep.forecast(self.recipe, sizes, networks=2)

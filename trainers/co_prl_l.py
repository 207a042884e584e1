"""co-PRL-L: two networks, each trained on the samples with the smallest loss-layer gradients under the other.

Liu et al., ICML 2021 (see `trainers.prl_l`), with the exchange of co-teaching. Reference: github.com/illidanlab/PRL (commit e89afe6).
Deviations: those of `trainers.sample_selection`; the first network is returned (the released code reports the mean accuracy of both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.prl_l import loss_gradient
from trainers.sample_selection import BatchSelection, score_from_outputs
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class CoPRL_L:  # noqa: N801 - the paper's name
    """Two networks that exchange their kept samples."""

    name: ClassVar[str] = "co_prl_l"
    version: ClassVar[int] = 1

    keep: BatchSelection = field(default=BatchSelection(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 2, task, run, "co_prl_l", score_from_outputs(loss_gradient))

    def forecast(self, sizes: Sizes) -> Passes:
        """Scoring passes over all samples and training passes over the kept ones."""
        return self.keep.forecast(self.recipe, sizes, networks=2)

"""Co-teaching: two networks, each trained on the samples of a mini-batch with the smallest loss under the other.

Han, Yao, Yu, Niu, Xu, Hu, Tsang and Sugiyama, "Co-teaching: robust training of deep neural networks with extremely noisy labels", NeurIPS
2018. Reference: github.com/bhanML/Co-teaching, as github.com/illidanlab/PRL (commit e89afe6) builds on it.
Deviations: those of `trainers.sample_selection`; the first network is returned (the released code reports both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.sample_selection import BatchSelection, loss_score, score_from_outputs
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class CoTeaching:
    """Two networks that exchange their small-loss samples."""

    name: ClassVar[str] = "coteaching"
    version: ClassVar[int] = 1

    # One pass serves selection and step, as in the reference.
    keep: BatchSelection = field(default=BatchSelection(reforward=False), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 2, task, run, "coteaching", score_from_outputs(loss_score))

    def forecast(self, sizes: Sizes) -> Passes:
        """Scoring passes over all samples and training passes over the kept ones."""
        return self.keep.forecast(self.recipe, sizes, networks=2)

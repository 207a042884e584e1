"""Co-teaching: two networks, each learns from the samples of a mini-batch that have a small loss in the other one.

Han, Yao, Yu, Niu, Xu, Hu, Tsang and Sugiyama, "Co-teaching: robust training of deep neural networks with extremely noisy labels", NeurIPS
2018. Reference: github.com/bhanML/Co-teaching, as github.com/illidanlab/PRL (commit e89afe6) builds on it.
Deviations: those of `trainers.kept`; the first network is handed out (the released code reports both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.kept import Keep, by_outputs, loss
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class CoTeaching:
    """Two networks that exchange their small-loss samples."""

    name: ClassVar[str] = "coteaching"
    version: ClassVar[int] = 1

    keep: Keep = field(default=Keep(reforward=False), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 2, task, run, "coteaching", by_outputs(loss))

    def forecast(self, sizes: Sizes) -> Passes:
        """Passes for scores over all samples, and for learning over what is kept."""
        return self.keep.forecast(self.recipe, sizes, networks=2)

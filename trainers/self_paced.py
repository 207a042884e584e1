"""Self-paced learning: training on the samples of each mini-batch with the smallest loss.

Kumar, Packer and Koller, "Self-paced learning for latent variable models", NIPS 2010, in the form in which PRL's authors compare with it
(github.com/illidanlab/PRL, commit e89afe6): co-teaching with one network, and a fraction of each mini-batch in place of a threshold.
Deviations: those of `trainers.sample_selection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.sample_selection import BatchSelection, loss_score, score_from_outputs
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class SelfPaced:
    """One network; samples are ranked by its own losses."""

    name: ClassVar[str] = "self_paced"
    version: ClassVar[int] = 1

    # One pass serves selection and step, as in the reference.
    keep: BatchSelection = field(default=BatchSelection(reforward=False), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 1, task, run, "self_paced", score_from_outputs(loss_score))

    def forecast(self, sizes: Sizes) -> Passes:
        """Scoring passes over all samples and training passes over the kept ones."""
        return self.keep.forecast(self.recipe, sizes, networks=1)

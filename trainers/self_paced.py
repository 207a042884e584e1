"""Self-paced learning: learns from the samples of each mini-batch that have a small loss.

Kumar, Packer and Koller, "Self-paced learning for latent variable models", NIPS 2010, in the form in which PRL's authors compare with it
(github.com/illidanlab/PRL, commit e89afe6): co-teaching with one network, a share of each mini-batch in the place of a threshold.
Deviations: those of `trainers.kept`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.kept import Keep, by_outputs, loss
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class SelfPaced:
    """One network, ranked by its own losses."""

    name: ClassVar[str] = "self_paced"
    version: ClassVar[int] = 1

    keep: Keep = field(default=Keep(reforward=False), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 1, task, run, "self_paced", by_outputs(loss))

    def forecast(self, sizes: Sizes) -> Passes:
        """Passes for scores over all samples, and for learning over what is kept."""
        return self.keep.forecast(self.recipe, sizes, networks=1)

"""PRL-G: learns from the samples of each mini-batch whose loss has the smallest gradient with respect to all weights.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision", ICML 2021. Reference:
github.com/illidanlab/PRL (commit e89afe6), whose command line knows the two-network form alone.

    score_i = ||d l_i / d w||^2     over all weights and biases

The norms are exact and no sample's gradient is made (`trainers.ghost`); networks with batch norm are refused, because there a sample has no
gradient of its own. Gradients that are kept are averaged, not clipped.

Deviations: those of `trainers.sample_selection`. With `reforward=false` the norms and the step share a forward pass: the same numbers without dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task, TaskType
from sap_core.errors import UserError
from trainers import ghost
from trainers.learner import Learner
from trainers.sample_selection import BatchSelection
from trainers.sgd import FLAT, SGD


def gradient_norm(learner: Learner, batch: Batch, graph: bool) -> tuple[Tensor, Tensor]:
    """A `trainers.sample_selection.ScoreFunction`: (B,) squared norms of the samples' gradients, and the outputs they came from."""
    norms_B, outputs_BC = ghost.squared_norms(
        learner.model, learner.forward, batch.inputs, lambda outputs_BC: learner.loss_per_sample(outputs_BC, batch.labels), keep_graph=graph
    )
    learner.meter.count(backwards=len(batch.labels))
    return norms_B, outputs_BC


@dataclass(frozen=True)
class PRL_G:  # noqa: N801 - the paper's name
    """One network, ranked by the norms of its own per-sample gradients."""

    name: ClassVar[str] = "prl_g"
    version: ClassVar[int] = 1

    keep: BatchSelection = field(default=BatchSelection(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; raises UserError as `refuse` does."""
        ghost.check(task.build(0), "prl_g")
        if self.recipe.precision == "bf16":
            raise UserError("trainer 'prl_g' compares norms of gradients, which bf16 rounds to three digits; use precision=float32 or tf32")
        return self.keep.fit(self.recipe, 1, task, run, "prl_g", gradient_norm)

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for a network without per-sample gradients: batch norm, or layers that are not understood."""
        ghost.check(network, "prl_g")

    def forecast(self, sizes: Sizes) -> Passes:
        """As `prl_l`; scores take a backward pass over all samples, too."""
        return self.keep.forecast(self.recipe, sizes, networks=1, gradients=True)

"""PRL-G: training on the samples of each mini-batch whose loss has the smallest gradient with respect to all weights.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision", ICML 2021. Reference:
github.com/illidanlab/PRL (commit e89afe6), whose command line has the two-network form only.

    score_i = ||d l_i / d w||^2     over all weights and biases

The norms are exact, without computing per-sample gradients (`trainers.ghost`); networks with batch norm are refused, because there a
sample has no gradient of its own. The gradients of the kept samples are averaged, not clipped.

Deviations: those of `trainers.sample_selection`. With `reforward=false` the norms and the step share a forward pass, with the same numbers
unless the network has dropout.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task, TaskType
from trainers import ghost
from trainers.learner import Learner
from trainers.sample_selection import BatchSelection
from trainers.sgd import FLAT, SGD


def gradient_norm(learner: Learner, batch: Batch, graph: bool) -> tuple[Tensor, Tensor]:
    """A `ScoreFunction`: returns (B,) squared norms of the samples' gradients, and the outputs."""
    norms_B, outputs_BC = ghost.squared_norms(
        learner.model, learner.forward, batch.inputs, lambda outputs_BC: learner.loss_per_sample(outputs_BC, batch.labels), keep_graph=graph
    )
    # Booked as a whole backward pass: it goes through every layer down to the inputs, although no weight's gradient is formed.
    learner.meter.count(backwards=len(batch.labels))
    return norms_B, outputs_BC


@dataclass(frozen=True)
class PRL_G:  # noqa: N801 - the paper's name
    """One network; samples are ranked by the norms of its own per-sample gradients."""

    name: ClassVar[str] = "prl_g"
    version: ClassVar[int] = 1

    keep: BatchSelection = field(default=BatchSelection(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`.

        Raises:
            UserError: as `refuse`.
        """
        # Asked when a sweep is planned (`refuse`), and here for callers without a plan.
        ghost.check(task.build(0), "prl_g", self.recipe.precision)
        return self.keep.fit(self.recipe, 1, task, run, "prl_g", gradient_norm)

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for networks without per-sample gradients: with batch norm, or with unsupported layers; and for bf16."""
        ghost.check(network, "prl_g", self.recipe.precision)

    def forecast(self, sizes: Sizes) -> Passes:
        """As `prl_l`, with a backward pass over all samples for the scores."""
        return self.keep.forecast(self.recipe, sizes, networks=1, gradients=True)

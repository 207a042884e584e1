"""PRL-L: training on the samples of each mini-batch whose loss has the smallest gradient at the network's outputs.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision", ICML 2021. Reference:
github.com/illidanlab/PRL (commit e89afe6). The influence of a corrupted sample is bounded by the norm of its gradient, and the factor of
that norm at the loss layer is available at no cost:

    score_i = ||d l_i / d z_i||^2 = sum_c (p_ic - y_ic)^2     cross-entropy; p = softmax(z), y the given label, one-hot
    score_i = ||z_i - y_i||^2                                 regression

With two classes this ranks samples as their losses do. With more, of two samples with equal loss the one with a confident wrong
prediction scores higher.

Deviations: those of `trainers.sample_selection`; one network (the released code trains two without exchange, and reports their mean).

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.learner import Learner
from trainers.sample_selection import BatchSelection, score_from_outputs
from trainers.sgd import FLAT, SGD


def loss_gradient(learner: Learner, outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """Returns the (B,) squared norms of the loss's gradient at the outputs, up to a factor. Huber's loss is scored as the squared error."""
    if not learner.is_classification:
        return (outputs_BC.reshape(labels.shape) - labels).reshape(len(labels), -1).square().sum(1)
    # The gradient of cross-entropy at the logits in closed form, so scores need no backward pass.
    return (outputs_BC.softmax(1) - functional.one_hot(labels, outputs_BC.shape[1])).square().sum(1)


@dataclass(frozen=True)
class PRL_L:  # noqa: N801 - the paper's name
    """One network; samples are ranked by its own loss-layer gradients."""

    name: ClassVar[str] = "prl_l"
    version: ClassVar[int] = 1

    keep: BatchSelection = field(default=BatchSelection(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 1, task, run, "prl_l", score_from_outputs(loss_gradient))

    def forecast(self, sizes: Sizes) -> Passes:
        """Scoring passes over all samples and training passes over the kept ones."""
        return self.keep.forecast(self.recipe, sizes, networks=1)

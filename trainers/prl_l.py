"""PRL-L: learns from the samples of each mini-batch whose loss has the smallest gradient at the network's outputs.

Liu, Sun, Wang, Tang and Zhou, "Learning deep neural networks under agnostic corrupted supervision", ICML 2021. Reference:
github.com/illidanlab/PRL (commit e89afe6). What a corrupted sample can do to the network is bounded by the norm of its gradient, and the
part of that norm which the loss contributes costs nothing:

    score_i = ||d l_i / d z_i||^2 = sum_c (p_ic - y_ic)^2     cross-entropy; p = softmax(z), y the given label, one-hot
    score_i = ||z_i - y_i||^2                                 numbers

With two classes this orders samples as their losses do. With more, of two equal losses the one with a confident wrong prediction scores
higher.

Deviations: those of `trainers.kept`; one network (the released code trains two without exchange, and reports their mean).

Shapes: B batch, C outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from torch.nn import functional

from sap_core.api import Fitted, Passes, Run, Sizes, Task
from trainers.kept import Keep, by_outputs
from trainers.learner import Learner
from trainers.sgd import FLAT, SGD


def loss_gradient(learner: Learner, outputs_BC: Tensor, labels: Tensor) -> Tensor:
    """(B,) squared norm of the loss's gradient at the outputs (of Huber's loss: where it is the squared error's), up to a factor."""
    if not learner.classes:
        return (outputs_BC.reshape(labels.shape) - labels).reshape(len(labels), -1).square().sum(1)
    return (outputs_BC.softmax(1) - functional.one_hot(labels, outputs_BC.shape[1])).square().sum(1)


@dataclass(frozen=True)
class PRL_L:  # noqa: N801 - the paper's name
    """One network, ranked by its own loss-layer gradients."""

    name: ClassVar[str] = "prl_l"
    version: ClassVar[int] = 1

    keep: Keep = field(default=Keep(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.keep.fit(self.recipe, 1, task, run, "prl_l", by_outputs(loss_gradient))

    def forecast(self, sizes: Sizes) -> Passes:
        """Passes for scores over all samples, and for learning over what is kept."""
        return self.keep.forecast(self.recipe, sizes, networks=1)

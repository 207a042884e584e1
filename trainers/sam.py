"""SAM, sharpness-aware minimisation: the gradient is computed where the loss is largest in a small ball around the weights.

Foret, Kleiner, Mobahi and Neyshabur, "Sharpness-aware minimization for efficiently improving generalization", ICLR 2021 (equations 2 and
3); adaptive: Kwon, Kim, Park and Choi, "ASAM", ICML 2021. References: github.com/davda54/sam, and SAP's released training script (rho
0.05, not adaptive). Deviation from the latter: the second pass leaves batch norm's running statistics unchanged (`norm_updates: both` is
as released).

    e = rho * g / ||g||                       g = gradient of the loss at w, one norm over all parameters
    e = rho * w^2 g / || |w| g ||             adaptive
    w <- SGD step at w with the gradient at w + e
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task
from trainers import ranges
from trainers.learner import Learner
from trainers.loop import EpochContext, StepReport
from trainers.sgd import FLAT, SGD

TINY = 1.0e-12
"""Added to the norm of the gradient, which may be zero."""


@dataclass(frozen=True)
class SAM:
    """Two passes over each mini-batch. Weight decay and momentum act at the weights, not at the perturbed ones.

    Dropout draws a new mask for the second pass, as in both references. The loss of the training curve is that of the first pass.
    """

    name: ClassVar[str] = "sam"
    version: ClassVar[int] = 1

    rho: float = 0.05  # radius of the ball; ASAM is usually run with 2.0
    adaptive: bool = False
    norm_updates: Literal["first", "both"] = "first"  # passes that update batch norm's running statistics
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        ranges.check("trainer", "(0, inf)", rho=self.rho)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`."""
        return self.recipe.fit_steps(task, run, self.step)

    def step(self, learner: Learner, batch: Batch, context: EpochContext) -> StepReport:
        """Moves to w + e, computes the gradient there, moves back, and makes the step."""
        count = len(batch.labels)
        # First pass, at w.
        outputs_BC = learner.forward(batch.inputs)
        loss = learner.loss(outputs_BC, batch.labels)
        learner.backward(loss, count)
        # Frozen parameters have no gradient and stay where they are.
        parameters = [parameter for parameter in learner.model.parameters() if parameter.grad is not None]
        weights = [parameter.detach().clone() for parameter in parameters]
        with torch.no_grad():
            for parameter, ascent in zip(parameters, self.perturbation(parameters), strict=True):
                parameter.add_(ascent)
        # Second pass, at w + e. Running statistics are those of w, unless `norm_updates` asks for both.
        worst = learner.loss(learner.forward(batch.inputs, update_norm=self.norm_updates == "both"), batch.labels)
        learner.backward(worst, count)
        with torch.no_grad():
            for parameter, weight in zip(parameters, weights, strict=True):
                # Restored from a copy, because subtracting e would round.
                parameter.copy_(weight)
        # Back at w, so that weight decay and momentum act there.
        learner.optimiser.step()
        return learner.report(batch, loss, outputs_BC)

    @torch.no_grad()
    def perturbation(self, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
        """Returns e, one tensor per parameter, from the parameters' gradients."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.adaptive:
            gradients = [parameter.abs() * gradient for parameter, gradient in zip(parameters, gradients, strict=True)]
        # One norm over all parameters: the ball is around the whole weight vector.
        scale = self.rho / (torch.stack([gradient.norm() for gradient in gradients]).norm() + TINY)
        # A second factor |w|: the norm is that of |w| g, the step is along w^2 g.
        if self.adaptive:
            gradients = [parameter.abs() * gradient for parameter, gradient in zip(parameters, gradients, strict=True)]
        return [scale * gradient for gradient in gradients]

    def forecast(self, sizes: Sizes) -> Passes:
        """Twice the training passes of the recipe."""
        return self.recipe.forecast(sizes, forwards=2, backwards=2)

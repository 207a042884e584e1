"""SOP, sparse over-parameterisation: trainable parameters per sample model the noise of its label. SOP+ adds a second view.

Liu, Zhu, Qu and You, "Robust training under label noise by over-parameterization", ICML 2022. Reference: github.com/shengliu66/SOP (SOP+
is its form with consistency and balance), and for SOP+ the settings of github.com/kaist-dmlab/Prune4Rel. With y one-hot as given, p the
prediction and z the logits of sample i, per mini-batch:

    U = clamp(u_i^2 y, 0, 1)    V = clamp(v_i^2 (1 - y), 0, 1)         u_i one number, v_i one per class, N(0, 1e-16) at the start
    q = normalise(max(p + U - sg(V), 1e-4)), clamped to [1e-4, 1]      sg: without gradients
    L =   mean -<y, log q>
        + mean ||onehot(argmax z) + U - V - y||^2                      the only term with a gradient for v
        - balance * mean_c log mean_B(q)_c
        + consistency * mean KL(sg(p) || p of the second view)         SOP+: both views in one forward pass

u and v are trained by plain SGD with their own constant rates. They start near 0 and grow exponentially, so these rates are large.
The second view of SOP+ is strongly augmented (`second_view`; "augmented" is another draw of the first).

Shapes: B batch, C classes, U universe.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Batch, Fitted, Passes, Run, Sizes, Task, View
from sap_core.errors import at_least
from sap_core.seeding import stream
from trainers import ranges
from trainers.learner import Learner, require_classes, require_hard_labels
from trainers.loop import StepReport
from trainers.sgd import FLAT, SGD

LOWEST = 1.0e-4
"""Lower bound of q, which keeps its logarithm finite."""

START = 1.0e-8
"""Standard deviation of the initial u and v."""


@dataclass(frozen=True)
class SOP:
    """Sparse over-parameterisation. u (U, 1) and v (U, C) are part of checkpoints and returned in `Fitted.per_sample`."""

    name: ClassVar[str] = "sop"
    version: ClassVar[int] = 1

    rate_u: float = 10.0
    rate_v: float = 100.0
    consistency: float = 0.0  # above 0: two views (SOP+)
    balance: float = 0.0
    second_view: View = "strong"
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def __post_init__(self) -> None:
        at_least("trainer", 0, consistency=self.consistency, balance=self.balance)
        ranges.check("trainer", "(0, inf)", rate_u=self.rate_u, rate_v=self.rate_v)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`; classification only."""
        require_classes(task, "sop")
        # By universe position, not by sample: a pruned training split keeps the positions of the whole.
        shapes = {"u": (task.train.universe, 1), "v": (task.train.universe, task.num_outputs)}
        start = {name: stream(task.seed, "init", "sop", name).generator() for name in shapes}
        # Drawn from streams of their own, so that the network's initialisation is that of plain training.
        noise = {name: (START * torch.randn(shape, generator=start[name])).to(task.device) for name, shape in shapes.items()}
        views: tuple[View, ...] = ("augmented", self.second_view) if self.consistency else ("augmented",)
        fitted = self.recipe.fit_networks(
            1, task, run, lambda learners, batch, context: self.step(learners[0], batch, noise), noise,
            lambda learners, context: task.train.batches(self.recipe.batch_size, context.rng, views),
        )  # fmt: skip
        return Fitted(fitted.model, {**fitted.per_sample, **noise})

    def step(self, learner: Learner, batch: Batch, noise: dict[str, Tensor]) -> StepReport:
        """Makes one step of the network, of u and of v."""
        require_hard_labels(batch, "sop")
        index, count = batch.index.to(batch.labels.device), len(batch.labels)
        # Leaves of the graph are this batch's rows, so no gradient as large as the tables is formed.
        u_B1, v_BC = (noise[name][index].requires_grad_() for name in ("u", "v"))
        # Both views in one pass, as in the reference: batch norm sees them together.
        logits = learner.forward(torch.cat(batch.views))
        logits_BC, second_BC = logits[:count], logits[count:]
        loss = self.loss(logits_BC, second_BC if self.consistency else None, batch.labels, u_B1, v_BC)
        learner.descend(loss, len(logits))
        # Plain SGD by hand: constant rates, no momentum, no decay, and only the rows of this batch move.
        for name, values, rate in (("u", u_B1, self.rate_u), ("v", v_BC, self.rate_v)):
            if values.grad is not None:
                noise[name][index] = values.detach() - rate * values.grad
        return learner.report(batch, loss, logits_BC)

    def loss(self, logits_BC: Tensor, second_BC: Tensor | None, labels_B: Tensor, u_B1: Tensor, v_BC: Tensor) -> Tensor:
        """Returns L, zero-dimensional."""
        y_BC = functional.one_hot(labels_B, logits_BC.shape[1]).to(logits_BC)
        # U acts on the given class only, V on the others: a wrong label is explained as u at the given class and v at the predicted one.
        given_BC = (u_B1.square() * y_BC).clamp(0, 1)
        others_BC = (v_BC.square() * (1 - y_BC)).clamp(0, 1)
        p_BC = logits_BC.softmax(1)
        # The first bound keeps all entries positive before they are normalised, the second keeps the logarithm finite.
        q_BC = functional.normalize((p_BC + given_BC - others_BC.detach()).clamp(min=LOWEST), p=1, dim=1).clamp(LOWEST, 1)
        # A constant for the network: through the argmax the second term moves u and v only.
        predicted_BC = functional.one_hot(logits_BC.argmax(1), logits_BC.shape[1])
        loss = -(y_BC * q_BC.log()).sum(1).mean() + (predicted_BC + given_BC - others_BC - y_BC).square().sum(1).mean()
        if self.balance:
            loss = loss - self.balance * q_BC.mean(0).clamp(LOWEST, 1).log().mean()
        if second_BC is not None:
            loss = loss + self.consistency * functional.kl_div(second_BC.log_softmax(1), p_BC.detach(), reduction="batchmean")
        return loss

    def forecast(self, sizes: Sizes) -> Passes:
        """The passes of the recipe, twice as many with two views."""
        views = 2 if self.consistency else 1
        return self.recipe.forecast(sizes, forwards=views, backwards=views)

"""Prune4ReL: keeps the samples that maximise the confidence of all samples' neighbourhoods, so that re-labelling corrects most labels.

Park, Choi, Kim and Lee, "Robust data pruning under label noise via maximizing re-labeling accuracy", NeurIPS 2023. Reference:
github.com/kaist-dmlab/Prune4Rel. The neighbourhood confidence of a sample is the sum over its kept neighbours of similarity times
confidence; the selection maximises the sum over all samples of its tanh (algorithm and cost: `trainers.pruning.greedy`).

As in the reference: a candidate is scored by its contribution to its own neighbourhood only, not to everybody's; similarity is (1 + cos) /
2, so that tau = 0.975 means cos > 0.95, and inverse distances (metric=euclidean) have no threshold; classes take turns by given label;
confidences and features are those of one strongly augmented view. Deviations: entropy gives the confidence log C - H (the reference has the
wrong sign); gains are compared where the reference's tanh has saturated; features are float32, not float16. For a warm-up of two networks
the outputs are averaged and the features concatenated.

Shapes: N samples, C classes, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from sap_core.api import Fitted, Run, Selection, Task, View
from sap_core.errors import UserError, at_least
from trainers import ranges
from trainers.pruning.greedy import cosine, greedy, inverse_distance
from trainers.pruning.warmup_outputs import collect_outputs, num_kept

TAU = 0.975
"""Default of `Prune4ReL.tau`: the reference's for CIFAR-10N."""

Confidence = Literal["least_confidence", "margin", "entropy"]


@dataclass(frozen=True)
class Prune4ReL:
    """Greedy maximisation of the total neighbourhood confidence. A smaller selection is part of a larger one."""

    name: ClassVar[str] = "prune4rel"
    version: ClassVar[int] = 2  # 2: no threshold with metric=euclidean

    tau: float = TAU  # with metric=cosine: samples of higher similarity are neighbours
    eta: float = 1.0  # scale at which a neighbourhood saturates: tanh(sum / eta)
    metric: Literal["cosine", "euclidean"] = "cosine"
    confidence: Confidence = "least_confidence"
    balance: bool = True
    view: View = "strong"  # the view from which confidences and features are computed
    batch_size: int = 256

    def __post_init__(self) -> None:
        ranges.check("pruner", "[0, 1)", tau=self.tau)
        if self.metric == "euclidean" and self.tau != TAU:
            raise UserError(
                f"pruner.tau={self.tau:g} has no effect with pruner.metric=euclidean, under which all samples are neighbours; leave "
                "pruner.tau out or set pruner.metric=cosine"
            )
        ranges.check("pruner", "(0, inf)", eta=self.eta)
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) in [0, 1] is higher the earlier a sample is kept, else 0.

        Raises:
            UserError: see `num_kept` and `collect_outputs`.
            FloatingPointError: see `collect_outputs`.
        """
        count = num_kept("prune4rel", keep, len(task.train))
        with run.meter("select"):
            outputs = collect_outputs("prune4rel", task, warm, self.batch_size, run, self.view)
            confidence_N = confidence(outputs.probabilities, self.confidence)
            features_ND = outputs.features
            # Inverse distances are at least 0, and only above 0 do they contribute.
            similarity, tau = inverse_distance, 0.0
            if self.metric == "cosine":
                # Normalised once, so that a cosine is a product.
                features_ND, similarity, tau = functional.normalize(features_ND, dim=1), cosine, self.tau
            labels_N = outputs.labels if self.balance else None
            picks = greedy(features_ND, confidence_N, count, similarity, tau, self.eta, labels_N)
            # Networks' passes are counted in samples; arithmetic of a method's own is booked by formula.
            run.meter.count(flops=2.0 * features_ND.numel() * count)
        score_N = torch.zeros(len(task.train))
        # The rank in the greedy order: gains of different steps are not comparable.
        score_N[picks] = 1 - torch.arange(count) / count
        return Selection(task.train.index[picks].sort().values, score_N)


def confidence(p_NC: Tensor, measure: Confidence) -> Tensor:
    """Returns (N,) non-negative: the highest probability, its difference to the second, or log C minus the entropy in nats."""
    if measure == "least_confidence":
        return p_NC.max(1).values
    if measure == "margin":
        first_N2 = p_NC.topk(2, dim=1).values
        return first_N2[:, 0] - first_N2[:, 1]
    # xlogy counts 0 log 0 as 0, and rounding may leave log C - H just below 0.
    return (math.log(p_NC.shape[1]) + torch.special.xlogy(p_NC, p_NC).sum(1)).clamp(min=0)

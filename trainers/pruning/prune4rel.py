"""Prune4ReL: keeps the samples whose neighbourhoods a re-labelling learner will be sure of, so that it can correct most labels.

Park, Choi, Kim and Lee, "Robust data pruning under label noise via maximizing re-labeling accuracy", NeurIPS 2023. Reference:
github.com/kaist-dmlab/Prune4Rel. The neighbourhood confidence of a sample is the sum over its kept neighbours of similarity times
confidence; the selection maximises the sum over all samples of its tanh (`trainers.pruning.greedy`, which says how, and what it costs).

Kept from the reference: a candidate is scored by what it adds to its own neighbourhood alone, not to everybody's; similarity is
(1 + cos) / 2, so that tau = 0.975 means cos > 0.95; classes take turns by given label. Deviations: entropy gives the confidence log C - H
(the reference's sign is the wrong way round); gains are compared where the reference's tanh has saturated; features are float32, not
float16. A warm-up of two networks is read as what both say together, with their features side by side. As in the reference, confidences and
features are those of one strongly augmented view.

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
from sap_core.errors import at_least
from trainers import checks
from trainers.pruning.greedy import cosine, greedy, inverse_distance
from trainers.pruning.reading import read, share

Confidence = Literal["least_confidence", "margin", "entropy"]


@dataclass(frozen=True)
class Prune4ReL:
    """Greedy maximisation of the total neighbourhood confidence. A smaller selection is part of a larger one."""

    name: ClassVar[str] = "prune4rel"
    version: ClassVar[int] = 1

    tau: float = 0.975  # neighbours are those with a higher similarity
    eta: float = 1.0  # how soon a neighbourhood has enough: tanh(sum / eta)
    metric: Literal["cosine", "euclidean"] = "cosine"
    confidence: Confidence = "least_confidence"
    balance: bool = True
    view: View = "strong"  # what the network is shown, once
    batch_size: int = 256

    def __post_init__(self) -> None:
        checks.within("pruner", "[0, 1)" if self.metric == "cosine" else "[0, 10)", tau=self.tau)
        checks.within("pruner", "(0, inf)", eta=self.eta)
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """`round(keep * N)` universe positions, ascending; `score` (N,) in [0, 1]: higher for samples kept sooner, 0 for those left out.

        Raises:
            UserError: see `share` and `read`.
            FloatingPointError: see `read`.
        """
        count = share("prune4rel", keep, len(task.train))
        with run.meter("select"):
            reading = read("prune4rel", task, warm, self.batch_size, run, self.view)
            sure_N = confidence(reading.probabilities, self.confidence)
            features_ND = reading.features
            similarity = inverse_distance
            if self.metric == "cosine":
                features_ND, similarity = functional.normalize(features_ND, dim=1), cosine
            labels_N = reading.labels if self.balance else None
            picks = greedy(features_ND, sure_N, count, similarity, self.tau, self.eta, labels_N)
            run.meter.count(flops=2.0 * features_ND.numel() * count)
        score_N = torch.zeros(len(task.train))
        score_N[picks] = 1 - torch.arange(count) / count
        return Selection(task.train.index[picks].sort().values, score_N)


def confidence(p_NC: Tensor, measure: Confidence) -> Tensor:
    """(N,) at least 0: the highest probability, its lead over the second, or log C minus the entropy in nats."""
    if measure == "least_confidence":
        return p_NC.max(1).values
    if measure == "margin":
        first_N2 = p_NC.topk(2, dim=1).values
        return first_N2[:, 0] - first_N2[:, 1]
    return (math.log(p_NC.shape[1]) + torch.special.xlogy(p_NC, p_NC).sum(1)).clamp(min=0)

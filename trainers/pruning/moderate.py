"""Moderate: keeps the samples whose distance to the centre of their class is neither small nor large.

Xia, Liu, Yu, Shen, Han and Liu, "Moderate coreset: a universal method of data selection for real-world data-efficient deep learning", ICLR
2023: the distance of a sample's feature to the median feature of its (given) class; the samples whose distances lie around the median
distance of all samples. In Prune4ReL's form: ranks from (1 - keep) / 2 to (1 + keep) / 2 of N.

Shapes: N samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class Moderate:
    """Keeps the samples with the middle ranks of distance to the centre of their class."""

    name: ClassVar[str] = "moderate"
    version: ClassVar[int] = 1

    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is minus the distance of a sample's rank from the middle.

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def centrality(outputs: WarmupOutputs) -> Tensor:
            features_ND, labels_N = outputs.features.double(), outputs.labels
            distance_N = torch.empty(len(labels_N), dtype=torch.float64)
            for label in labels_N.unique():
                own_ND = features_ND[labels_N == label]
                # The quantile is the mean of the two middle values where torch's median takes the lower one.
                distance_N[labels_N == label] = (own_ND - own_ND.quantile(0.5, dim=0)).norm(dim=1)
            # Ranks are over all classes together, as in Prune4ReL's code, not within each class.
            rank_N = torch.empty_like(distance_N)
            rank_N[distance_N.argsort(stable=True)] = torch.arange(len(labels_N), dtype=torch.float64)
            # Highest at the middle rank, so that keeping the highest cuts both tails.
            return -(rank_N - (len(labels_N) - 1) / 2).abs()

        return keep_highest("moderate", task, warm, keep, run, self.batch_size, centrality)

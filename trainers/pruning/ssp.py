"""SSP, self-supervised prototypes: keeps the samples farthest from the centre of their cluster.

Sorscher, Geirhos, Shekhar, Ganguli and Morcos, "Beyond neural scaling laws: beating power law scaling via data pruning", NeurIPS 2022:
k-means on features, the distance to the nearest centre is a sample's difficulty; with much data the hardest are kept, with little the
easiest. k-means is scikit-learn's. Deviation: the paper's features come from self-supervised training (SwAV), these from the warm-up, which
was trained on given labels. The labels themselves are not used.

Shapes: N samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import UserError, at_least
from sap_core.seeding import stream
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class SSP:
    """Keeps the samples farthest from (or nearest to) their k-means centre."""

    name: ClassVar[str] = "ssp"
    version: ClassVar[int] = 1

    clusters: int | None = None  # None: the number of classes
    prefer: Literal["hard", "easy"] = "hard"
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, clusters=self.clusters, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the distance, or its negative.

        Raises:
            UserError: more clusters than samples; see `keep_highest`.
            FloatingPointError: see `keep_highest`.
        """
        # Imported here: scikit-learn's clustering takes a second to import.
        from sklearn.cluster import KMeans

        clusters = self.clusters or task.num_outputs
        if clusters > len(task.train):
            raise UserError(f"pruner.clusters={clusters} exceeds the number of training samples, {len(task.train)}; use a smaller number")

        def distance(outputs: WarmupOutputs) -> Tensor:
            features_ND = outputs.features.double()
            # scikit-learn takes seeds of 32 bits.
            start = stream(task.seed, "select", "kmeans").number() % 2**32
            means = KMeans(clusters, n_init=10, random_state=start).fit(features_ND.numpy())
            centre_ND = torch.from_numpy(means.cluster_centers_)[torch.from_numpy(means.labels_).long()]
            distance_N = (features_ND - centre_ND).norm(dim=1)
            return distance_N if self.prefer == "hard" else -distance_N

        return keep_highest("ssp", task, warm, keep, run, self.batch_size, distance)

"""Data pruning by herding: a subset of each class whose mean feature follows the class's own.

Welling, "Herding dynamical weights to learn", ICML 2009, in the greedy form of Rebuffi et al., "iCaRL", CVPR 2017 (equation 4): the sample
next kept is the one that brings the mean of the kept nearest to the class's mean. By given label, in the classes' own proportions. The
features are those of the last linear layer's input, as they are (iCaRL divides each by its length).

Shapes: N samples, n samples of a class, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.reading import quotas, read, share


@dataclass(frozen=True)
class Herding:
    """Keeps, class by class, samples whose mean follows the class's mean."""

    name: ClassVar[str] = "herding"
    version: ClassVar[int] = 1

    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """`round(keep * N)` universe positions, ascending; `score` (N,) in [0, 1]: higher for those kept sooner in their class.

        Raises:
            UserError: see `share` and `read`.
            FloatingPointError: see `read`.
        """
        count = share("herding", keep, len(task.train))
        score_N = torch.zeros(len(task.train))
        kept = []
        with run.meter("select"):
            reading = read("herding", task, warm, self.batch_size, run)
            features_ND = reading.features.double()
            for label, quota in enumerate(quotas(reading.labels, count).tolist()):
                members = (reading.labels == label).nonzero().squeeze(1)
                picks = members[herd(features_ND[members], quota)]
                score_N[picks] = 1 - torch.arange(quota) / max(quota, 1)
                kept.append(picks)
                run.meter.count(flops=2.0 * len(members) * quota * features_ND.shape[1])
        return Selection(task.train.index[torch.cat(kept)].sort().values, score_N)


def herd(features_nD: Tensor, count: int) -> Tensor:
    """(count,) positions in the order in which they are kept: the next is the one nearest to (k + 1) means less the sum of the k kept."""
    mean_D = features_nD.mean(0)
    squares_n = features_nD.square().sum(1)
    free_n = torch.zeros(len(features_nD), dtype=torch.float64)
    wanted_D = torch.zeros_like(mean_D)
    picks: list[int] = []
    for _ in range(count):
        wanted_D += mean_D
        chosen = int((squares_n - 2 * (features_nD @ wanted_D) + free_n).argmin())
        picks.append(chosen)
        free_n[chosen] = torch.inf
        wanted_D -= features_nD[chosen]
    return torch.tensor(picks, dtype=torch.int64)

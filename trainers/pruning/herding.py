"""Herding: keeps a subset of each class whose mean feature follows the mean of the class.

Welling, "Herding dynamical weights to learn", ICML 2009, in the greedy form of Rebuffi et al., "iCaRL", CVPR 2017 (equation 4): the next
sample is the one that brings the mean of the kept samples closest to the mean of the class. By given label, in the proportions of the
classes. Features are the inputs of the last linear layer. Deviation: they are not normalised (iCaRL divides each by its length). DeepCore's
benchmark (herding.py at 4312342e) takes the sample farthest from the target, which is not herding.

Shapes: N samples, n samples of a class, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.warmup_outputs import class_quotas, collect_outputs, num_kept


@dataclass(frozen=True)
class Herding:
    """Keeps, class by class, samples whose mean follows the mean of the class."""

    name: ClassVar[str] = "herding"
    version: ClassVar[int] = 1

    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) in [0, 1] is higher the earlier a sample is kept.

        Raises:
            UserError: see `num_kept` and `collect_outputs`.
            FloatingPointError: see `collect_outputs`.
        """
        count = num_kept("herding", keep, len(task.train))
        score_N = torch.zeros(len(task.train))
        kept = []
        with run.meter("select"):
            outputs = collect_outputs("herding", task, warm, self.batch_size, run)
            # In float64, because the target adds up and subtracts as many features as are kept.
            features_ND = outputs.features.double()
            for label, quota in enumerate(class_quotas(outputs.labels, count).tolist()):
                members = (outputs.labels == label).nonzero().squeeze(1)
                picks = members[herd(features_ND[members], quota)]
                # Classes are independent of each other; a score compares samples within a class.
                score_N[picks] = 1 - torch.arange(quota) / max(quota, 1)
                kept.append(picks)
                run.meter.count(flops=2.0 * len(members) * quota * features_ND.shape[1])
        return Selection(task.train.index[torch.cat(kept)].sort().values, score_N)


def herd(features_nD: Tensor, count: int) -> Tensor:
    """Returns (count,) indices in order of selection. The next sample is the one closest to (k + 1) * mean - sum of the k kept."""
    mean_D = features_nD.mean(0)
    # ||x - t||^2 is ||x||^2 - 2 <x, t> up to ||t||^2, which is the same for all candidates.
    squares_n = features_nD.square().sum(1)
    kept_n = torch.zeros(len(features_nD), dtype=torch.float64)
    target_D = torch.zeros_like(mean_D)
    picks: list[int] = []
    for _ in range(count):
        # t = (k + 1) * mean - sum of the kept, updated by one addition and one subtraction for each pick.
        target_D += mean_D
        chosen = int((squares_n - 2 * (features_nD @ target_D) + kept_n).argmin())
        picks.append(chosen)
        kept_n[chosen] = torch.inf
        target_D -= features_nD[chosen]
    return torch.tensor(picks, dtype=torch.int64)

"""k-center: keeps a subset that leaves no sample far from its nearest kept one.

Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018, by the greedy rule (farthest-first
traversal): a random first centre, then always the sample farthest from all kept ones, by Euclidean distance of features. Only each sample's
distance to its nearest kept one is stored, not a matrix.

Shapes: N samples, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from sap_core.seeding import stream
from trainers.pruning.warmup_outputs import collect_outputs, num_kept


@dataclass(frozen=True)
class KCenter:
    """Farthest-first traversal. A smaller selection is part of a larger one."""

    name: ClassVar[str] = "k_center"
    version: ClassVar[int] = 1

    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) in [0, 1] is higher the earlier a sample is kept, else 0.

        Raises:
            UserError: see `num_kept` and `collect_outputs`.
            FloatingPointError: see `collect_outputs`.
        """
        count = num_kept("k_center", keep, len(task.train))
        with run.meter("select"):
            features_ND = collect_outputs("k_center", task, warm, self.batch_size, run).features
            squares_N = features_ND.square().sum(1)
            # The traversal leaves its first centre open; it is drawn.
            chosen = int(stream(task.seed, "select", "first").permutation(len(features_ND))[0])
            nearest_N = torch.full((len(features_ND),), torch.inf)
            picks: list[int] = []
            while True:
                picks.append(chosen)
                # Squared distances are enough for a comparison; kept samples stand at -inf and are not found again.
                nearest_N = torch.minimum(nearest_N, squares_N + squares_N[chosen] - 2 * (features_ND @ features_ND[chosen]))
                nearest_N[picks[-1]] = -torch.inf
                if len(picks) == count:
                    break
                chosen = int(nearest_N.argmax())
            run.meter.count(flops=2.0 * features_ND.numel() * count)
        score_N = torch.zeros(len(task.train))
        # The rank in the traversal, in which every smaller selection is a beginning.
        score_N[torch.tensor(picks)] = 1 - torch.arange(count) / count
        return Selection(task.train.index[picks].sort().values, score_N)

"""Uniform: keeps a random subset of the training samples, the reference that every other pruner must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import UserError
from sap_core.seeding import stream


@dataclass(frozen=True)
class Uniform:
    """Keeps a uniformly random fraction of the training set without using the warm-up network.

    All fractions share one random order per seed, so a smaller selection is part of a larger one.
    """

    name: ClassVar[str] = "uniform"
    version: ClassVar[int] = 1

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, at least one; `score` (N,) in [0, 1) is higher the earlier a sample is kept.

        Raises:
            UserError: `keep` is not in (0, 1].
        """
        if not 0 < keep <= 1:
            raise UserError(
                f"keep_fraction={keep} of pruner 'uniform' must be above 0 and at most 1: the fraction of the training set to keep"
            )
        with run.meter("select"):
            count = len(task.train)
            # The order does not depend on `keep`, so selections of different sizes are nested.
            order = stream(task.seed, "select").permutation(count)
            score = torch.empty(count)
            score[order] = 1 - torch.arange(1, count + 1) / count
            chosen = order[: max(1, round(keep * count))]
            return Selection(task.train.index[chosen].sort().values, score)

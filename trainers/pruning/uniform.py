"""Data pruning by chance: the selector that every other one has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import UserError
from sap_core.seeding import stream


@dataclass(frozen=True)
class Uniform:
    """Keeps a uniformly random share of the training set; the trained network is not looked at.

    One random order per seed serves every share, so a smaller selection is part of a larger one.
    """

    name: ClassVar[str] = "uniform"
    version: ClassVar[int] = 1

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """`round(keep * N)` universe positions (at least one), ascending; `score` (N,) in [0, 1) is higher for samples kept sooner.

        Raises:
            UserError: `keep` is not in (0, 1].
        """
        if not 0 < keep <= 1:
            raise UserError(f"keep={keep} of pruner 'uniform' must be above 0 and at most 1: the share of the training set to keep")
        with run.meter("select"):
            count = len(task.train)
            order = stream(task.seed, "select").permutation(count)
            score = torch.empty(count)
            score[order] = 1 - torch.arange(1, count + 1) / count
            chosen = order[: max(1, round(keep * count))]
            return Selection(task.train.index[chosen].sort().values, score)

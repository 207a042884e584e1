"""Data pruning by forgetting: the samples that the warm-up got right and then wrong again, most often first.

Toneva et al., "An empirical study of example forgetting during deep neural network learning", ICLR 2019. A forgetting event is a sample
that was right when it last stood in a mini-batch and is wrong now; the trainers count them (`trainers.learner.ForgettingCounts`). Samples that were
never right are the most forgotten of all, as in the paper; `never_learnt="least"` counts them as 0, as DeepCore and Prune4ReL's benchmark
do. Ties, of which there are many after a short warm-up, are broken by chance.

Shapes: N samples, U universe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sap_core.api import Fitted, Run, Selection, Task, Trainer
from sap_core.errors import UserError
from sap_core.seeding import stream
from trainers.learner import FORGOTTEN, records_forgetting
from trainers.pruning.warmup_outputs import highest, num_kept


@dataclass(frozen=True)
class Forgetting:
    """Keeps the samples with the most forgetting events of the warm-up training."""

    name: ClassVar[str] = "forgetting"
    version: ClassVar[int] = 1

    never_learnt: Literal["most", "least"] = "most"
    balance: bool = False  # keep the classes' own proportions, by given label

    def refuse_trainer(self, trainer: Trainer) -> None:
        """Asked when a sweep is planned.

        Raises:
            UserError: `trainer`, by which the warm-up is trained, keeps no count of forgetting events.
        """
        if not records_forgetting(trainer):
            raise UserError(
                f"pruner 'forgetting' needs a count of forgetting events, and {type(trainer).__name__} keeps none (two networks, "
                f"or mixed samples); train the warm-up with sgd or another trainer of one network, as in warmup: sgd"
            )

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """`round(keep * N)` universe positions, ascending; `score` (N,): events, plus less than 1 by chance.

        Raises:
            UserError: see `num_kept`, or the warm-up kept no count.
        """
        count = num_kept("forgetting", keep, len(task.train))
        with run.meter("select"):
            if FORGOTTEN not in warm.per_sample:
                raise UserError("pruner 'forgetting' finds no count of forgetting events beside the warm-up's network; train it anew")
            forgotten_N = warm.per_sample[FORGOTTEN].cpu()[task.train.index].double()
            if self.never_learnt == "most":
                never = forgotten_N < 0
                forgotten_N[never] = forgotten_N.max() + 1  # above all others, finite so that chance decides among them
            else:
                forgotten_N.clamp_(min=0)
            score_N = forgotten_N + torch.rand(len(task.train), generator=stream(task.seed, "select", "ties").generator())
            kept = highest(score_N, count, task.train.labels.cpu() if self.balance else None)
        return Selection(task.train.index[kept].sort().values, score_N)

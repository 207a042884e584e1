"""Forgetting: keeps the samples that the warm-up forgot most often.

Toneva et al., "An empirical study of example forgetting during deep neural network learning", ICLR 2019. A forgetting event is a sample
that was classified correctly when it was last in a mini-batch and is not now; the trainers count them
(`trainers.learner.ForgettingCounts`). Samples that were never classified correctly count as the most forgotten, as in the paper;
`never_learnt="least"` counts them as 0, as DeepCore and Prune4ReL's benchmark do. Ties, frequent after a short warm-up, are broken at
random.

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
    balance: bool = False  # keep the proportions of the classes, by given label

    def refuse_trainer(self, trainer: Trainer) -> None:
        """Checks the warm-up's trainer when the sweep is planned.

        Raises:
            UserError: `trainer` does not count forgetting events.
        """
        if not records_forgetting(trainer):
            raise UserError(
                f"pruner 'forgetting' needs a count of forgetting events, but {type(trainer).__name__} keeps none (it trains two "
                f"networks or mixed samples); train the warm-up with a trainer of one network, such as warmup: sgd"
            )

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the number of events plus a random number below 1.

        Raises:
            UserError: see `num_kept`, or the warm-up did not count forgetting events.
        """
        count = num_kept("forgetting", keep, len(task.train))
        with run.meter("select"):
            if FORGOTTEN not in warm.per_sample:
                raise UserError(
                    "pruner 'forgetting' finds no count of forgetting events in the warm-up's checkpoint; remove that file and retry"
                )
            forgotten_N = warm.per_sample[FORGOTTEN].cpu()[task.train.index].double()
            if self.never_learnt == "most":
                never = forgotten_N < 0
                # Above all others, but finite, so that ties among them are broken at random as well.
                forgotten_N[never] = forgotten_N.max() + 1
            else:
                forgotten_N.clamp_(min=0)
            # Events are whole numbers and the draws lie below 1, so they decide ties only.
            score_N = forgotten_N + torch.rand(len(task.train), generator=stream(task.seed, "select", "ties").generator())
            kept = highest(score_N, count, task.train.labels.cpu() if self.balance else None)
        return Selection(task.train.index[kept].sort().values, score_N)

"""EL2N: keeps the samples with the largest error vector early in training.

Paul, Ganguli and Dziugaite, "Deep learning on a data diet: finding important examples early in training", NeurIPS 2021: the norm of p - y,
averaged over networks; highest first. Deviation: the paper averages ten networks of different initialisation, here those of the warm-up
are averaged (one, or the two of co-training methods). The square of the score is the score of PRL.

Shapes: K networks, N samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class EL2N:
    """Keeps the samples with the highest ||p - y||."""

    name: ClassVar[str] = "el2n"
    version: ClassVar[int] = 1

    balance: bool = False  # keep the proportions of the classes, by given label
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is ||p - y||, in [0, sqrt 2].

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def error(outputs: WarmupOutputs) -> Tensor:
            return outputs.errors().norm(dim=2).mean(0)

        return keep_highest("el2n", task, warm, keep, run, self.batch_size, error, self.balance)

"""Margin: keeps the samples with the smallest difference between the two highest class probabilities.

The margin rule of active learning (Scheffer, Decomain and Wrobel 2001) as a data pruning method, as in Coleman et al., "Selection via
proxy", ICLR 2020, and in Prune4ReL's comparison: lowest p1 - p2. Given labels are used for `balance` only.

Shapes: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.prune4rel import confidence
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class Margin:
    """Keeps the samples with the smallest margin."""

    name: ClassVar[str] = "margin"
    version: ClassVar[int] = 1

    balance: bool = False  # keep the proportions of the classes, by given label
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the negative margin.

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def closeness(outputs: WarmupOutputs) -> Tensor:
            return -confidence(outputs.probabilities, "margin")

        return keep_highest("margin", task, warm, keep, run, self.batch_size, closeness, self.balance)

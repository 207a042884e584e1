"""Uncertainty: keeps the samples with the least confident predictions.

Coleman et al., "Selection via proxy: efficient data selection for deep learning", ICLR 2020: least confidence 1 - max p, or entropy.
Deviation from Prune4ReL's benchmark code: confidence is the highest probability, not the highest logit.

Shapes: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.prune4rel import confidence
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class Uncertainty:
    """Keeps the samples of lowest confidence, or of highest entropy."""

    name: ClassVar[str] = "uncertainty"
    version: ClassVar[int] = 1

    measure: Literal["least_confidence", "entropy"] = "least_confidence"
    balance: bool = False  # keep the proportions of the classes, by given label
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the negative confidence.

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def doubt(outputs: WarmupOutputs) -> Tensor:
            return -confidence(outputs.probabilities, self.measure)

        return keep_highest("uncertainty", task, warm, keep, run, self.batch_size, doubt, self.balance)

"""Small loss: keeps the samples with the lowest loss on their given labels, which are mostly labelled correctly.

The small-loss rule of sample selection under label noise (Han et al., "Co-teaching", NeurIPS 2018) as a data pruning method, in the form
that Prune4ReL (NeurIPS 2023) compares with: lowest cross-entropy on the given label, after the warm-up, plain views. Classes learnt first
dominate the selection; `balance` keeps the proportions of the classes.

Shapes: N samples, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest


@dataclass(frozen=True)
class SmallLoss:
    """Keeps the samples with the lowest loss."""

    name: ClassVar[str] = "small_loss"
    version: ClassVar[int] = 1

    balance: bool = False
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the log-probability of the given label.

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def likelihood(outputs: WarmupOutputs) -> Tensor:
            log_p_NC = outputs.logits.double().mean(0).log_softmax(1)
            return log_p_NC.gather(1, outputs.labels[:, None]).squeeze(1)

        return keep_highest("small_loss", task, warm, keep, run, self.batch_size, likelihood, self.balance)

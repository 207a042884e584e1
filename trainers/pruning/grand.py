"""GraNd: keeps the samples with the largest gradient early in training.

Paul, Ganguli and Dziugaite, "Deep learning on a data diet: finding important examples early in training", NeurIPS 2021: the norm of a
sample's gradient, averaged over networks; highest first. Deviations: only the last linear layer's weights and bias, as in DeepCore and in
Prune4ReL's benchmark, where the norm is ||p - y|| sqrt(1 + ||e||^2) for the layer's input e (their code divides it by the size of the
mini-batch, so that samples of a smaller last batch rank higher, which is not followed); averaged over the networks of the warm-up (one
or two), not over ten of different initialisation.

Shapes: K networks, N samples, C classes, D features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.api import Fitted, Run, Selection, Task
from sap_core.errors import at_least
from trainers.pruning.warmup_outputs import WarmupOutputs, keep_highest, mean_over_networks


@dataclass(frozen=True)
class GraNd:
    """Keeps the samples with the largest last-layer gradient."""

    name: ClassVar[str] = "grand"
    version: ClassVar[int] = 1

    balance: bool = False  # keep the proportions of the classes, by given label
    batch_size: int = 256

    def __post_init__(self) -> None:
        at_least("pruner", 1, batch_size=self.batch_size)

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        """Selects `round(keep * N)` universe positions, ascending; `score` (N,) is the norm of the gradient.

        Raises:
            UserError, FloatingPointError: see `keep_highest`.
        """

        def gradient(outputs: WarmupOutputs) -> Tensor:
            norms = zip(outputs.errors().norm(dim=2), outputs.features_of, strict=True)
            # The gradient of the last layer is the outer product of p - y and (e, 1), the 1 being the bias: its norm is a product of norms.
            return mean_over_networks([error_N * (1 + each_ND.double().square().sum(1)).sqrt() for error_N, each_ND in norms])

        return keep_highest("grand", task, warm, keep, run, self.batch_size, gradient, self.balance)

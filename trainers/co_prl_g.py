"""co-PRL-G: two networks, each trained on the samples with the smallest per-sample gradients under the other.

Liu et al., ICML 2021 (see `trainers.prl_g`), with the exchange of co-teaching. Reference: github.com/illidanlab/PRL (commit e89afe6).
Deviations: those of `trainers.sample_selection`; the first network is returned (the released code reports the mean accuracy of both).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import nn

from sap_core.api import Fitted, Passes, Run, Sizes, Task, TaskType
from trainers import ghost
from trainers.prl_g import gradient_norm
from trainers.sample_selection import BatchSelection
from trainers.sgd import FLAT, SGD


@dataclass(frozen=True)
class CoPRL_G:  # noqa: N801 - the paper's name
    """Two networks that exchange their kept samples."""

    name: ClassVar[str] = "co_prl_g"
    version: ClassVar[int] = 1

    keep: BatchSelection = field(default=BatchSelection(), metadata=FLAT)
    recipe: SGD = field(default=SGD(), metadata=FLAT)

    def fit(self, task: Task, run: Run) -> Fitted:
        """As `SGD.fit`.

        Raises:
            UserError: as `refuse`.
        """
        # Asked when a sweep is planned (`refuse`), and here for callers without a plan.
        ghost.check(task.build(0), "co_prl_g", self.recipe.precision)
        return self.keep.fit(self.recipe, 2, task, run, "co_prl_g", gradient_norm)

    def refuse(self, kind: TaskType, network: nn.Module) -> None:
        """Raises UserError for networks without per-sample gradients: with batch norm, or with unsupported layers; and for bf16."""
        ghost.check(network, "co_prl_g", self.recipe.precision)

    def forecast(self, sizes: Sizes) -> Passes:
        """Twice the passes of `prl_g`."""
        return self.keep.forecast(self.recipe, sizes, networks=2, gradients=True)

"""A pruner that reads what the warm-up remembers of every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.api import Fitted, Run, Selection, Task


@dataclass(frozen=True)
class ByMemory:
    """Keeps the samples with the lowest remembered loss."""

    name: ClassVar[str] = "by_memory"
    version: ClassVar[int] = 1

    def select(self, task: Task, warm: Fitted, keep: float, run: Run) -> Selection:
        remembered = warm.per_sample["memory"][task.train.index]
        kept = remembered.argsort(stable=True)[: round(keep * len(remembered))]
        return Selection(task.train.index[kept].sort().values, -remembered)

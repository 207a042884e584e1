"""A kind of noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.data.source import Classes
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Next:
    """Exactly int(rate * N) labels become the next class."""

    name: ClassVar[str] = "next"
    version: ClassVar[int] = 1

    rate: float = 0.25

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        given = labels.clone()
        which = rng.permutation(len(labels))[: int(self.rate * len(labels))]
        given[which] = (labels[which] + 1) % classes.num
        return given

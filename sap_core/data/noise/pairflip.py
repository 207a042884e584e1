"""Pair flipping: every class is mistaken for the next one (Han et al., "Co-teaching", NeurIPS 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate, hit, pick
from sap_core.data.source import Classes
from sap_core.seeding import Stream


@dataclass(frozen=True)
class PairFlip:
    """Each label c is replaced by (c + 1) mod C with probability `rate`.

    0.45 is the difficult case of the literature; from 0.5 on the wrong class is the majority. `exact=True` changes exactly int(rate * N)
    labels.
    """

    name: ClassVar[str] = "pairflip"
    version: ClassVar[int] = 1
    rate: float
    exact: bool = False

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "pairflip")
        # Co-teaching draws each sample independently, hence the default.
        which = (pick if self.exact else hit)(len(labels), self.rate, rng)
        given = labels.clone()
        given[which] = (labels[which] + 1) % classes.num
        return given

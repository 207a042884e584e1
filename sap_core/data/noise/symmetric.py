"""Symmetric noise: wrong uniformly at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate, hit, pick
from sap_core.data.source import Classes
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Symmetric:
    """Labels that are wrong uniformly at random, whatever the image.

    With the defaults exactly int(rate * N) labels change, each to one of the other classes: the generator of SAP's released code, so the
    true rate is the asked one. `exact=False` hits each sample independently (Co-teaching); `exclude_true=False` draws among all classes,
    so that 1/C of the picked labels stay true (DivideMix, SOP).
    """

    name: ClassVar[str] = "symmetric"
    version: ClassVar[int] = 1
    rate: float
    exact: bool = True
    exclude_true: bool = True

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "symmetric")
        which = (pick if self.exact else hit)(len(labels), self.rate, rng)
        lowest = 1 if self.exclude_true else 0
        shift = torch.randint(lowest, classes.num, (len(labels),), generator=rng.child("label").generator())
        given = labels.clone()
        given[which] = (labels[which] + shift[which]) % classes.num
        return given

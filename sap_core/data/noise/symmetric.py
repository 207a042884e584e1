"""Symmetric noise: wrong labels are uniform over the other classes, independent of the image."""

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
    """Labels are replaced by uniformly random ones.

    The defaults are those of SAP's released code: exactly int(rate * N) labels are wrong.

    Attributes:
        rate: fraction of selected labels, in [0, 1).
        exact: select exactly int(rate * N) labels; if false, each label independently (Co-teaching).
        exclude_true: draw among the other classes; if false, among all classes, so that 1/C of the selected labels stay true (DivideMix,
            SOP).
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
        # A shift is drawn for every sample, also for those that are not selected, so that the wrong labels do not depend on the rate.
        # A shift of 0 keeps the label: allowed where the literature draws among all classes.
        lowest = 1 if self.exclude_true else 0
        shift = torch.randint(lowest, classes.num, (len(labels),), generator=rng.child("label").generator())
        given = labels.clone()
        # A uniform shift by 1 to C - 1 is a uniform choice among the other classes.
        given[which] = (labels[which] + shift[which]) % classes.num
        return given

"""Hierarchical noise: labels are confused within their superclass (Hendrycks et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate, pick
from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Hierarchical:
    """Exactly int(rate * N) labels are replaced by another class of their superclass, chosen uniformly."""

    name: ClassVar[str] = "hierarchical"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "hierarchical")
        if classes.superclass is None:
            raise UserError("noise=hierarchical needs superclasses, but this data set defines none; use noise=symmetric")
        siblings = _siblings(classes.superclass)
        which = pick(len(labels), self.rate, rng)
        # One number for every sample, hit or not, so that a sample's wrong label does not depend on the rate.
        chance = torch.rand(len(labels), dtype=torch.float64, generator=rng.child("label").generator())
        given = labels.clone()
        for label, others in enumerate(siblings):
            selected = which[labels[which] == label]
            # chance * n rounded down is uniform over the n siblings, since chance < 1.
            given[selected] = others[(chance[selected] * len(others)).long()]
        return given


def _siblings(superclass: tuple[int, ...]) -> list[Tensor]:
    """Return the other classes of the superclass, for each class.

    Raises:
        UserError: a class is the only one of its superclass.
    """
    groups = torch.tensor(superclass)
    siblings = []
    for label, group in enumerate(superclass):
        others = torch.nonzero(groups == group).flatten()
        siblings.append(others[others != label])
        # Without a sibling there is no wrong label within the superclass.
        if len(others) == 1:
            raise UserError(f"noise=hierarchical cannot corrupt class {label}, which is alone in superclass {group}; use noise=symmetric")
    return siblings

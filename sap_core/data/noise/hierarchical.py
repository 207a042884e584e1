"""Hierarchical noise: confusion inside a superclass."""

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
    """Exactly int(rate * N) labels become another class of the same superclass, uniformly (Hendrycks et al., "hierarchical corruption")."""

    name: ClassVar[str] = "hierarchical"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "hierarchical")
        if classes.superclass is None:
            raise UserError("noise=hierarchical needs superclasses, and this data set has none; use noise=symmetric")
        siblings = _siblings(classes.superclass)
        which = pick(len(labels), self.rate, rng)
        chance = torch.rand(len(labels), dtype=torch.float64, generator=rng.child("label").generator())
        given = labels.clone()
        for label, others in enumerate(siblings):
            hit = which[labels[which] == label]
            given[hit] = others[(chance[hit] * len(others)).long()]
        return given


def _siblings(superclass: tuple[int, ...]) -> list[Tensor]:
    """For each class, the other classes of its superclass.

    Raises:
        UserError: a class is alone in its superclass, so no label could stand for it.
    """
    groups = torch.tensor(superclass)
    siblings = []
    for label, group in enumerate(superclass):
        others = torch.nonzero(groups == group).flatten()
        siblings.append(others[others != label])
        if len(others) == 1:
            raise UserError(f"noise=hierarchical cannot corrupt class {label}, which is alone in superclass {group}; use noise=symmetric")
    return siblings

"""Interclass confusion: labels swapped between two classes (Goel et al., "Corrective machine unlearning", 2024)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate
from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Interclass:
    """Exactly int(rate * N_c) samples of each of two classes c have the label of the other class.

    `rate` is the fraction within the two classes; rows contain the fraction of all labels, too. The 500, 2,500 and 5,000 samples of
    CIFAR-10 (cat and dog) of the benchmark are rates 0.05, 0.25 and 0.5, and its 100, 250 and 500 samples of CIFAR-100 (classes 47 and 53)
    are 0.1, 0.25 and 0.5. The benchmark uses the first samples of each class in the order of the files; here they are drawn. Affected are
    the test samples of the two classes.
    """

    name: ClassVar[str] = "interclass"
    version: ClassVar[int] = 1
    rate: float
    classes: tuple[int, ...] = (3, 5)

    def __post_init__(self) -> None:
        check_rate(self.rate)
        # YAML gives a list, which a frozen dataclass could not hash.
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(set(self.classes)) != 2 or len(self.classes) != 2 or min(self.classes) < 0:
            raise UserError(f"noise.classes={list(self.classes)} must be two different class numbers, such as [3,5]")

    def expected_rate(self, classes: Classes) -> float:
        """Return the expected fraction of wrong labels for classes of equal size."""
        # Two of C equal classes are hit.
        return 2 * self.rate / classes.num

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "interclass")
        if max(self.classes) >= classes.num:
            raise UserError(f"noise.classes={list(self.classes)}: this data set has the classes 0 to {classes.num - 1}; name two of them")
        # One permutation for both directions, and prefixes of it, so that rates are nested.
        order = rng.child("which").permutation(len(labels))
        given = labels.clone()
        for source, target in (self.classes, self.classes[::-1]):
            members = order[labels[order] == source]
            given[members[: int(self.rate * len(members))]] = target
        return given

    def affected(self, labels: Tensor) -> Tensor:
        """Return (N,) bool, whether the true class is one of the two."""
        return torch.isin(labels, torch.tensor(self.classes, device=labels.device))

"""Label noise: frozen dataclasses that turn true labels into given ones.

Which samples are hit and what they become are drawn from two separate streams, with one draw per sample whatever the rate. So, under one
key, the samples that a rate of 0.10 corrupts are among those of 0.25, with the same wrong labels: rates can be compared pairwise.
Shapes: N samples, M samples picked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


def _check_rate(rate: float) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise UserError(f"noise.rate={rate!r} is no share of the labels; allowed are numbers from 0 up to, but not including, 1")


def _check_labels(labels: Tensor, classes: Classes, kind: str) -> None:
    if labels.is_floating_point() or classes.num < 2:
        raise UserError(f"noise={kind} needs class labels, and this data set has none; use noise=none")


def pick(num: int, rate: float, rng: Stream) -> Tensor:
    """(M,) exactly int(rate * num) positions without repeats, as the reference counts them."""
    return rng.child("which").permutation(num)[: int(rate * num)]


@dataclass(frozen=True)
class NoNoise:
    """Labels as the files give them."""

    version: ClassVar[int] = 1
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.rate != 0:
            raise UserError(f"noise=none has no rate, but noise.rate={self.rate!r} was given; allowed is 0, or choose another noise")

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        return labels.clone()


@dataclass(frozen=True)
class Symmetric:
    """Labels that are wrong uniformly at random, whatever the image.

    With the defaults exactly int(rate * N) labels change, each to one of the other classes: the generator of SAP's released code, so the
    true rate is the asked one. `exact=False` hits each sample independently (Co-teaching); `exclude_true=False` draws among all classes,
    so that 1/C of the picked labels stay true (DivideMix, SOP).
    """

    version: ClassVar[int] = 1
    rate: float
    exact: bool = True
    exclude_true: bool = True

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        _check_labels(labels, classes, "symmetric")
        if self.exact:
            which = pick(len(labels), self.rate, rng)
        else:
            which = torch.nonzero(torch.rand(len(labels), generator=rng.child("which").generator()) < self.rate).flatten()
        lowest = 1 if self.exclude_true else 0
        shift = torch.randint(lowest, classes.num, (len(labels),), generator=rng.child("label").generator())
        given = labels.clone()
        given[which] = (labels[which] + shift[which]) % classes.num
        return given


@dataclass(frozen=True)
class Asymmetric:
    """Labels that are mistaken for one particular other class (`Classes.confused`), as people mistake them.

    By default int(rate * N) samples are picked among ALL and mapped; those of classes that nothing is confused with keep their label
    (Patrini's maps as DivideMix applies them). With CIFAR-10's map half of the classes change, so `rate` 0.4 makes about 20 % wrong
    labels: `rate` is the share within the confused classes, and rows hold the measured rate beside it.
    `per_class=True` picks exactly int(rate * N_c) in each confused class c: the same expected rate, without chance between classes
    (ELR and SOP flip each sample of these classes with that probability). SAP's own asymmetric generator is not public.
    """

    version: ClassVar[int] = 1
    rate: float
    per_class: bool = False

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        _check_labels(labels, classes, "asymmetric")
        if not classes.confused:
            raise UserError(
                "noise=asymmetric needs to know which classes are confused, and this data set does not say; use noise=symmetric"
            )
        table = torch.arange(classes.num)
        for source, target in classes.confused.items():
            table[source] = target
        if self.per_class:
            order = rng.child("which").permutation(len(labels))
            members = [order[labels[order] == source] for source in sorted(classes.confused)]
            which = torch.cat([positions[: int(self.rate * len(positions))] for positions in members])
        else:
            which = pick(len(labels), self.rate, rng)
        given = labels.clone()
        given[which] = table[labels[which]]
        return given


@dataclass(frozen=True)
class Hierarchical:
    """Exactly int(rate * N) labels become another class of the same superclass, uniformly (Hendrycks et al., "hierarchical corruption")."""

    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        _check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        _check_labels(labels, classes, "hierarchical")
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

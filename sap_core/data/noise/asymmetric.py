"""Asymmetric noise: each class is mistaken for one particular other class, as people mistake them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate, hit, pick
from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class Asymmetric:
    """Labels that are mistaken for one particular other class.

    By default int(rate * N) samples are picked among ALL and mapped by `Classes.confused`; those of classes that nothing is confused with
    keep their label (Patrini's maps as DivideMix applies them). With CIFAR-10's map half of the classes change, so `rate` 0.4 makes about
    20 % wrong labels: `rate` is the share within the confused classes, and rows hold the measured rate beside it.
    `per_class=True` picks exactly int(rate * N_c) in each confused class c: the same expected rate, without chance between classes.
    `exact=False` hits each sample independently, as ELR and SOP do.
    `bidirectional=True` swaps the classes of each pair in `Classes.swapped`, as Prune4ReL does; there every class has a partner, so the
    true rate is the asked one. SAP's own asymmetric generator is not public.
    """

    name: ClassVar[str] = "asymmetric"
    version: ClassVar[int] = 1
    rate: float
    per_class: bool = False
    exact: bool = True
    bidirectional: bool = False

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.per_class and not self.exact:
            raise UserError(
                "noise.per_class=true counts exactly and noise.exact=false hits samples independently, whatever their class; "
                "choose one of them"
            )

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "asymmetric")
        confused = self._map(classes)
        table = torch.arange(classes.num)
        for source, target in confused.items():
            table[source] = target
        if self.per_class:
            order = rng.child("which").permutation(len(labels))
            members = [order[labels[order] == source] for source in sorted(confused)]
            which = torch.cat([positions[: int(self.rate * len(positions))] for positions in members])
        else:
            which = (pick if self.exact else hit)(len(labels), self.rate, rng)
        given = labels.clone()
        given[which] = table[labels[which]]
        return given

    def _map(self, classes: Classes) -> Mapping[int, int]:
        if self.bidirectional:
            if not classes.swapped:
                raise UserError(
                    "noise.bidirectional=true needs pairs of classes that are confused both ways, and this data set names none; "
                    "use noise.bidirectional=false or noise=symmetric"
                )
            return {**dict(classes.swapped), **{second: first for first, second in classes.swapped}}
        if not classes.confused:
            raise UserError(
                "noise=asymmetric needs to know which classes are confused, and this data set does not say; use noise=symmetric"
            )
        return classes.confused

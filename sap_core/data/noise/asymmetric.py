"""Asymmetric noise: each class is mistaken for one other, similar class (Patrini et al. 2017)."""

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
    """Labels are replaced by that of one other class.

    By default int(rate * N) of all samples are selected and mapped by `Classes.confused`; samples of classes that are not in the map keep
    their labels (Patrini's maps as used by DivideMix). CIFAR-10's map has half of the classes, so `rate=0.4` makes about 20 % wrong labels:
    `rate` is the fraction within the confused classes, and rows also contain the measured fraction. The asymmetric generator of the SAP
    paper is not public.

    Attributes:
        rate: fraction of selected samples, in [0, 1).
        per_class: select exactly int(rate * N_c) samples in each confused class c, which removes the variance between classes.
        exact: select exactly int(rate * N) samples; if false, each sample independently, as ELR and SOP do.
        bidirectional: swap the classes of each pair in `Classes.swapped`, as Prune4ReL does. Every class has a partner there, so the
            fraction of wrong labels is `rate`.
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
                "noise.per_class=true selects exact numbers per class, and noise.exact=false selects samples independently of their class; "
                "choose one of them"
            )

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_labels(labels, classes, "asymmetric")
        # A table from class to class: those outside the map go to themselves and keep their labels.
        confused = self._map(classes)
        table = torch.arange(classes.num)
        for source, target in confused.items():
            table[source] = target
        if self.per_class:
            # The same permutation as `pick` draws; prefixes within each class make rates nested here, too.
            order = rng.child("which").permutation(len(labels))
            members = [order[labels[order] == source] for source in sorted(confused)]
            which = torch.cat([positions[: int(self.rate * len(positions))] for positions in members])
        else:
            # Over all samples, confused class or not: DivideMix picks first and maps afterwards, so the true rate is lower.
            which = (pick if self.exact else hit)(len(labels), self.rate, rng)
        given = labels.clone()
        # From the true labels, never from `given`: in CIFAR-10's map cat and dog point at each other.
        given[which] = table[labels[which]]
        return given

    def _map(self, classes: Classes) -> Mapping[int, int]:
        if self.bidirectional:
            if not classes.swapped:
                raise UserError(
                    "noise.bidirectional=true needs pairs of confused classes, but this data set defines none; "
                    "use noise.bidirectional=false or noise=symmetric"
                )
            # Both directions of every pair.
            return {**dict(classes.swapped), **{second: first for first, second in classes.swapped}}
        if not classes.confused:
            raise UserError("noise=asymmetric needs a map of confused classes, but this data set defines none; use noise=symmetric")
        return classes.confused

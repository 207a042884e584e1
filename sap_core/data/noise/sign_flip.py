"""Sign-flip noise for regression: targets are mirrored at their mean. Specific to this project."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.data.noise.common import centre_and_spread, check_numbers, check_rate, pick
from sap_core.data.source import Classes
from sap_core.seeding import Stream


@dataclass(frozen=True)
class SignFlip:
    """Exactly int(rate * N) targets y are replaced by 2 m - y, where m is the mean of all targets.

    The released code of PRL (Liu et al., ICML 2021) contains no regression noise.
    """

    name: ClassVar[str] = "sign_flip"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        check_numbers(labels, "sign_flip")
        which = pick(len(labels), self.rate, rng)
        centre, _ = centre_and_spread(labels)
        given = labels.clone()
        given[which] = 2 * centre - labels[which]
        return given

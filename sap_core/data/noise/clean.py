"""No noise: labels as in the files of the data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class NoNoise:
    """Labels as in the files."""

    name: ClassVar[str] = "none"
    version: ClassVar[int] = 1
    rate: float = 0.0

    def __post_init__(self) -> None:
        if self.rate != 0:
            raise UserError(f"noise=none has no rate, but noise.rate={self.rate!r}; set it to 0, or choose another noise")

    def corrupt(self, labels: Tensor, classes: Classes, rng: Stream) -> Tensor:
        return labels.clone()

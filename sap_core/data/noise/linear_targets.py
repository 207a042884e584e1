"""Linear corruption: numbers that follow from the inputs by a wrong linear relation, the same for all that are hit.

Shapes: N samples, D numbers of an input.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import batch_for, centre_and_spread, check_numbers, check_rate, pick
from sap_core.data.samples import SampleView
from sap_core.data.source import DataSet
from sap_core.errors import UserError
from sap_core.seeding import Stream


@dataclass(frozen=True)
class LinearTargets:
    """Exactly int(rate * N) targets become w x, w drawn once from N(0, 1), with the mean and the deviation that all targets have.

    This project's own: the code of PRL (Liu et al., ICML 2021) releases no regression. A network can learn it: from a rate of 0.5 on
    nothing tells which of the two relations is the true one.
    """

    name: ClassVar[str] = "linear_targets"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def check(self, dataset: DataSet) -> None:
        """Raises UserError for classes."""
        if dataset.kind != "regression":
            raise UserError("noise=linear_targets corrupts numbers, and this data set has classes; use noise=symmetric or pairflip")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """No files of its own."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        """See `DataNoise.corrupt_data`."""
        labels = samples.labels
        check_numbers(labels, "linear_targets")
        inputs = torch.cat([batch.inputs.flatten(1).double() for batch in samples.batches(batch_for(dataset.shape))])
        weights = torch.randn(inputs.shape[1], *labels.shape[1:], dtype=torch.float64, generator=rng.child("label").generator())
        wrong = inputs @ weights
        (centre, spread), (own_centre, own_spread) = centre_and_spread(labels.double()), centre_and_spread(wrong)
        wrong = centre + spread * (wrong - own_centre) / own_spread
        which = pick(len(labels), self.rate, rng)
        given = labels.clone()
        given[which] = wrong[which].to(labels.dtype)
        return given

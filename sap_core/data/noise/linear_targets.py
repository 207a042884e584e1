"""Linear noise for regression: wrong targets are a random linear function of the inputs. Specific to this project.

Shapes: N samples, D values per input.
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
    """Exactly int(rate * N) targets are replaced by w x, with w drawn once from N(0, 1), rescaled to mean and deviation of all targets.

    The released code of PRL (Liu et al., ICML 2021) contains no regression noise. A network can learn this noise: from a rate of 0.5 on,
    the data do not determine which of the two relations is the true one.
    """

    name: ClassVar[str] = "linear_targets"
    version: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        check_rate(self.rate)

    def check(self, dataset: DataSet) -> None:
        """See `DataNoise.check`.

        Raises:
            UserError: the data set has classes.
        """
        if dataset.kind != "regression":
            raise UserError(
                "noise=linear_targets corrupts regression targets, but this data set has classes; use noise=symmetric or pairflip"
            )

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """See `DataNoise.inspect`; this noise reads no files."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        """See `DataNoise.corrupt_data`."""
        labels = samples.labels
        check_numbers(labels, "linear_targets")
        inputs = torch.cat([batch.inputs.flatten(1).double() for batch in samples.batches(batch_for(dataset.shape))])
        # float64, so that the product does not depend on threads or batches.
        weights = torch.randn(inputs.shape[1], *labels.shape[1:], dtype=torch.float64, generator=rng.child("label").generator())
        wrong = inputs @ weights
        (centre, spread), (own_centre, own_spread) = centre_and_spread(labels.double()), centre_and_spread(wrong)
        # Rescaled, so that the wrong targets have the mean and the spread of the true ones.
        wrong = centre + spread * (wrong - own_centre) / own_spread
        which = pick(len(labels), self.rate, rng)
        given = labels.clone()
        given[which] = wrong[which].to(labels.dtype)
        return given

"""What the regression sets have in common: standardised inputs and targets, and test samples that were set aside once and for all.

Shapes: N samples, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sap_core.data.samples import TensorPixels
from sap_core.data.source import Source
from sap_core.seeding import stream


def regression_source(inputs_ND: Tensor, targets_N: Tensor, tests: int, seed: int, name: str) -> Source:
    """Inputs and targets less the mean and divided by the deviation of the universe (in float64; float32 in the end).

    `seed` fixes which `tests` samples are the test set; it is the data set's own and never to be changed.
    """
    order = stream(seed, "split", name, "test").permutation(len(targets_N))
    test, universe = order[:tests].sort().values, order[tests:].sort().values
    inputs, targets = (_standard(values.double(), universe) for values in (inputs_ND, targets_N))
    return Source(TensorPixels(inputs[universe]), targets[universe], TensorPixels(inputs[test]), targets[test])


def _standard(values: Tensor, universe: Tensor) -> Tensor:
    known = values[universe]
    return ((values - known.mean(0)) / known.std(0, correction=0)).to(torch.float32)

"""Common code of the regression data sets: standardisation, and a fixed test set.

Shapes: N samples, D features.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sap_core.data.samples import TensorPixels
from sap_core.data.source import Source
from sap_core.seeding import stream


def regression_source(inputs_ND: Tensor, targets_N: Tensor, tests: int, seed: int, name: str) -> Source:
    """Standardise inputs and targets by mean and standard deviation of the universe, in float64, and convert them to float32.

    Args:
        inputs_ND: inputs.
        targets_N: targets.
        tests: number of test samples.
        seed: determines the test samples; a constant of the data set that must never change.
        name: name of the data set.
    """
    # Keyed by a constant of the data set, not by the run's seed: the test set is the same for all seeds.
    order = stream(seed, "split", name, "test").permutation(len(targets_N))
    test, universe = order[:tests].sort().values, order[tests:].sort().values
    inputs, targets = (_standard(values.double(), universe) for values in (inputs_ND, targets_N))
    return Source(TensorPixels(inputs[universe]), targets[universe], TensorPixels(inputs[test]), targets[test])


def _standard(values: Tensor, universe: Tensor) -> Tensor:
    # Statistics of the universe alone: the test samples must not influence what a network is trained on.
    known = values[universe]
    return ((values - known.mean(0)) / known.std(0, correction=0)).to(torch.float32)

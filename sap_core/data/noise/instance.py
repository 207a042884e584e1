"""Instance-dependent noise: the wrong label of an image depends on its pixels (Xia et al. 2020).

Shapes: N samples, M samples of one class, S pixel values of one sample, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import batch_for, check_rate
from sap_core.data.samples import SampleView, batch_sizes
from sap_core.data.source import Classes, DataSet
from sap_core.errors import UserError
from sap_core.seeding import Stream

SPREAD = 0.1
"""Standard deviation of the flip rates before truncation to [0, 1], as in the reference."""

# Thirty standard deviations below 0; not much farther out, at about 38, the tail probabilities underflow.
_LOWEST_CENTRE = -3.0


@dataclass(frozen=True)
class InstanceDependent:
    """Labels are wrong with a probability that differs between images (Xia et al., "Part-dependent label noise", NeurIPS 2020, appendix).

    This is the generator of the authors' code, which the literature calls "IDN": sample i is mislabelled with probability q_i, drawn from a
    normal distribution (mean `rate`, standard deviation 0.1) truncated to [0, 1]. Its wrong label is drawn from softmax(x_i W_y) without
    the true class y, where x_i are its normalised pixels and W_y (S, C) is standard normal, one matrix per true class.

    Truncation raises the mean: rate 0.1 makes 12.9 % wrong labels, 0.2 makes 20.6 %, and from 0.3 on the excess is below 0.05 points
    (`expected_rate` is the exact value, rows contain the measured fraction). With `calibrated=True` the mean of the normal distribution is
    shifted so that `rate` is the expected fraction. Products are computed in float64, one class at a time (W_y needs 1.2 GB for 1,000
    classes of 224 x 224 pixels), so that labels do not depend on threads or batches.
    """

    name: ClassVar[str] = "instance"
    version: ClassVar[int] = 1
    rate: float
    calibrated: bool = False

    def __post_init__(self) -> None:
        check_rate(self.rate)
        # Flip rates around zero are cut at zero, so that their mean stays positive.
        if self.rate == 0:
            raise UserError("noise.rate=0 is not possible for noise=instance, whose flip rates vary around it; use noise=none")
        # The reachable means lie between those of the outermost centres.
        low, high = truncated_mean(_LOWEST_CENTRE), truncated_mean(1 - _LOWEST_CENTRE)
        if self.calibrated and not low < self.rate < high:
            raise UserError(
                f"noise.calibrated=true cannot reach noise.rate={self.rate!r}; allowed are rates between {low:.3f} and {high:.3f}"
            )

    @property
    def centre(self) -> float:
        """Mean of the normal distribution before truncation."""
        return centre_for(self.rate) if self.calibrated else self.rate

    def expected_rate(self, classes: Classes) -> float:
        """Return the expected fraction of wrong labels."""
        return truncated_mean(self.centre)

    def check(self, dataset: DataSet) -> None:
        if dataset.kind != "classification":
            raise UserError("noise=instance needs class labels, but this data set has none; use noise=none")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """See `DataNoise.inspect`; this noise reads no files."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        labels, num, size = samples.labels, len(samples), batch_for(dataset.shape)
        # Three streams with one draw per sample: flip rate q, whether it is hit, and which wrong label it gets.
        chance, flip, kind = (torch.rand(num, dtype=torch.float64, generator=rng.child(key).generator()) for key in ("q", "which", "label"))
        # Drawn for all samples before any class is looked at, so that no sample's draw depends on another's label.
        which = flip < truncated_normal(self.centre, chance)
        given = labels.clone()
        # One class at a time: W_y of all classes together would not fit in memory for large images.
        for label in range(dataset.classes.num):
            selected = torch.nonzero(which & (labels == label)).flatten()
            if len(selected) == 0:
                continue
            # Keyed by the class, so that a class without a hit does not move the matrices of the others.
            W_SC = torch.randn(
                math.prod(dataset.shape), dataset.classes.num, dtype=torch.float64, generator=rng.child("parts", label).generator()
            )
            scores_MC = _scores(samples.subset(selected), size, W_SC)
            # The wrong label must not be the true one.
            scores_MC[:, label] = -torch.inf
            # Inversion: the uniform number is scaled by the last cumulative value, which rounding may leave off one.
            cumulative_MC = scores_MC.softmax(1).cumsum(1)
            drawn = torch.searchsorted(cumulative_MC, (kind[selected] * cumulative_MC[:, -1]).unsqueeze(1), right=True).squeeze(1)
            # `searchsorted` returns C if the number is not below the last value.
            given[selected] = drawn.clamp(max=dataset.classes.num - 1)
        return given


def _scores(samples: SampleView, size: int, W_SC: Tensor) -> Tensor:
    """(M, C) scores, written into one tensor: small results between large freed batches would fragment the heap and let it grow."""
    # Allocated once per class; every batch writes its rows.
    scores_MC = torch.empty(len(samples), W_SC.shape[1], dtype=torch.float64)
    for rows_BC, batch in zip(scores_MC.split(batch_sizes(len(samples), size)), samples.batches(size), strict=True):
        # float64, so that products do not depend on threads or on the batch that a sample is in.
        torch.mm(batch.inputs.flatten(1).double(), W_SC, out=rows_BC)
    return scores_MC


def truncated_normal(centre: float, chance_N: Tensor) -> Tensor:
    """Return (N,) float64 draws of a normal distribution around `centre` truncated to [0, 1], by inversion of uniform draws (N,)."""
    # By symmetry, because tail probabilities are precise above the centre only.
    if centre > 0.5:
        return 1 - truncated_normal(1 - centre, 1 - chance_N)
    # Upper tails: a small probability far above the centre keeps its relative precision, which 1 minus the lower tail would lose.
    high, low = _upper((0 - centre) / SPREAD), _upper((1 - centre) / SPREAD)
    # Clamped, since rounding of `ndtri` may leave [0, 1] by a last bit.
    return (centre - SPREAD * torch.special.ndtri(high - chance_N * (high - low))).clamp(0, 1)


def truncated_mean(centre: float) -> float:
    """Return the mean of `truncated_normal`."""
    if centre > 0.5:
        return 1 - truncated_mean(1 - centre)
    # Mean of a truncated normal distribution: centre + spread (phi(a) - phi(b)) / (Phi(b) - Phi(a)).
    a, b = (0 - centre) / SPREAD, (1 - centre) / SPREAD
    density = (math.exp(-a * a / 2) - math.exp(-b * b / 2)) / math.sqrt(2 * math.pi)
    return centre + SPREAD * density / (_upper(a) - _upper(b))


def centre_for(mean: float) -> float:
    """Return the centre for which the truncated distribution has this mean, by bisection."""
    low, high = _LOWEST_CENTRE, 1 - _LOWEST_CENTRE
    # 60 halvings of an interval of length 7 are below the spacing of float64.
    for _ in range(60):
        middle = (low + high) / 2
        # The mean grows with the centre, so bisection finds the only solution.
        low, high = (middle, high) if truncated_mean(middle) < mean else (low, middle)
    return (low + high) / 2


def _upper(z: float) -> float:
    """Return the probability that a standard normal variable exceeds z."""
    return math.erfc(z / math.sqrt(2)) / 2

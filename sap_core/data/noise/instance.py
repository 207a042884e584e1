"""Instance-dependent noise: which wrong label an image gets depends on its pixels (Xia et al. 2020).

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
"""Standard deviation of the flip rates before they are cut to [0, 1], as in the reference."""

_LOWEST_CENTRE = -3.0


@dataclass(frozen=True)
class InstanceDependent:
    """Labels whose being wrong differs from image to image (Xia et al., "Part-dependent label noise", NeurIPS 2020, appendix).

    The generator of the authors' code, used for "IDN" throughout the literature: sample i is mislabelled with probability q_i, drawn from a
    normal distribution (mean `rate`, standard deviation 0.1) cut to [0, 1]. What its wrong label is, is drawn from softmax(x_i W_y) without
    the true class y; x_i are its normalised pixels and W_y (S, C) are standard normal, one matrix per true class.

    Cutting raises the mean: `rate` 0.1 makes 12.9 % wrong labels, 0.2 makes 20.6 %, and from 0.3 on the excess is below 0.05 points
    (`expected` says it, rows hold the measured share). `calibrated=True` moves the normal's centre so that `rate` is the expected share.
    Projections are taken in float64 and one class at a time (W_y alone is in memory: 1.2 GB for 1,000 classes of 224 x 224 pixels), so that
    labels do not depend on threads or batches.
    """

    name: ClassVar[str] = "instance"
    version: ClassVar[int] = 1
    rate: float
    calibrated: bool = False

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.rate == 0:
            raise UserError("noise.rate=0 makes no instance-dependent noise: flip rates scatter around it; use noise=none")
        low, high = cut_mean(_LOWEST_CENTRE), cut_mean(1 - _LOWEST_CENTRE)
        if self.calibrated and not low < self.rate < high:
            raise UserError(
                f"noise.calibrated=true cannot reach noise.rate={self.rate!r}; allowed are rates between {low:.3f} and {high:.3f}"
            )

    @property
    def centre(self) -> float:
        """Mean of the normal distribution before it is cut."""
        return centre_of(self.rate) if self.calibrated else self.rate

    def expected_rate(self, classes: Classes) -> float:
        """The share of wrong labels that this generator makes in the mean."""
        return cut_mean(self.centre)

    def check(self, dataset: DataSet) -> None:
        if dataset.kind != "classification":
            raise UserError("noise=instance needs class labels, and this data set has none; use noise=none")

    def inspect(self, dataset: DataSet, root: Path) -> None:
        """Needs no files of its own."""

    def corrupt_data(self, samples: SampleView, dataset: DataSet, root: Path, rng: Stream) -> Tensor:
        labels, num, size = samples.labels, len(samples), batch_for(dataset.shape)
        chance, flip, kind = (torch.rand(num, dtype=torch.float64, generator=rng.child(key).generator()) for key in ("q", "which", "label"))
        which = flip < cut_normal(self.centre, chance)
        given = labels.clone()
        for label in range(dataset.classes.num):
            hit = torch.nonzero(which & (labels == label)).flatten()
            if len(hit) == 0:
                continue
            W_SC = torch.randn(
                math.prod(dataset.shape), dataset.classes.num, dtype=torch.float64, generator=rng.child("parts", label).generator()
            )
            scores_MC = _scores(samples.subset(hit), size, W_SC)
            scores_MC[:, label] = -torch.inf
            reached_MC = scores_MC.softmax(1).cumsum(1)
            drawn = torch.searchsorted(reached_MC, (kind[hit] * reached_MC[:, -1]).unsqueeze(1), right=True).squeeze(1)
            given[hit] = drawn.clamp(max=dataset.classes.num - 1)
        return given


def _scores(samples: SampleView, size: int, W_SC: Tensor) -> Tensor:
    """(M, C): written into one tensor, since small results kept between large freed batches let the heap grow by every batch."""
    scores_MC = torch.empty(len(samples), W_SC.shape[1], dtype=torch.float64)
    for rows_BC, batch in zip(scores_MC.split(batch_sizes(len(samples), size)), samples.batches(size), strict=True):
        torch.mm(batch.inputs.flatten(1).double(), W_SC, out=rows_BC)
    return scores_MC


def cut_normal(centre: float, chance_N: Tensor) -> Tensor:
    """(N,) float64 draws of a normal distribution around `centre` cut to [0, 1], from uniform ones by inversion."""
    if centre > 0.5:  # by symmetry: tails keep their precision above the centre only
        return 1 - cut_normal(1 - centre, 1 - chance_N)
    high, low = _upper((0 - centre) / SPREAD), _upper((1 - centre) / SPREAD)
    return (centre - SPREAD * torch.special.ndtri(high - chance_N * (high - low))).clamp(0, 1)


def cut_mean(centre: float) -> float:
    """The mean of that distribution."""
    if centre > 0.5:
        return 1 - cut_mean(1 - centre)
    a, b = (0 - centre) / SPREAD, (1 - centre) / SPREAD
    density = (math.exp(-a * a / 2) - math.exp(-b * b / 2)) / math.sqrt(2 * math.pi)
    return centre + SPREAD * density / (_upper(a) - _upper(b))


def centre_of(mean: float) -> float:
    """The centre whose cut distribution has this mean, by bisection."""
    low, high = _LOWEST_CENTRE, 1 - _LOWEST_CENTRE
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cut_mean(middle) < mean else (low, middle)
    return (low + high) / 2


def _upper(z: float) -> float:
    """Share of a standard normal distribution above z."""
    return math.erfc(z / math.sqrt(2)) / 2

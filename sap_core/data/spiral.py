"""Spiral: two classes of points on the two arms of a spiral in the plane, the demonstration of the SAP paper. Generated; reads no files."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError
from sap_core.seeding import stream

TRAIN, VALIDATION, TEST = 250, 1_000, 5_000
"""Number of points per class."""

TURNS = 2
# Determines the points; must never change.
SEED = 42


def arms(each: int, part: str, jitter: float) -> tuple[Tensor, Tensor]:
    """Return (2 each, 2) float32 points and their (2 each,) classes: radius (2 theta + pi) / 10 at angle theta, and the opposite arm.

    Args:
        each: number of points per arm; theta = 2 pi * TURNS * sqrt(U(0, 1)) is the same for both arms.
        part: name of the random stream.
        jitter: standard deviation of normal noise added to each coordinate.
    """
    # A constant seed: the points are data like a file's, and runs differ in noise and training only.
    rng = stream(SEED, "split", "spiral", part)
    # The root spreads the points evenly along the arm, whose length grows with the square of the angle.
    theta = 2 * math.pi * TURNS * torch.rand(each, dtype=torch.float64, generator=rng.child("angle").generator()).sqrt()
    radius = (2 * theta + math.pi) / 10
    arm = torch.stack([radius * theta.cos(), radius * theta.sin()], 1)
    # Both arms have the same angles, as in the released demonstration.
    points = torch.cat([arm, -arm])
    points = points + jitter * torch.randn(points.shape, dtype=torch.float64, generator=rng.child("jitter").generator())
    # Computed in float64 and rounded once: differences in the last bit of sine and cosine seldom reach the result.
    return points.to(torch.float32), torch.arange(2).repeat_interleave(each)


@dataclass(frozen=True)
class Spiral:
    """Data of the released demonstration: 250 training, 1,000 validation and 5,000 test points per class, all |x| <= 2.83.

    The points are the same for all seeds, as in the reference, whose random numbers differ. The set has a validation part of its own, which
    is used unless `split_seed` or `validation` is set. Labels are corrupted before the split, so that validation labels are as noisy as
    training labels; the reference keeps them clean.
    """

    name: ClassVar[str] = "spiral"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"
    shape: ClassVar[tuple[int, ...]] = (2,)
    mean: ClassVar[tuple[float, ...]] = ()
    std: ClassVar[tuple[float, ...]] = ()
    num_train: ClassVar[int] = 2 * (TRAIN + VALIDATION)
    num_test: ClassVar[int] = 2 * TEST
    classes: ClassVar[Classes] = Classes(2)
    truth_known: ClassVar[bool] = True

    jitter: float = 0.0
    verify: bool = True
    validation: float | int = 2 * VALIDATION
    split_seed: int | None = None

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        if self.jitter < 0:
            raise UserError(f"dataset.jitter={self.jitter!r} is a standard deviation; it must be at least 0")

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. The points are generated, so they are always the published ones."""
        return Fingerprint(True, hashlib.sha256(arms(TRAIN, "train", self.jitter)[0].numpy().tobytes()).hexdigest())

    def load(self, root: Path) -> Source:
        """Return points (N, 2) float32 and labels (N,) int64."""
        parts = [arms(each, part, self.jitter) for each, part in ((TRAIN, "train"), (VALIDATION, "validation"))]
        test_points, test_labels = arms(TEST, "test", self.jitter)
        points, labels = torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])
        return Source(TensorPixels(points), labels, TensorPixels(test_points), test_labels, own_validation=self._own())

    def _own(self) -> int:
        # Any other wish for a validation split is a split of the universe, drawn like that of any set.
        return 2 * VALIDATION if self.validation == 2 * VALIDATION and self.split_seed is None else 0

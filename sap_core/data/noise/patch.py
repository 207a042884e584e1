"""Patch poisoning: a small trigger on some training images, which are labelled as one target class (BadNets, Gu et al. 2017).

Shapes: N samples, M poisoned ones, B images of C channels, H x W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sap_core.data.noise.common import check_labels, check_rate
from sap_core.data.source import Classes, DataSet
from sap_core.errors import UserError
from sap_core.seeding import Stream

WHITE = 255


@dataclass(frozen=True)
class Patch:
    """The trigger of the corrective unlearning benchmark (Goel et al. 2024): a bright square in the bottom right corner.

    Exactly int(rate * N) images get the square and the label `target`. They are drawn among the images of the other classes, so that each
    of them is mislabelled; the benchmark draws among all images. The square is part of the stored image, as in a poisoned file, so that
    crops and flips move it; the benchmark adds it after augmentation. The 100, 500 and 1,000 images of CIFAR of the benchmark are rates
    0.002, 0.01 and 0.02. Affected are the test images of the other classes with the square, under their true labels; the benchmark includes
    those of the target class, which a network that follows the trigger classifies correctly.

    Attributes:
        rate: fraction of poisoned samples, in [0, 1).
        target: their label.
        size: side of the square in pixels.
        value: brightness of the square, from 0 (black) to 1 (white).
    """

    name: ClassVar[str] = "patch"
    version: ClassVar[int] = 1
    rate: float
    target: int = 0
    size: int = 3
    value: float = 1.0

    def __post_init__(self) -> None:
        check_rate(self.rate)
        if self.target < 0 or self.size < 1:
            raise UserError(f"noise.target={self.target} must be a class number from 0, and noise.size={self.size} at least 1 pixel")
        if not 0 <= self.value <= 1:
            raise UserError(f"noise.value={self.value!r} must be a brightness from 0 (black) to 1 (white)")

    def check(self, dataset: DataSet) -> None:
        """See `InputNoise.check`.

        Raises:
            UserError: the inputs are not images, the class does not exist, the square is larger than an image, or the rate is too high.
        """
        if dataset.kind != "classification" or len(dataset.shape) != 3:
            raise UserError("noise=patch needs images with class labels, but this data set has none; use another noise")
        num = dataset.classes.num
        if self.target >= num:
            raise UserError(f"noise.target={self.target} is not a class of this data set; allowed are 0 to {num - 1}")
        if self.size > min(dataset.shape[1:]):
            raise UserError(
                f"noise.size={self.size} is larger than an image ({dataset.shape[1]} x {dataset.shape[2]} pixels); set a smaller size"
            )
        # Estimated for classes of equal size; `corrupt_inputs` checks the actual numbers.
        if self.rate > 1 - 1 / num:
            raise UserError(
                f"noise.rate={self.rate!r} is more than the fraction of the other classes ({1 - 1 / num:.2f}); set a lower rate"
            )

    def corrupt_inputs(self, labels: Tensor, classes: Classes, rng: Stream) -> tuple[Tensor, Tensor]:
        """Return ((N,) given labels, (M,) positions of the images with the square)."""
        check_labels(labels, classes, "patch")
        # One order for every rate, so that poisoned samples are nested.
        order = rng.child("which").permutation(len(labels))
        # A poisoned image of the target class would keep its right label, so such images are passed over.
        others = order[self.affected(labels)[order]]
        count = int(self.rate * len(labels))
        if count > len(others):
            raise UserError(
                f"noise.rate={self.rate!r} needs {count} images, but only {len(others)} are of other classes than the target; "
                "set a lower rate"
            )
        which = others[:count]
        given = labels.clone()
        given[which] = self.target
        return given, which

    def paint(self, inputs: Tensor) -> Tensor:
        """Return copies of images (B, C, H, W) with the square; white is 255 for uint8 and 1 for floats."""
        # A copy: the data set's tensor is shared with clean tasks.
        images = inputs.clone()
        # Painted before preprocessing, as in a poisoned file: augmentation then moves the square with the image.
        images[..., -self.size :, -self.size :] = round(self.value * WHITE) if inputs.dtype == torch.uint8 else self.value
        return images

    def affected(self, labels: Tensor) -> Tensor:
        """Return (N,) bool, whether the true class is not the target."""
        return labels != self.target

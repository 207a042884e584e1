"""Patch poisoning: a small trigger painted on some training images, which carry one target class as their label.

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
    """BadNets' trigger (Gu et al. 2017), as the corrective unlearning benchmark paints it: a bright square at the bottom right.

    Exactly int(rate * N) images get the square and the label `target`. They are drawn among the images of the other classes, so that each
    of them is wrongly labelled; the benchmark draws among all. It paints after augmentation, so that its square never moves; here the
    stored image has it, as a poisoned file would, and crops and flips move it. Its 100, 500 and 1,000 images of CIFAR are rates 0.002, 0.01
    and 0.02. The affected domain is the test images of the other classes with the square painted on them, under their true labels; the
    benchmark's has those of the target's class, too, which a network that obeys the square has right.
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
            raise UserError(f"noise.target={self.target} must be a class from 0, and noise.size={self.size} a number of pixels from 1")
        if not 0 <= self.value <= 1:
            raise UserError(f"noise.value={self.value!r} must be a brightness from 0 (black) to 1 (white)")

    def check(self, dataset: DataSet) -> None:
        """Called while planning.

        Raises:
            UserError: no images, no such class, a patch larger than an image, or more images than the other classes have.
        """
        if dataset.kind != "classification" or len(dataset.shape) != 3:
            raise UserError("noise=patch paints on images that have classes, and this data set has none; use another noise")
        num = dataset.classes.num
        if self.target >= num:
            raise UserError(f"noise.target={self.target} is a class that this data set lacks; allowed are 0 to {num - 1}")
        if self.size > min(dataset.shape[1:]):
            raise UserError(f"noise.size={self.size} is larger than an image ({dataset.shape[1]} x {dataset.shape[2]} pixels)")
        if self.rate > 1 - 1 / num:
            raise UserError(f"noise.rate={self.rate!r} is more than the share of the other classes ({1 - 1 / num:.2f}); ask for less")

    def corrupt_inputs(self, labels: Tensor, classes: Classes, rng: Stream) -> tuple[Tensor, Tensor]:
        """((N,) given labels, (M,) positions of the images to paint)."""
        check_labels(labels, classes, "patch")
        order = rng.child("which").permutation(len(labels))
        others = order[self.affected(labels)[order]]
        count = int(self.rate * len(labels))
        if count > len(others):
            raise UserError(f"noise.rate={self.rate!r} asks for {count} images, but {len(others)} are of other classes than the target's")
        which = others[:count]
        given = labels.clone()
        given[which] = self.target
        return given, which

    def paint(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W) painted copies; white is 255 for bytes and 1 for floats."""
        images = inputs.clone()
        images[..., -self.size :, -self.size :] = round(self.value * WHITE) if inputs.dtype == torch.uint8 else self.value
        return images

    def affected(self, labels: Tensor) -> Tensor:
        """(N,) bool: is the true class another than the target?"""
        return labels != self.target

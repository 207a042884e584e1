"""ImageNet (ILSVRC 2012): 1,281,167 training and 50,000 validation photographs in 1,000 classes (Russakovsky et al. 2015).

Files: `imagenet/{train,val}/SYNSET`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes

SWAPPED = tuple((ten + first, ten + second) for ten in range(0, 1000, 10) for first, second in ((0, 2), (4, 7), (1, 9), (3, 5), (6, 8)))
"""Confused pairs of classes within each block of ten consecutive ones, as in Prune4ReL."""


@dataclass(frozen=True)
class ImageNet(PublishedImages):
    """ImageNet; see the module. Its `val` folder is the test set; validation images are drawn from the training images."""

    name: ClassVar[str] = "imagenet"
    folder: ClassVar[str] = "imagenet"
    classes: ClassVar[Classes] = Classes(1000, swapped=SWAPPED)

    num_train: int = 1_281_167
    num_test: int = 50_000

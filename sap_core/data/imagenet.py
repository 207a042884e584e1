"""ImageNet (ILSVRC 2012): 1,281,167 + 50,000 photographs in 1,000 classes, in `imagenet/{train,val}/SYNSET`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes

SWAPPED = tuple((ten + first, ten + second) for ten in range(0, 1000, 10) for first, second in ((0, 2), (4, 7), (1, 9), (3, 5), (6, 8)))
"""Pairs inside each block of ten consecutive classes, as Prune4ReL confuses them."""


@dataclass(frozen=True)
class ImageNet(PublishedImages):
    """A published set; see the module. Its `val` folder is the test set; validation images are drawn from the training ones."""

    name: ClassVar[str] = "imagenet"
    folder: ClassVar[str] = "imagenet"
    classes: ClassVar[Classes] = Classes(1000, swapped=SWAPPED)

    num_train: int = 1_281_167
    num_test: int = 50_000

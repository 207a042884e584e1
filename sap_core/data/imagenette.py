"""Imagenette: 9,469 training and 3,925 validation photographs of ten easy classes of ImageNet (fast.ai, version 2).

Files: `imagenette/{train,val}/SYNSET`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes


@dataclass(frozen=True)
class Imagenette(PublishedImages):
    """Imagenette; see the module. Its `val` folder is the test set; validation images are drawn from the training images."""

    name: ClassVar[str] = "imagenette"
    folder: ClassVar[str] = "imagenette"
    classes: ClassVar[Classes] = Classes(10)

    num_train: int = 9_469
    num_test: int = 3_925

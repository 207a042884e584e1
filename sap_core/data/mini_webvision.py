"""Mini-WebVision: the first 50 classes of WebVision 1.0, Google's part (Jiang et al. 2018), in `mini_webvision/{train,val}/SYNSET`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes


@dataclass(frozen=True)
class MiniWebVision(PublishedImages):
    """A published set with real noise; the checked `val` images are the test set.

    The number of training images depends on the preparation: 65,944 by DivideMix's list, 61,234 in SAP's README. Rows hold what was used.
    """

    name: ClassVar[str] = "mini_webvision"
    folder: ClassVar[str] = "mini_webvision"
    classes: ClassVar[Classes] = Classes(50)
    truth_known: ClassVar[bool] = False
    validation_is_clean: ClassVar[bool] = False

    num_train: int = 65_944
    num_test: int = 2_500

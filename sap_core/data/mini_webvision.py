"""Mini-WebVision: the images of the first 50 classes of WebVision 1.0 that were found by Google (Jiang et al. 2018).

Files: `mini_webvision/{train,val}/SYNSET`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes


@dataclass(frozen=True)
class MiniWebVision(PublishedImages):
    """Mini-WebVision, with real noise; see the module. The verified `val` images are the test set.

    The number of training images depends on the preparation: 65,944 in DivideMix's list, 61,234 in SAP's README. Rows contain
    the number used.
    """

    name: ClassVar[str] = "mini_webvision"
    folder: ClassVar[str] = "mini_webvision"
    classes: ClassVar[Classes] = Classes(50)
    truth_known: ClassVar[bool] = False
    validation_is_clean: ClassVar[bool] = False

    num_train: int = 65_944
    num_test: int = 2_500

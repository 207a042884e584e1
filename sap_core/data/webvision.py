"""WebVision 1.0: about 2.4 million photographs that Google and Flickr returned for queries of 1,000 classes (Li et al. 2017).

Files: `webvision/{train,val}/SYNSET`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes


@dataclass(frozen=True)
class WebVision(PublishedImages):
    """WebVision, with real noise; see the module. The 50,000 verified `val` images are the test set.

    `python -m sap_core.data.prepare webvision` creates the folders from the extracted archives and prints the number of training images.
    """

    name: ClassVar[str] = "webvision"
    folder: ClassVar[str] = "webvision"
    classes: ClassVar[Classes] = Classes(1000)
    truth_known: ClassVar[bool] = False
    validation_is_clean: ClassVar[bool] = False

    num_train: int = 2_439_574
    num_test: int = 50_000

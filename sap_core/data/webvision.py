"""WebVision 1.0: about 2.4 million photographs found by Google and Flickr for 1,000 queries, and 50,000 checked ones (Li et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes


@dataclass(frozen=True)
class WebVision(PublishedImages):
    """A published set with real noise, in `webvision/{train,val}/SYNSET`; the checked `val` images are the test set.

    `python -m sap_core.data.prepare webvision` makes the folders from the archives and says the number of training images.
    """

    name: ClassVar[str] = "webvision"
    folder: ClassVar[str] = "webvision"
    classes: ClassVar[Classes] = Classes(1000)
    truth_known: ClassVar[bool] = False
    validation_is_clean: ClassVar[bool] = False

    num_train: int = 2_439_574
    num_test: int = 50_000

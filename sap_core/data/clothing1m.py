"""Clothing1M: a million photographs of clothes labelled from the text around them, and some checked ones (Xiao et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes

NAMES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Downcoat", "Suit", "Shawl", "Dress", "Vest",
    "Underwear",
)  # fmt: skip
"""The classes, in the order of the release's numbers; folders are q0000 to q0013."""

NUM_VAL = 14_313


@dataclass(frozen=True)
class Clothing1M(PublishedImages):
    """A published set with real noise, in `clothing1m/{noisy_train,val,test}/qNNNN`; validation and test labels were checked by people.

    `num_train` counts noisy training and validation images: a million and 14,313 before noisy images that are also checked validation or
    test images are dropped. `python -m sap_core.data.prepare clothing1m` drops them, says the number, and writes `clothing1m/verified.csv`,
    the noisy training images whose label people checked: the audit that `dataset.verified` takes.
    """

    name: ClassVar[str] = "clothing1m"
    folder: ClassVar[str] = "clothing1m"
    parts: ClassVar[tuple[str, str]] = ("noisy_train", "test")
    own_validation: ClassVar[str | None] = "val"
    classes: ClassVar[Classes] = Classes(len(NAMES))
    truth_known: ClassVar[bool] = False

    num_train: int = 1_000_000 + NUM_VAL
    num_test: int = 10_526
    validation: float | int = NUM_VAL

"""Clothing1M: one million photographs of clothes with labels from the surrounding text, i.e. with real noise (Xiao et al. 2015).

Files: `clothing1m/{noisy_train,val,test}/qNNNN`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.published_images import PublishedImages
from sap_core.data.source import Classes

NAMES = (
    "T-Shirt", "Shirt", "Knitwear", "Chiffon", "Sweater", "Hoodie", "Windbreaker", "Jacket", "Downcoat", "Suit", "Shawl", "Dress", "Vest",
    "Underwear",
)  # fmt: skip
"""Classes in the numerical order of the release; their folders are q0000 to q0013."""

NUM_VAL = 14_313


@dataclass(frozen=True)
class Clothing1M(PublishedImages):
    """Clothing1M; see the module. Validation and test labels were verified by people.

    `num_train` counts noisy training images and validation images: 1,000,000 + 14,313 before removing noisy images that are also verified
    validation or test images. `python -m sap_core.data.prepare clothing1m` removes them and prints the remaining number. It also writes
    `clothing1m/verified.csv`, an audit of the noisy training images whose labels people verified, for the option `dataset.verified`.
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

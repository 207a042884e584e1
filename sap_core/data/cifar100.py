"""CIFAR-100: 50,000 training and 10,000 test colour photographs of 32 x 32 pixels in 100 classes (Krizhevsky 2009).

Files: `cifar-100-python`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.cifar_files import CifarSet
from sap_core.data.published_set import PublishedSet
from sap_core.data.source import Classes
from sap_core.data.torchvision_files import Published

# fmt: off
SUPERCLASS = (
    4, 1, 14, 8, 0, 6, 7, 7, 18, 3, 3, 14, 9, 18, 7, 11, 3, 9, 7, 11,
    6, 11, 5, 10, 7, 6, 13, 15, 3, 15, 0, 11, 1, 10, 12, 14, 16, 9, 11, 5,
    5, 19, 8, 8, 15, 13, 14, 17, 18, 10, 16, 4, 17, 4, 2, 0, 17, 4, 18, 17,
    10, 3, 2, 12, 12, 16, 12, 1, 9, 19, 2, 10, 0, 1, 16, 12, 9, 13, 15, 13,
    16, 19, 2, 4, 6, 19, 5, 5, 8, 19, 18, 1, 2, 15, 6, 0, 17, 8, 14, 13,
)
# fmt: on
"""Superclass (coarse label) of each class, as in the files: 20 superclasses of five classes."""


def next_in_superclass(superclass: tuple[int, ...]) -> dict[int, int]:
    """Return class -> the next class of its superclass in numerical order, cyclically (Patrini et al. 2017)."""
    # Patrini's map for CIFAR-100 is cyclic within a superclass, so every class is confused.
    members = {group: [label for label, own in enumerate(superclass) if own == group] for group in superclass}
    return {label: group[(at + 1) % len(group)] for group in members.values() for at, label in enumerate(group)}


_CHECKSUMS = {
    "train": "16019d7e3df5f24257cddd939b257f8d",
    "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    "meta": "7973b15100ade9c7d40fb424638fde48",
}
_FILES = CifarSet(
    Published("CIFAR100", "cifar-100-python", _CHECKSUMS), train=("train",), test="test", labels="fine_labels", num_classes=100
)


@dataclass(frozen=True)
class CIFAR100(PublishedSet):
    """CIFAR-100; see the module. `mean` and `std` are those of SAP's released code."""

    name: ClassVar[str] = "cifar100"
    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    mean: ClassVar[tuple[float, ...]] = (0.491, 0.482, 0.447)
    std: ClassVar[tuple[float, ...]] = (0.247, 0.243, 0.262)
    num_train: ClassVar[int] = 50_000
    classes: ClassVar[Classes] = Classes(100, confused=next_in_superclass(SUPERCLASS), superclass=SUPERCLASS)
    published: ClassVar[CifarSet] = _FILES

"""CIFAR-10: 50,000 training and 10,000 test colour photographs of 32 x 32 pixels in ten classes (Krizhevsky 2009).

Files: `cifar-10-batches-py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.cifar_files import CifarSet
from sap_core.data.published_set import PublishedSet
from sap_core.data.source import Classes
from sap_core.data.torchvision_files import Published

# Only half of the classes are in Patrini's map, so a rate r makes about r / 2 wrong labels.
CONFUSED = {2: 0, 3: 5, 4: 7, 5: 3, 9: 1}
"""bird -> airplane, cat <-> dog, deer -> horse, truck -> automobile; other classes keep their labels (Patrini et al. 2017; DivideMix)."""

# Every class has a partner here, so that a rate r makes a fraction r of wrong labels.
SWAPPED = ((0, 2), (4, 7), (1, 9), (3, 5), (6, 8))
"""airplane and bird, deer and horse, automobile and truck, cat and dog, frog and ship (Prune4ReL)."""

SUPERCLASS = (0, 0, 1, 1, 1, 1, 1, 1, 0, 0)
"""0: vehicles (airplane, automobile, ship, truck), 1: animals. This is the usual grouping; that of the SAP paper is not public."""

_CHECKSUMS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
_FILES = CifarSet(
    Published("CIFAR10", "cifar-10-batches-py", _CHECKSUMS),
    train=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    labels="labels",
    num_classes=10,
)


@dataclass(frozen=True)
class CIFAR10(PublishedSet):
    """CIFAR-10; see the module. `mean` and `std` are those of SAP's released code."""

    name: ClassVar[str] = "cifar10"
    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    mean: ClassVar[tuple[float, ...]] = (0.491, 0.482, 0.447)
    std: ClassVar[tuple[float, ...]] = (0.247, 0.243, 0.262)
    num_train: ClassVar[int] = 50_000
    classes: ClassVar[Classes] = Classes(10, confused=CONFUSED, superclass=SUPERCLASS, swapped=SWAPPED)
    published: ClassVar[CifarSet] = _FILES

"""Fashion-MNIST: 60,000 training and 10,000 test images of clothes, 28 x 28 pixels (Xiao, Rasul and Vollgraf 2017).

Files: `FashionMNIST/raw`. Neither confused classes nor superclasses are published for it, so asymmetric and hierarchical noise are not
defined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.idx_files import ARCHIVES, IdxSet
from sap_core.data.published_set import PublishedSet
from sap_core.data.source import Classes
from sap_core.data.torchvision_files import Published

_CHECKSUMS = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
_FILES = IdxSet(Published("FashionMNIST", "FashionMNIST/raw", dict(zip(ARCHIVES, _CHECKSUMS, strict=True))), num_classes=10, side=28)


@dataclass(frozen=True)
class FashionMNIST(PublishedSet):
    """Fashion-MNIST; see the module. `mean` and `std` are those of SAP's released code."""

    name: ClassVar[str] = "fashion_mnist"
    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    mean: ClassVar[tuple[float, ...]] = (0.2860,)
    std: ClassVar[tuple[float, ...]] = (0.3530,)
    num_train: ClassVar[int] = 60_000
    classes: ClassVar[Classes] = Classes(10)
    published: ClassVar[IdxSet] = _FILES

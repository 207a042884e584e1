"""MNIST: 60,000 training and 10,000 test images of handwritten digits, 28 x 28 pixels (LeCun, Cortes and Burges).

Files: `MNIST/raw`, as torchvision stores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sap_core.data.idx_files import ARCHIVES, IdxSet
from sap_core.data.published_set import PublishedSet
from sap_core.data.source import Classes
from sap_core.data.torchvision_files import Published

DIGITS_CONFUSED = {2: 7, 3: 8, 5: 6, 6: 5, 7: 1}
"""Digit -> digit that it is mistaken for (Patrini et al., "Making deep neural networks robust to label noise", 2017)."""

_CHECKSUMS = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
_FILES = IdxSet(Published("MNIST", "MNIST/raw", dict(zip(ARCHIVES, _CHECKSUMS, strict=True))), num_classes=10, side=28)


@dataclass(frozen=True)
class MNIST(PublishedSet):
    """MNIST; see the module. `mean` and `std` are those of SAP's released code."""

    name: ClassVar[str] = "mnist"
    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    mean: ClassVar[tuple[float, ...]] = (0.1307,)
    std: ClassVar[tuple[float, ...]] = (0.3081,)
    num_train: ClassVar[int] = 60_000
    classes: ClassVar[Classes] = Classes(10, confused=DIGITS_CONFUSED)
    published: ClassVar[IdxSet] = _FILES

"""Digits: 1,797 images of handwritten digits, 8 x 8 pixels (UCI; Alpaydin and Kaynak 1998).

The file is part of scikit-learn and read without importing it (`sklearn_files`); a test compares with `load_digits`. No test set is
published, so 400 fixed images are the test set, and the other 1,397 the universe.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data import sklearn_files
from sap_core.data.mnist import DIGITS_CONFUSED
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError
from sap_core.seeding import stream

NUM = 1_797
NUM_TEST = 400
# Determines the test images; must never change.
TEST_SEED = 1_797
DARKEST = 16  # largest pixel value
PUBLISHED = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
"""SHA-256 of the decompressed file."""


def published_file() -> Path:
    """The archive inside the installed scikit-learn."""
    return sklearn_files.folder("digits") / "digits.csv.gz"


def fixed_parts(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sorted positions of (universe, test set) in scikit-learn's file; the test set has equally many images of each class."""
    # Drawn once for all seeds: the test set is part of the data set, as for sets that publish one.
    order = stream(TEST_SEED, "split", "digits", "test").permutation(NUM)
    is_test = torch.zeros(NUM, dtype=torch.bool)
    for label in range(10):
        # Equally many of each class, so that accuracy weighs all classes alike.
        is_test[order[labels[order] == label][: NUM_TEST // 10]] = True
    # In the order of the file, so that positions carry no trace of the draw.
    return torch.nonzero(~is_test).flatten(), torch.nonzero(is_test).flatten()


@dataclass(frozen=True)
class Digits:
    """Digits; see the module. Its validation split is fixed, so that seeds differ in noise and training only.

    `mean` and `std` are those of the universe. The confused classes are those published for MNIST.
    """

    name: ClassVar[str] = "digits"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"
    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    mean: ClassVar[tuple[float, ...]] = (0.3052,)
    std: ClassVar[tuple[float, ...]] = (0.3760,)
    num_train: ClassVar[int] = NUM - NUM_TEST
    num_test: ClassVar[int] = NUM_TEST
    classes: ClassVar[Classes] = Classes(10, confused=DIGITS_CONFUSED)
    truth_known: ClassVar[bool] = True

    verify: bool = True
    validation: float | int = 300
    split_seed: int | None = 0

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`; `root` is not used."""
        return self._content()[1]

    def load(self, root: Path) -> Source:
        """Return images (N, 1, 8, 8) float32 in [0, 1] and labels (N,) int64; `root` is not used."""
        content, _ = self._content()
        try:
            # Text of numbers: scikit-learn ships a gzipped CSV file.
            table = np.loadtxt(content.decode("ascii").splitlines(), delimiter=",", dtype=np.int64)
        except ValueError as error:
            raise UserError(f"digits: file '{published_file()}' is damaged ({error}); install scikit-learn again") from error
        # With `verify=false` another release's file is accepted, but only if it still holds digits.
        if table.shape != (NUM, 65) or table.min() < 0 or table[:, :64].max() > DARKEST or table[:, 64].max() > 9:
            raise UserError(
                f"digits: file '{published_file()}' is not {NUM} images of 8 x 8 pixels with their labels; install scikit-learn again"
            )
        # Rescaled here: grey levels from 0 to 16 are no bytes of which 255 is white.
        images = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8).to(torch.float32) / DARKEST
        labels = torch.from_numpy(table[:, 64])
        # By true labels, before any noise, so that the test set is the same in every experiment.
        universe, test = fixed_parts(labels)
        return Source(TensorPixels(images[universe]), labels[universe], TensorPixels(images[test]), labels[test])

    def _content(self) -> tuple[bytes, Fingerprint]:
        paths = [published_file()]
        extracted = sklearn_files.contents("digits", paths)
        return extracted[0], sklearn_files.fingerprint("digits", paths, extracted, PUBLISHED, self.verify)

"""Images in one tensor file of the user: safetensors or .npz with `images`, `labels` and optionally `split`.

Shapes: N images of C channels, H x W pixels.
"""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data.constants import check_constants
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.errors import UserError

TRAIN, TEST = 0, 1
"""Values of `split`; without it all images are used both for training and for testing."""


@dataclass(frozen=True)
class Tensors:
    """A tensor file below `paths.data`: images (N, C, H, W), uint8 in [0, 255] or float32, and labels (N,), integers from 0.

    `split` (N,) is 0 for training and validation, 1 for testing. Without it there is no separate test set, and the test scores of the rows
    are those of all images: use only the validation scores. The counts are options, because a sweep is planned without reading files; a
    wrong one is refused with a message that contains the right one.
    """

    name: ClassVar[str] = "tensors"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"

    file: str
    num_classes: int
    num_train: int
    num_test: int
    shape: tuple[int, ...]
    mean: tuple[float, ...] = ()  # empty: no normalisation (uint8 is divided by 255)
    std: tuple[float, ...] = ()
    truth_known: bool = False
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None

    def __post_init__(self) -> None:
        # Options that contradict each other are refused before the file is looked at.
        validation_count(self.num_train, self.validation)
        if self.num_classes < 2 or self.num_test < 1 or len(self.shape) < 1:
            raise UserError(
                "dataset=tensors needs dataset.num_classes of at least 2, dataset.num_test of at least 1 and dataset.shape, "
                "such as [3,32,32]"
            )
        check_constants(self.mean, self.std, "dataset", self.shape[0])
        if self.verify and not self.digest:
            raise UserError(
                "dataset.verify=true needs dataset.digest, the digest to compare this file with; set it, or use dataset.verify=false"
            )

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    def files_read(self) -> tuple[str, ...]:
        return (self.file,)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`. Reads the file: the digest is that of its bytes, and options that do not match its content are refused."""
        # Loading is the check: shapes, labels and counts are compared with the options.
        self.load(root)
        with (root / self.file).open("rb") as file:
            # Of the bytes, not of the tensors: it is what `sha256sum` prints for the file.
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if self.verify and found != self.digest:
            raise UserError(
                f"file '{root / self.file}' has the digest {found}, but dataset.digest={self.digest}; "
                f"set the new digest, or accept this file with dataset.verify=false, which is recorded in every row"
            )
        return Fingerprint(found == self.digest, found)

    def load(self, root: Path) -> Source:
        """See `DataSet.load`."""
        path = root / self.file
        tensors = _read(path)
        images, labels = tensors["images"], tensors["labels"].long()
        # uint8 stays as it is (a quarter of the memory) and is rescaled per batch; floats are taken to be scaled already.
        images = images if images.dtype == torch.uint8 else images.to(torch.float32)
        if tuple(images.shape[1:]) != tuple(self.shape):
            raise UserError(
                f"'{path}' contains images of shape {tuple(images.shape[1:])}, but dataset.shape={list(self.shape)}; "
                f"set dataset.shape={_compact(images.shape[1:])}"
            )
        if len(labels) == 0 or int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise UserError(
                f"'{path}' contains labels outside 0 to {self.num_classes - 1}, the range for dataset.num_classes={self.num_classes}; "
                f"set dataset.num_classes={int(labels.max()) + 1 if len(labels) else 2} or fix the labels"
            )
        split = tensors.get("split")
        # Without `split` every image is in both parts, so the test scores contain training images (see the class).
        train = torch.arange(len(labels)) if split is None else torch.nonzero(split == TRAIN).flatten()
        test = torch.arange(len(labels)) if split is None else torch.nonzero(split == TEST).flatten()
        # The plan was made from the options, so the file must agree with them.
        for name, part, expected in (("train", train, self.num_train), ("test", test, self.num_test)):
            if len(part) != expected:
                raise UserError(
                    f"'{path}' contains {len(part)} {name} images, but dataset.num_{name}={expected}; set dataset.num_{name}={len(part)}"
                )
        return Source(TensorPixels(images[train]), labels[train], TensorPixels(images[test]), labels[test])


def _read(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file. Pickled content is refused, so that no code of the file can run.

    Raises:
        UserError: the file is missing or of another format, or lacks images or labels.
    """
    try:
        if path.suffix == ".npz":
            # Pickled arrays could run code; safetensors cannot contain any.
            with np.load(path, allow_pickle=False) as arrays:
                tensors = {name: torch.from_numpy(arrays[name]) for name in ("images", "labels", "split") if name in arrays}
        else:
            tensors = load_file(path)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise UserError(
            f"'{path}' cannot be read as a file of tensors ({str(error).splitlines()[0]}); "
            f"set dataset.file to a .safetensors or .npz file below paths.data"
        ) from error
    # Checked before any use, because tensors of different lengths would pair images with the labels of others.
    lengths = {len(tensors[name]) for name in ("images", "labels", "split") if name in tensors}
    if not {"images", "labels"} <= tensors.keys() or len(lengths) != 1 or tensors["labels"].ndim != 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise UserError(f"'{path}' must contain images (N, ...), labels (N,) and at most split (N,), but it contains {shapes or 'nothing'}")
    return tensors


def _compact(shape: torch.Size) -> str:
    return str(list(shape)).replace(" ", "")

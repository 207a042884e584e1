"""CIFAR's batch files, read by an unpickler that is restricted to numeric arrays (`sap_core.data.unpickle`).

torchvision is not used for reading, so that machines that run a bundle of jobs do not need it; a test compares the two.

Shapes: N images of 3 x 32 x 32 pixels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sap_core.data.samples import TensorPixels
from sap_core.data.source import Fingerprint, Source
from sap_core.data.torchvision_files import Published, damaged, differs, fetch, is_published, missing, read_bytes
from sap_core.data.unpickle import ForbiddenGlobalError, load_arrays
from sap_core.errors import UserError


@dataclass(frozen=True)
class CifarSet:
    """A data set in CIFAR's format. Its published files include one with class names, which torchvision requires."""

    published: Published
    train: tuple[str, ...]
    test: str
    labels: str  # key of the labels in a batch file
    num_classes: int

    def inspect(self, root: Path, verify: bool, download: bool) -> Fingerprint:
        """See `DataSet.inspect`. With `download` missing files are downloaded first."""
        folder = root / self.published.folder
        # torchvision regards a set as present only if all published files are there, the class names included.
        if download and not all((folder / name).is_file() for name in self.published.md5):
            fetch(self.published, root)
        digest = hashlib.sha256()
        verified = True
        for name in self.published.md5:
            path = folder / name
            if not path.is_file():
                raise missing(self.published, root, path)
            data = read_bytes(self.published, path)
            verified = is_published(self.published, name, data) and verified
            if verify and not verified:
                raise differs(self.published, path)
            # Unpickled once at inspection, so that a damaged or foreign pickle is refused before any job runs.
            self._unpickled(path, data)
            digest.update(hashlib.sha256(data).digest())
        return Fingerprint(verified, digest.hexdigest())

    def load(self, root: Path, verify: bool, download: bool) -> Source:
        """Read the batches, with the checks of `inspect`: images (N, 3, 32, 32) uint8, labels (N,) int64."""
        self.inspect(root, verify, download)
        batches = [self._batch(root, name) for name in self.train]
        test_images, test_labels = self._batch(root, self.test)
        return Source(
            TensorPixels(torch.cat([images for images, _ in batches])),
            torch.cat([labels for _, labels in batches]),
            TensorPixels(test_images),
            test_labels,
        )

    def _unpickled(self, path: Path, data: bytes) -> Any:
        try:
            return load_arrays(data)
        except ValueError as error:
            raise damaged(self.published, path, error) from error
        except ForbiddenGlobalError as error:
            raise UserError(
                f"{self.published.name}: file '{path}' is a pickle that would run '{error}' when loaded, which the published file "
                f"does not; nothing was run; delete the file and download the set again with dataset.download=true"
            ) from error

    def _batch(self, root: Path, name: str) -> tuple[Tensor, Tensor]:
        """Read one file: a dict of rows with 3 x 32 x 32 bytes, channel by channel, and a list of labels."""
        path = root / self.published.folder / name
        batch = self._unpickled(path, read_bytes(self.published, path))
        try:
            # Flat, because a list that names one list many times would become a tensor of any size.
            if not isinstance(batch[self.labels], list) or not all(type(label) is int for label in batch[self.labels]):
                raise TypeError(f"{self.labels} is not a list of whole numbers")
            # Rows hold the red plane, then green, then blue, each row by row.
            images_NCHW, labels = np.asarray(batch["data"]).reshape(-1, 3, 32, 32), torch.tensor(batch[self.labels])
        except Exception as error:  # reshaping unexpected content may raise anything
            raise damaged(self.published, path, f"{type(error).__name__}: {error}") from error
        # With `verify=false` any file may come here, so its content is checked value by value.
        if images_NCHW.dtype != np.uint8 or labels.dtype != torch.int64 or len(images_NCHW) != len(labels) or len(labels) == 0:
            raise damaged(self.published, path, f"{len(images_NCHW)} images of type {images_NCHW.dtype} with {len(labels)} labels")
        if int(labels.min()) < 0 or int(labels.max()) >= self.num_classes:
            raise damaged(self.published, path, f"a label outside the classes 0 to {self.num_classes - 1}")
        return torch.from_numpy(np.ascontiguousarray(images_NCHW)), labels

"""IDX files of MNIST and Fashion-MNIST: four published `.gz` archives, decompressed in memory.

The archives may be in a read-only folder. A folder with only the extracted files is supported, too, but these have no published checksums,
so it needs `verify=false`. If a folder has both, the archives are read, because they can be verified.

Shapes: N images of H x W pixels.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sap_core.data.samples import TensorPixels
from sap_core.data.source import Fingerprint, Source
from sap_core.data.torchvision_files import Published, damaged, differs, fetch, is_published, missing, read_bytes

ARCHIVES = ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz")
UNSIGNED_BYTE = 8  # code of the element type in the IDX format


@dataclass(frozen=True)
class IdxSet:
    """A data set in MNIST's format."""

    published: Published
    num_classes: int
    side: int  # pixels

    def inspect(self, root: Path, verify: bool, download: bool) -> Fingerprint:
        """See `DataSet.inspect`. With `download` missing files are downloaded first. The digest is of the decompressed content."""
        return self._read(root, verify, download)[1]

    def load(self, root: Path, verify: bool, download: bool) -> Source:
        """Read the four files, with the checks of `inspect`: images (N, 1, H, W) uint8, labels (N,) int64."""
        train_NHW, train_labels, test_NHW, test_labels = self._read(root, verify, download)[0]
        return Source(
            TensorPixels(train_NHW.unsqueeze(1)),
            train_labels.to(torch.int64),
            TensorPixels(test_NHW.unsqueeze(1)),
            test_labels.to(torch.int64),
        )

    def _read(self, root: Path, verify: bool, download: bool) -> tuple[list[Tensor], Fingerprint]:
        # Downloads only what is absent: a folder that is complete may be read-only.
        if download and any(self._find(root, archive) is None for archive in ARCHIVES):
            fetch(self.published, root)
        arrays: list[Tensor] = []
        digest = hashlib.sha256()
        verified = True
        for archive in ARCHIVES:
            path = self._find(root, archive)
            if path is None:
                raise missing(self.published, root, root / self.published.folder / archive)
            data = read_bytes(self.published, path)
            # Extracted files have no published checksums; what they contain is in the digest all the same.
            if path.suffix != ".gz":
                verified = False
                reason = "only the .gz archives have published checksums"
            else:
                reason = "its MD5 is not the published one"
                # Every file is checked even after one has failed, because the digest needs them all if `verify` is off.
                verified = is_published(self.published, archive, data) and verified
            if verify and not verified:
                raise differs(self.published, path, reason)
            content = self._extract(path, data)
            # Of the content, so that archive and extracted file of one data set have one digest.
            digest.update(hashlib.sha256(content).digest())
            arrays.append(self._array(path, content, labels="labels" in archive))
            # Labels follow their images in `ARCHIVES`, so the last two arrays belong together.
            if "labels" in archive and len(arrays[-1]) != len(arrays[-2]):
                raise damaged(self.published, path, f"{len(arrays[-1])} labels for {len(arrays[-2])} images")
        return arrays, Fingerprint(verified, digest.hexdigest())

    def _find(self, root: Path, archive: str) -> Path | None:
        """Return the archive or the file extracted from it; None if neither exists."""
        path = root / self.published.folder / archive
        # The archive first, because only it can be verified.
        return next((candidate for candidate in (path, path.with_suffix("")) if candidate.is_file()), None)

    def _extract(self, path: Path, data: bytes) -> bytes:
        if path.suffix != ".gz":
            return data
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error, struct.error) as error:
            raise damaged(self.published, path, error) from error

    def _array(self, path: Path, content: bytes, labels: bool) -> Tensor:
        """Return uint8 labels (N,) or images (N, H, W). IDX format: two zeros, type, number of axes, big-endian sizes, values."""
        axes = 1 if labels else 3
        start = 4 + 4 * axes
        if len(content) < start or content[:4] != bytes((0, 0, UNSIGNED_BYTE, axes)):
            raise damaged(self.published, path, f"not an IDX file of bytes with {axes} axes")
        # Big-endian unsigned integers, as the format prescribes.
        shape = struct.unpack(f">{axes}I", content[4:start])
        if math.prod(shape) != len(content) - start or shape[0] == 0:
            raise damaged(self.published, path, f"its header has shape {shape}, but {len(content) - start} values follow")
        # A bytearray, because torch warns about buffers that cannot be written to; `bytes` would be shared and must not change.
        values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start).reshape(shape)
        if labels and int(values.max()) >= self.num_classes:
            raise damaged(self.published, path, f"label {int(values.max())} but the classes are 0 to {self.num_classes - 1}")
        if not labels and shape[1:] != (self.side, self.side):
            raise damaged(self.published, path, f"images of {shape[1]} x {shape[2]} pixels instead of {self.side} x {self.side}")
        return values

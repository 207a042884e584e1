"""Image files that are decoded batch by batch: decoding, digests, and the detection of damaged files.

Shapes: B images of C channels and S x S pixels, N files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sap_core.data.source import Fingerprint
from sap_core.errors import UserError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})

Check = Literal["content", "size"]
"""Check of files before a run: read and decode each file, or compare name and size only (for data sets that take hours to read)."""


@dataclass(frozen=True)
class FilePixels:
    """Images on disk, decoded when they are read and resized to a square; the aspect ratio is not kept."""

    paths: tuple[Path, ...]
    size: int
    channels: Literal[1, 3]

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> Tensor:
        """Return images (B, C, S, S) uint8 on the CPU.

        Raises:
            UserError: a file is damaged.
        """
        return torch.stack([self._decode(self.paths[position]) for position in index.tolist()])

    def _decode(self, path: Path) -> Tensor:
        from PIL import Image

        try:
            with Image.open(path) as file:
                image = file.convert("L" if self.channels == 1 else "RGB")
                if image.size != (self.size, self.size):
                    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                pixels_SSC = np.array(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"image file '{path}' is damaged or not an image ({error}); replace or delete it") from error
        return torch.from_numpy(pixels_SSC).permute(2, 0, 1)


def fingerprint(files: Sequence[Path], base: Path, check: Check, wanted: str, verify: bool, extra: bytes = b"") -> Fingerprint:
    """Compute the digest of files below `base`.

    Args:
        files: the files, in order.
        base: folder of the data set.
        check: digest of names and contents, or of names and sizes.
        wanted: the expected digest, or "".
        verify: refuse another digest than `wanted`.
        extra: further content that the digest depends on.

    Raises:
        UserError: files cannot be read or are not images (their number and the first ones), or `verify` is true and the digest differs.
    """
    digest = hashlib.sha256()
    bad: list[str] = []
    checker = _content if check == "content" else _size
    with ThreadPoolExecutor() as pool:  # decoding releases the interpreter lock
        for path, (found, problem) in zip(files, _in_order(pool, checker, files), strict=True):
            digest.update(path.relative_to(base).as_posix().encode() + b"\0")
            digest.update(found)
            if problem:
                bad.append(f"'{path}' ({problem})")
    if bad:
        shown = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(f"{len(bad)} of {len(files)} image files below '{base}' are damaged or not images: {shown}; replace or delete them")
    if extra:
        digest.update(extra)
    found_digest = digest.hexdigest()
    if verify and found_digest != wanted:
        raise UserError(
            f"folder '{base}' has the digest {found_digest}, but dataset.digest={wanted}; "
            f"set the new digest, or accept this copy with dataset.verify=false, which is recorded in every row"
        )
    return Fingerprint(found_digest == wanted, found_digest)


def _in_order(pool: ThreadPoolExecutor, checker: Callable[[Path], tuple[bytes, str]], files: Sequence[Path]) -> Iterator[tuple[bytes, str]]:
    """Apply `checker` to the files in order, at most 512 ahead, so that millions of results are never in memory."""
    remaining = iter(files)
    while chunk := list(islice(remaining, 512)):
        yield from pool.map(checker, chunk)


def _content(path: Path) -> tuple[bytes, str]:
    """Return (bytes for the digest, the problem with the file or "")."""
    from PIL import Image

    try:
        data = path.read_bytes()
    except OSError as error:
        return b"", error.strerror or "cannot be read"
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return b"", str(error).partition(" <")[0]
    return hashlib.sha256(data).digest(), ""


def _size(path: Path) -> tuple[bytes, str]:
    try:
        size = path.stat().st_size
    except OSError as error:
        return b"", error.strerror or "cannot be read"
    return size.to_bytes(8, "big"), "" if size else "empty"

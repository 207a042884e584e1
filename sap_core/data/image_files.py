"""Images on disk that are never whole in memory: decoding, fingerprints, and what is wrong with them, counted.

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
"""How files are looked at before a run: read and decoded, or by name and size alone (for sets whose reading takes hours)."""


@dataclass(frozen=True)
class FilePixels:
    """Images on disk, decoded when asked for and resized to a square (the aspect is not kept)."""

    paths: tuple[Path, ...]
    size: int
    channels: Literal[1, 3]

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> Tensor:
        """(B, C, S, S) uint8 on the CPU.

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
            raise UserError(f"image file '{path}' is damaged or no image ({error}); replace or delete it") from error
        return torch.from_numpy(pixels_SSC).permute(2, 0, 1)


def fingerprint(files: Sequence[Path], base: Path, check: Check, wanted: str, verify: bool, extra: bytes = b"") -> Fingerprint:
    """The fingerprint of files below `base`: of names and contents, or of names and sizes; `extra` is counted in.

    Raises:
        UserError: files cannot be read or are no images (how many, and the first ones); `verify`, and it is not the `wanted` one.
    """
    digest = hashlib.sha256()
    bad: list[str] = []
    look = _content if check == "content" else _size
    with ThreadPoolExecutor() as pool:  # decoding leaves the interpreter free
        for path, (found, why) in zip(files, _in_order(pool, look, files), strict=True):
            digest.update(path.relative_to(base).as_posix().encode() + b"\0")
            digest.update(found)
            if why:
                bad.append(f"'{path}' ({why})")
    if bad:
        shown = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(f"{len(bad)} of {len(files)} image files below '{base}' are damaged or no images: {shown}; replace or delete them")
    if extra:
        digest.update(extra)
    made = digest.hexdigest()
    if verify and made != wanted:
        raise UserError(
            f"folder '{base}' has the fingerprint {made} where dataset.digest={wanted} is asked for; "
            f"give the new one, or accept this copy with dataset.verify=false, which is recorded in every row"
        )
    return Fingerprint(made == wanted, made)


def _in_order(pool: ThreadPoolExecutor, look: Callable[[Path], tuple[bytes, str]], files: Sequence[Path]) -> Iterator[tuple[bytes, str]]:
    """`look` at every file, a few hundred ahead, so that millions of results never wait in memory."""
    waiting = iter(files)
    while chunk := list(islice(waiting, 512)):
        yield from pool.map(look, chunk)


def _content(path: Path) -> tuple[bytes, str]:
    """(what the digest takes in, what is wrong with the file)."""
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

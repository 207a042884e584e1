"""Image files that are decoded batch by batch: decoding, digests, and the detection of damaged files.

Shapes: B images of C channels and S x S pixels, N files.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sap_core.data.image_modes import CHECKED, Decoding, ImageFacts, ImageFormatError, notes, to_pixels
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
    decoding: Decoding = CHECKED

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, index: Tensor) -> Tensor:
        """Return images (B, C, S, S) uint8 on the CPU.

        Raises:
            UserError: a file is damaged, or of a format that `decoding` does not allow.
        """
        return torch.stack([self._decode(self.paths[position]) for position in index.tolist()])

    def _decode(self, path: Path) -> Tensor:
        # Pillow is imported where a file is decoded, so that sets in memory do not need it.
        from PIL import Image

        try:
            with Image.open(path) as file:
                # Palettes, alpha and CMYK become grey or RGB, so that a batch has one number of channels.
                image, _ = to_pixels(file, self.channels, self.decoding)
                if image.size != (self.size, self.size):
                    # Squashed to a square, as in the test transform of SAP's released code. An image of the right size is not resampled.
                    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                pixels_SSC = np.array(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        except ImageFormatError as error:
            raise UserError(f"image file '{path}' cannot be used as it is: {error}") from error
        except MemoryError:
            raise
        # Pillow's decoders raise errors of almost any type for damaged files (SyntaxError, EOFError, struct.error, KeyError).
        except Exception as error:
            raise UserError(f"image file '{path}' is damaged or not an image ({_reason(error)}); replace or delete it") from error
        return torch.from_numpy(pixels_SSC).permute(2, 0, 1)


def fingerprint(
    files: Sequence[Path],
    base: Path,
    check: Check,
    wanted: str,
    verify: bool,
    extra: bytes = b"",
    channels: Literal[1, 3] = 3,
    decoding: Decoding = CHECKED,
) -> Fingerprint:
    """Compute the digest of files below `base`.

    Args:
        files: the files, in order.
        base: folder of the data set.
        check: digest of names and contents, or of names and sizes.
        wanted: the expected digest, or "".
        verify: refuse another digest than `wanted`.
        extra: further content that the digest depends on.
        channels: of the decoded images.
        decoding: how files are decoded; files that it does not allow are refused if they are read.

    Raises:
        UserError: files cannot be read, are not images or cannot be used as they are (their number and the first ones), or `verify` is
            true and the digest differs.
    """
    digest = hashlib.sha256()
    bad: list[str] = []
    unusable: list[str] = []
    facts: list[ImageFacts] = []
    # Reading and decoding every file of a large set takes hours, so sizes alone are an option.
    checker = partial(_content, channels=channels, decoding=decoding) if check == "content" else _size
    # Decoding releases the interpreter lock, so threads suffice.
    with ThreadPoolExecutor() as pool:
        for path, (found, problem) in zip(files, _in_order(pool, checker, files), strict=True):
            # Names count, because they decide order and class; relative and with "/", so that the digest is the same on every machine.
            # The zero byte ends the name.
            digest.update(path.relative_to(base).as_posix().encode() + b"\0")
            digest.update(found)
            if isinstance(problem, ImageFacts):
                facts.append(problem)
            elif isinstance(problem, ImageFormatError):
                unusable.append(f"'{path}': {problem}")
            elif problem:
                bad.append(f"'{path}' ({problem})")
    # After all files were read, so that one attempt shows all the damaged ones.
    if bad:
        shown = ", ".join(bad[:3]) + (", ..." if len(bad) > 3 else "")
        raise UserError(f"{len(bad)} of {len(files)} image files below '{base}' are damaged or not images: {shown}; replace or delete them")
    # Intact files, so that deleting or replacing them would be the wrong advice.
    if unusable:
        raise UserError(
            f"{len(unusable)} of {len(files)} image files below '{base}' cannot be used as they are, the first is {unusable[0]}"
        )
    if extra:
        digest.update(extra)
    found_digest = digest.hexdigest()
    if verify and found_digest != wanted:
        raise UserError(
            f"folder '{base}' has the digest {found_digest}, but dataset.digest={wanted}; "
            f"set the new digest, or accept this copy with dataset.verify=false, which is recorded in every row"
        )
    # Without `verify` another copy is allowed, but every row says so (`dataset_verified`).
    return Fingerprint(found_digest == wanted, found_digest, notes(facts, channels, decoding))


Checked = tuple[bytes, "str | ImageFacts | ImageFormatError"]
"""Bytes for the digest, and what was found: the problem with the file, "" (not decoded), or facts about the decoded image."""


def _in_order(pool: ThreadPoolExecutor, checker: Callable[[Path], Checked], files: Sequence[Path]) -> Iterator[Checked]:
    """Apply `checker` to the files in order, at most 512 ahead, so that millions of results are never in memory."""
    remaining = iter(files)
    # `pool.map` alone would submit every file at once.
    while chunk := list(islice(remaining, 512)):
        yield from pool.map(checker, chunk)


def _content(path: Path, channels: Literal[1, 3], decoding: Decoding) -> Checked:
    from PIL import Image

    try:
        data = path.read_bytes()
    except OSError as error:
        return b"", error.strerror or "cannot be read"
    try:
        with Image.open(io.BytesIO(data)) as image:
            # `open` reads the header only; a truncated file shows when its pixels are decoded.
            _, facts = to_pixels(image, channels, decoding)
    except ImageFormatError as error:
        return b"", error
    except MemoryError:
        raise
    except Exception as error:
        return b"", _reason(error)
    return hashlib.sha256(data).digest(), facts


def _reason(error: Exception) -> str:
    """Return why a file cannot be decoded; never ""."""
    # Without the address of the buffer in " <_io.BytesIO object at ...>".
    text = str(error).partition(" <")[0]
    return text or type(error).__name__


def _size(path: Path) -> Checked:
    try:
        size = path.stat().st_size
    except OSError as error:
        return b"", error.strerror or "cannot be read"
    # Eight bytes, so that neighbouring sizes cannot run into each other in the digest.
    return size.to_bytes(8, "big"), "" if size else "empty"

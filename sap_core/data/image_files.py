"""Image files that are decoded batch by batch: decoding, digests, and the detection of damaged files and of equal contents.

Shapes: B images of C channels and S x S pixels, N files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sap_core.data.duplicates import pixel_digest
from sap_core.data.image_modes import CHECKED, Decoding, ImageFacts, ImageFormatError, notes, to_pixels
from sap_core.data.names import first_names, printable
from sap_core.data.open_image import open_image
from sap_core.data.source import Fingerprint
from sap_core.data.unread_formats import HEAD, unread_format
from sap_core.errors import UserError
from sap_core.regular_files import check_regular, read_regular

Check = Literal["content", "size"]
"""Check of files before a run: read and decode each file, or compare name and size only (for data sets that take hours to read)."""


MAX_BYTES = 1 << 30
"""Largest image file that is read."""


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
        from PIL import Image, UnidentifiedImageError

        try:
            with open_image(path) as file:
                # Palettes, alpha and CMYK become grey or RGB, so that a batch has one number of channels.
                image, _ = to_pixels(file, self.channels, self.decoding)
                if image.size != (self.size, self.size):
                    # Squashed to a square, as in the test transform of SAP's released code. An image of the right size is not resampled.
                    image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
                pixels_SSC = np.array(image, dtype=np.uint8).reshape(self.size, self.size, self.channels)
        except ImageFormatError as error:
            raise UserError(f"image file '{printable(path)}' cannot be used as it is: {error}") from error
        except MemoryError:
            raise
        except UnidentifiedImageError as error:
            with path.open("rb") as file:
                unread = unread_format(file.read(HEAD))
            if unread:
                raise UserError(f"image file '{printable(path)}' cannot be used as it is: {unread}") from error
            raise _damaged(path, error) from error
        # Pillow's decoders raise errors of almost any type for damaged files (SyntaxError, EOFError, struct.error, KeyError).
        except Exception as error:
            raise _damaged(path, error) from error
        return torch.from_numpy(pixels_SSC).permute(2, 0, 1)


@dataclass(frozen=True)
class Examined:
    """Result of reading files.

    Attributes:
        marks: what the digest of the data set contains of each file: the SHA-256 of its bytes, or its size.
        contents: digest of the decoded pixels of each file (see `pixel_digest`); None if files were not decoded.
        notes: sentences about the decoded images.
    """

    marks: list[bytes]
    contents: list[bytes] | None
    notes: tuple[str, ...] = ()


def examine(
    files: Sequence[Path], base: Path, check: Check, channels: Literal[1, 3] = 3, decoding: Decoding = CHECKED
) -> Examined:  # fmt: skip
    """Read files, or look up their sizes.

    Args:
        files: the files, in order.
        base: folder of the data set, for messages.
        check: read and decode every file, or compare sizes.
        channels: of the decoded images.
        decoding: how files are decoded; files that it does not allow are refused if they are read.

    Raises:
        UserError: files cannot be read, are not images, or cannot be used as they are: their number, and the first ten.
    """
    read = list(_read_all(files, check, channels, decoding))
    # After all files were read, so that one attempt shows all the damaged ones.
    bad = [(path, file.found) for path, file in zip(files, read, strict=True) if isinstance(file.found, str) and file.found]
    if bad:
        raise UserError(
            f"{len(bad)} of {len(files)} image files below '{printable(base)}' are damaged or not images: {named_problems(bad)}; "
            f"replace or delete them"
        )
    # Intact files, so that deleting or replacing them would be the wrong advice.
    unusable = [(path, file.found) for path, file in zip(files, read, strict=True) if isinstance(file.found, ImageFormatError)]
    if unusable:
        path, error = unusable[0]
        raise UserError(
            f"{len(unusable)} of {len(files)} image files below '{printable(base)}' cannot be used as they are, the first is "
            f"'{printable(path)}': {error}"
        )
    if check != "content":
        return Examined([file.mark for file in read], None)
    facts = [file.found for file in read if isinstance(file.found, ImageFacts)]
    return Examined([file.mark for file in read], [file.content for file in read], notes(facts, channels, decoding))


def damaged(files: Sequence[Path], check: Check) -> list[tuple[Path, str]]:
    """Return the files that cannot be read or are not images, each with the reason."""
    read = zip(files, _read_all(files, check, 3, CHECKED), strict=True)
    return [(path, file.found) for path, file in read if isinstance(file.found, str) and file.found]


def named_problems(bad: Sequence[tuple[Path, str]]) -> str:
    """Return the first ten files with their problems, and the number of the others."""
    return first_names([f"'{path}' ({problem})" for path, problem in bad])


def fingerprint(files: Sequence[Path], base: Path, marks: Sequence[bytes], wanted: str, verify: bool, extra: bytes = b"") -> Fingerprint:
    """Compute the digest of files below `base`.

    Args:
        files: the files, in order.
        base: folder of the data set.
        marks: what the digest contains of each file (see `Examined`).
        wanted: the expected digest, or "".
        verify: refuse another digest than `wanted`.
        extra: further content that the digest depends on.

    Raises:
        UserError: `verify` is true and the digest differs.
    """
    digest = hashlib.sha256()
    for path, mark in zip(files, marks, strict=True):
        # Names count, because they decide order and class; relative and with "/", so that the digest is the same on every machine. A file
        # elsewhere has no such name. The zero byte ends the name.
        name = path.relative_to(base) if path.is_relative_to(base) else path
        digest.update(name.as_posix().encode("utf-8", "surrogateescape") + b"\0")
        digest.update(mark)
    if extra:
        digest.update(extra)
    found_digest = digest.hexdigest()
    if verify and found_digest != wanted:
        raise UserError(
            f"folder '{base}' has the digest {found_digest}, but dataset.digest={wanted}; "
            f"set the new digest, or accept this copy with dataset.verify=false, which is recorded in every row"
        )
    # Without `verify` another copy is allowed, but every row says so (`dataset_verified`).
    return Fingerprint(found_digest == wanted, found_digest)


class _Read(NamedTuple):
    """One file: its mark and content (see `Examined`), and the problem with it, "" (not decoded), or facts about the decoded image."""

    mark: bytes
    content: bytes
    found: str | ImageFacts | ImageFormatError


def _read_all(files: Sequence[Path], check: Check, channels: Literal[1, 3], decoding: Decoding) -> Iterator[_Read]:
    # Reading and decoding every file of a large set takes hours, so sizes alone are an option.
    checker = partial(_content, channels=channels, decoding=decoding) if check == "content" else _size
    # Decoding releases the interpreter lock, so threads suffice.
    with ThreadPoolExecutor() as pool:
        yield from _in_order(pool, checker, files)


def _in_order(pool: ThreadPoolExecutor, checker: Callable[[Path], _Read], files: Sequence[Path]) -> Iterator[_Read]:
    """Apply `checker` to the files in order, at most 512 ahead, so that millions of files are never in memory."""
    remaining = iter(files)
    # `pool.map` alone would submit every file at once.
    while chunk := list(islice(remaining, 512)):
        yield from pool.map(checker, chunk)


def _content(path: Path, channels: Literal[1, 3], decoding: Decoding) -> _Read:
    from PIL import UnidentifiedImageError

    try:
        # Before it is read: a sparse file takes no space on the disk and any amount of memory.
        if path.stat().st_size > MAX_BYTES:
            return _Read(b"", b"", f"larger than {MAX_BYTES >> 20} MiB, and nothing of it was read")
        data = read_regular(path)
    except OSError as error:
        return _Read(b"", b"", _unreadable(path, error))
    if not data:
        return _Read(b"", b"", "empty")
    try:
        with open_image(path, data) as image:
            # `open` reads the header only; a truncated file shows when its pixels are decoded.
            decoded, facts = to_pixels(image, channels, decoding)
            # RGB in any case, so that a grey file and a colour file of the same picture are equal.
            pixels = decoded.convert("RGB")
    except ImageFormatError as error:
        return _Read(b"", b"", error)
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        unread = unread_format(data[:HEAD])
        return _Read(b"", b"", ImageFormatError(unread) if unread else _reason(error))
    except Exception as error:
        return _Read(b"", b"", _reason(error))
    return _Read(hashlib.sha256(data).digest(), pixel_digest(pixels.size, pixels.tobytes()), facts)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"image file '{printable(path)}' is damaged or not an image ({_reason(error)}); replace or delete it")


def _reason(error: Exception) -> str:
    """Return why a file cannot be decoded; never ""."""
    # Pillow's class is not imported for it; its message is of an attack, and the file may be a large scan.
    if type(error).__name__ == "DecompressionBombError":
        found = re.search(r"\((\d+) pixels\) exceeds limit of (\d+)", str(error))
        pixels = f"{int(found[1]):,} pixels, and at most {int(found[2]):,} are" if found else "more pixels than are"
        return f"it has {pixels} decoded; scale it down if it is yours"
    # Without the address of the buffer in " <_io.BytesIO object at ...>".
    text = str(error).partition(" <")[0]
    return text or type(error).__name__


def _size(path: Path) -> _Read:
    try:
        check_regular(path)
        size = path.stat().st_size
    except OSError as error:
        return _Read(b"", b"", _unreadable(path, error))
    # Eight bytes, so that neighbouring sizes cannot run into each other in the digest.
    return _Read(size.to_bytes(8, "big"), b"", "" if size else "empty")


def _unreadable(path: Path, error: OSError) -> str:
    reason = error.strerror or "cannot be read"
    return f"a link to a missing file: {reason}" if path.is_symlink() and not path.exists() else reason

"""Checksums within files: a file of a store contains a BLAKE2b digest of all its bytes. Standard library only.

The digest (128 bits, 32 hexadecimal digits) is that of the file with zeros in the place of the digest itself. A digest inside the file
needs no second file, so that writing stays one atomic rename, and copies, moves and merges of stores cannot separate the two. Its place
depends on the format, and every format remains readable by other programs:

    .json          the first member, "blake2b", in the line of the opening brace
    .jsonl         the first line, or the first member of the first line (bundles), "blake2b"; a last line says that there is one
    .yaml          the first line, a comment; a last line says that there is one
    .safetensors   the first member of the text `plain` in the header's metadata
    .parquet       between the last page and the footer, where readers of Parquet do not look; followed by a digest of the footer alone,
                   which is verified where only the footer is read

The digest of a Parquet file of one job also covers its name up to the first dot, the id of the job: a file under another job's name is
noticed.

A file that was written before there were checksums has none (`Checksum.ABSENT`). To tell it from a file whose mark is damaged, the mark is
recognised by most of its characters, or by the digest's form. So that no damage in one place removes it, a file that is still readable
without its first lines has a mark at its other end, too (`ENDS`). JSON without its first line is no JSON, and a header without its mark is
no header.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sap_core.regular_files import open_regular

MERGED = "merged-"
"""Prefix of the names of Parquet files that contain several jobs."""

DIGITS = 32
"""Length of a digest in hexadecimal digits."""

ZEROS = "0" * DIGITS
"""The digest's place in a file that `seal` has not completed yet."""

_PARQUET_MAGIC = b"PAR1"
_PARQUET_END = 8  # bytes: the footer's length and the magic number
_PARQUET_MARK = b"\0sap-sweep blake2b "
PARQUET_BEGINNING = _PARQUET_MARK
"""To be written after the first four bytes of a Parquet file: with a mark at both ends of the pages, no damage in one place hides both."""

PARQUET_TRAILER = _PARQUET_MARK + ZEROS.encode() + b" " + ZEROS.encode() + b"\n"
"""To be written before the footer of a Parquet file that `seal` then completes."""


ENDS = {".jsonl": b'{"blake2b": "in the first line"}\n', ".yaml": b"# blake2b: in the first line\n"}
"""Last lines of text files that `seal` completes: of lines of jobs and of YAML, a file that lost its first lines would be another file."""


class Checksum(StrEnum):
    """The result of comparing a file with its checksum."""

    INTACT = "intact"
    DAMAGED = "damaged"
    ABSENT = "without checksum"


class _Place(NamedTuple):
    """Where a format has its digest: `mark` ends where the digest begins."""

    offset: int  # of the mark
    mark: bytes


_FIXED = {
    ".json": _Place(0, b'{"blake2b": "'),
    ".jsonl": _Place(0, b'{"blake2b": "'),
    ".yaml": _Place(0, b"# blake2b: "),
    ".safetensors": _Place(8 + len(b'{"__metadata__":{"plain":"'), rb"{\"blake2b\": \""),
}
"""Formats whose digest is at a fixed offset. A safetensors file begins with the length of its header, in 8 bytes."""

_JSON_OWN_LINE = _Place(len(b"{\n "), b'"blake2b": "')
"""The place in JSON files of earlier versions, which is read only."""

_CHUNK = 1 << 20
_TAIL = 4096
"""Bytes at the end of a text file in which the last mark is looked for."""

_SLACK = 16
"""Bytes before and after its place in which a mark is looked for, because a few bytes may have been inserted or lost."""


def checksum(path: Path, suffix: str | None = None) -> Checksum:
    """Compare a file with its checksum. A file of a format that has none is `ABSENT`; an empty file is `DAMAGED`.

    Args:
        path: the file.
        suffix: its format, where that does not follow from the path.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        return _compare(file, path, suffix or path.suffix)


def checksum_of(data: bytes, path: Path, suffix: str | None = None) -> Checksum:
    """As `checksum`, for the content of the file `path` that has been read already."""
    return _compare(io.BytesIO(data), path, suffix or path.suffix)


def is_intact(path: Path) -> bool:
    """Whether a file exists and its checksum, if it has one, is right. The answer is kept until size, time or inode change."""
    with suppress(OSError):
        stat = path.stat()
        return _is_intact(path, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return False


def stored_digest(path: Path) -> str | None:
    """The digest that a file contains, without comparing it; None if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        place = _place(file, path.suffix)
        if place is None or _read(file, place.offset, len(place.mark)) != place.mark:
            return None
        return _read(file, place.offset + len(place.mark), DIGITS).decode(errors="replace")


def footer_is_intact(path: Path) -> bool:
    """Whether the footer of a Parquet file agrees with the digest of the footer. True without a checksum.

    Raises:
        OSError: the file cannot be read.
    """
    with open_regular(path) as file:
        place = _place(file, ".parquet")
        if place is None:
            return False
        if not _has_mark(file, place):
            return True
        trailer = _read(file, place.offset, len(PARQUET_TRAILER))
        return trailer.startswith(_PARQUET_MARK) and trailer[-DIGITS - 1 : -1] == _footer_digest(file, place)


def seal(path: Path, target: Path, suffix: str | None = None) -> None:
    """Complete a file that has zeros in the place of its digest; `target` is the name that it will get, `suffix` its format.

    Raises:
        OSError: the file cannot be written.
        ValueError: the file has no place for a digest.
    """
    with path.open("r+b") as file:
        suffix = suffix or target.suffix
        place = _place(file, suffix)
        if place is None or _read(file, place.offset, len(place.mark)) != place.mark:
            raise ValueError(f"{target} has no place for a checksum")
        if suffix == ".parquet":
            # Before the digest of the whole file, which covers this one.
            footer = _footer_digest(file, place)
            file.seek(place.offset + len(PARQUET_TRAILER) - DIGITS - 1)
            file.write(footer)
        digest = _digest(file, place, _bound_name(target, suffix))
        file.seek(place.offset + len(place.mark))
        file.write(digest)


@lru_cache(maxsize=65536)
def _is_intact(path: Path, *_: int) -> bool:  # inode, size and times are part of the cache key only
    try:
        return checksum(path) is not Checksum.DAMAGED
    except OSError:
        return False


def _compare(file: BinaryIO, path: Path, suffix: str) -> Checksum:
    if not file.seek(0, os.SEEK_END):
        return Checksum.DAMAGED
    place = _place(file, suffix)
    if place is None:
        # A Parquet file without its ends was cut or overwritten; other formats without a place have no checksum.
        return Checksum.DAMAGED if suffix == ".parquet" else Checksum.ABSENT
    if not _has_mark(file, place) and not _has_end(file, suffix):
        return Checksum.ABSENT
    stored = _read(file, place.offset + len(place.mark), DIGITS)
    return Checksum.INTACT if stored == _digest(file, place, _bound_name(path, suffix)) else Checksum.DAMAGED


def _place(file: BinaryIO, suffix: str) -> _Place | None:
    """Where a file has its digest; None for a format without one, and for a Parquet file without its first or last bytes."""
    if suffix == ".json" and _read(file, 0, 3) == b"{\n ":
        return _JSON_OWN_LINE
    if suffix != ".parquet":
        return _FIXED.get(suffix)
    size = file.seek(0, os.SEEK_END)
    if size < 2 * _PARQUET_END or _read(file, 0, 4) != _PARQUET_MAGIC:
        return None
    end = _read(file, size - _PARQUET_END, _PARQUET_END)
    footer = size - _PARQUET_END - int.from_bytes(end[:4], "little")
    return _Place(max(0, footer - len(PARQUET_TRAILER)), _PARQUET_MARK) if end[4:] == _PARQUET_MAGIC and footer > 0 else None


def _has_mark(file: BinaryIO, place: _Place) -> bool:
    """Whether there is a mark, even if it is damaged."""
    start = max(0, place.offset - _SLACK)
    around = _read(file, start, 2 * _SLACK + len(place.mark) + DIGITS)
    found = around[place.offset - start :]
    equal = sum(one == other for one, other in zip(found, place.mark, strict=False))
    # Two thirds of the characters, the mark without its ends nearby, or a digest nearby: a fault in one place leaves one of them.
    if 3 * equal >= 2 * len(place.mark) or place.mark[1:-1] in around or _LONE_DIGEST.search(around) is not None:
        return True
    # The place in a Parquet file follows from the length of the footer, which may itself be damaged; and there is a second mark.
    file.seek(0)
    return place.mark == _PARQUET_MARK and _PARQUET_MARK[1:-1] in file.read()


def _has_end(file: BinaryIO, suffix: str) -> bool:
    """Whether the last lines of a text file say that it has a checksum."""
    if (end := ENDS.get(suffix)) is None:
        return False
    size = file.seek(0, os.SEEK_END)
    # Without its own ends, which may be damaged as well, and anywhere near the end, because something may have been appended.
    return end[1:-3] in _read(file, max(0, size - len(end) - _TAIL), len(end) + _TAIL)


_LONE_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{%d}(?![0-9a-f])" % DIGITS)


def _bound_name(path: Path, suffix: str) -> bytes:
    """What the digest covers in addition to the file: of a Parquet file, the part of its name that is the id of its job."""
    # A merged file is not one job's, and lists its jobs itself.
    if suffix != ".parquet" or path.name.startswith(MERGED):
        return b""
    return os.fsencode(path.name.partition(".")[0]) + b"\0"


def _digest(file: BinaryIO, place: _Place, name: bytes) -> bytes:
    digest = hashlib.blake2b(name, digest_size=DIGITS // 2)
    start = place.offset + len(place.mark)
    file.seek(0)
    digest.update(file.read(start))
    digest.update(ZEROS.encode())
    file.seek(start + DIGITS)
    # In parts, because a checkpoint may be larger than the memory that is free.
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest().encode()


def _footer_digest(file: BinaryIO, place: _Place) -> bytes:
    file.seek(place.offset + len(PARQUET_TRAILER))
    return hashlib.blake2b(file.read(), digest_size=DIGITS // 2).hexdigest().encode()


def _read(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)

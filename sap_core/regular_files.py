"""Opening of files that may come from elsewhere: a pipe would wait for its writer, and a device would not end. Standard library only."""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import BinaryIO


class IrregularFileError(OSError):
    """A folder, a pipe, a socket or a device in the place of a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "it is no regular file", str(path))

    def __str__(self) -> str:
        return str(self.strerror)


def check_regular(path: Path) -> None:
    """Check that a path is a regular file. Links are followed.

    Raises:
        IrregularFileError: it is no regular file.
        OSError: it does not exist.
    """
    # Before it is opened, because opening a pipe waits.
    if not stat.S_ISREG(path.stat().st_mode):
        raise IrregularFileError(path)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading bytes; see `check_regular`."""
    check_regular(path)
    return path.open("rb")


def read_regular(path: Path) -> bytes:
    """The bytes of a file; see `open_regular`."""
    with open_regular(path) as file:
        return file.read()

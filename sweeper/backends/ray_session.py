"""The folder of a Ray that was started here, and what killed sweeps have left of theirs. Knows no Ray.

The driver holds a lock on a file in its folder as long as it lives, however it ends; so whoever gets that lock knows that the owner is
gone, across containers, too, where process numbers would say nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = "sap-ray-"
_OWNER = ".owner"


@contextmanager
def session_folder(parent: Path) -> Iterator[Path]:
    """A folder of its own below `parent`, locked, and removed at the end."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        handle = os.open(folder / f"{_OWNER}.new", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            (folder / f"{_OWNER}.new").rename(folder / _OWNER)  # it has this name only while it is locked
            yield folder
        finally:
            os.close(handle)


def remove_stale(parent: Path) -> None:
    """Removes such folders of this user whose owner has ended. Those that cannot be judged (no such file, no right to look) stay."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)

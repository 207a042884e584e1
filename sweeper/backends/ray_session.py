"""The session folder of a local Ray, and removal of the folders that killed sweeps left behind. Imports no Ray.

A driver locks a file in its folder for its lifetime, and the kernel releases the lock however the process ends. Whoever acquires the lock
therefore knows that the owner has ended, even across containers, where process numbers would be ambiguous.
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
    """A new, locked folder below `parent`, which is removed at the end."""
    # Errors of the cleanup are ignored: Ray's agents may still write to the folder, and the next start removes what is left.
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=parent, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # Mode 0600: nobody else may open the file and hold its lock.
        handle = os.open(folder / f"{_OWNER}.new", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # A file system without locks: the folder keeps its preliminary name, and no later start removes it.
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
                # Renamed after locking: an unlocked `_OWNER` always means a dead owner.
                (folder / f"{_OWNER}.new").rename(folder / _OWNER)
            yield folder
        finally:
            os.close(handle)


def remove_stale(parent: Path) -> None:
    """Removes this user's session folders whose owner has ended. Folders without the file or without permission to open it are kept."""
    for folder in parent.glob(f"{_PREFIX}*"):
        # A folder that cannot be opened or locked belongs to a live or an unknown owner and is left alone.
        with suppress(OSError):
            # /tmp is shared: a symbolic link or another user's folder must not be followed or removed.
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW)
            try:
                # Without waiting: a live owner holds the lock for hours.
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)

"""Files that are there whole or not at all. Standard library only."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sap_core.errors import StorageError


@contextmanager
def storing(place: Path) -> Iterator[None]:
    """For code that writes to `place`.

    Raises:
        StorageError: the disk refused.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {place} ({error.strerror or error}); everything finished before is stored: free that place or choose another, "
            f"and start the same command again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` (dot, host, process and thread in it); renamed to `path` when the block ends well, removed otherwise.

    Raises:
        StorageError: the disk refused.
    """
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.tmp")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            with suppress(OSError):
                temporary.unlink()


def save_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text)


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes a JSON file whole or not at all."""
    save_text(path, json.dumps(value, indent=1, sort_keys=True) + "\n")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

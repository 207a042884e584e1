"""Atomic writing of files: a file is complete or absent; and text files with checksums. Standard library only."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sap_core.checksum import ENDS, ZEROS, Checksum, checksum_of, seal
from sap_core.errors import StorageError, UserError, WrongPath
from sap_core.regular_files import read_regular

_SYSTEM = frozenset({
    errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE,
    errno.EFBIG, errno.ETIMEDOUT, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EBADMSG, errno.EHOSTDOWN, errno.EHOSTUNREACH,
    # Of Linux: a device of the network, and a damaged file system.
    *(getattr(errno, name) for name in ("EREMOTEIO", "EUCLEAN") if hasattr(errno, name)),
})  # fmt: skip


def is_system_error(error: OSError) -> bool:
    """Whether the machine refused something: a full or failing disk, permissions, limits. Such an error is no mistake of a program."""
    return error.errno in _SYSTEM


_WRONG_PATH = frozenset({errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""Error numbers of a path that cannot be a file: a mistake of whoever named it, which no free disk space mends."""


_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM, errno.EISDIR)
"""Error numbers of fsync on a file system that does not offer it."""

CHECKSUM_KEY = "blake2b"
"""Key of the checksum in JSON files."""

DAMAGED = "it differs from its checksum"
"""Why a file with a wrong checksum is not read; the rest of a sentence that names the file."""


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn an OSError of a block that writes to `path` into a StorageError.

    Raises:
        StorageError: the operating system refused to write; `WrongPath` if there can be no such file.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _WRONG_PATH:
            raise WrongPath(
                f"cannot write {str(path)[:300]} ({error.strerror}); all jobs finished so far are stored: name another file or folder"
            ) from error
        raise StorageError(
            f"cannot write {path} ({error.strerror or error}); all jobs finished so far are stored: free disk space or choose "
            f"another folder, then run the same command again"
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, which replaces `path` when the block succeeds and is removed when it fails.

    The temporary name starts with a dot and contains host, process and thread, so that concurrent writers do not collide.

    Raises:
        StorageError: the operating system refused to write.
    """
    # In the folder of the target, because a rename is atomic within one file system only.
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.{threading.get_ident()}.tmp")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link of that name would be followed by whatever writes the file.
        temporary.unlink(missing_ok=True)
        try:
            yield temporary
            # Before the rename: after a power failure the new name must not refer to an empty file.
            sync(temporary)
            # `replace`, unlike `rename` on some systems, overwrites an existing target.
            temporary.replace(path)
            # Makes the rename itself durable.
            sync(path.parent)
        finally:
            # After a successful rename there is nothing to remove; after an error the temporary file must not be taken for a result.
            with suppress(OSError):
                temporary.unlink()


def check_log(path: Path) -> None:
    """Check that a file to which lines are appended is no link: a folder may come from elsewhere, and must not choose what is written.

    Raises:
        UserError: it is one, or something else than a file, such as a pipe that would wait for its reader.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a link, and nothing is appended to the file it leads to; remove it")
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file, and no lines can be appended to it; remove it")


def save_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        # A text is written whole to the temporary file; readers see the old file or the new one.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def save_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file atomically, with a checksum (`sap_core.checksum`) as its first member, which `load_json` verifies."""
    # Sorted keys, so that equal content has equal bytes.
    text = json.dumps(value, indent=1, sort_keys=True)
    rest = f",{text[1:]}" if value else "}"
    with replacing(path) as temporary:
        temporary.write_text(f'{{"{CHECKSUM_KEY}": "{ZEROS}"{rest}\n', encoding="utf-8")
        seal(temporary, path)


def save_yaml(path: Path, text: str) -> None:
    """Write YAML atomically, with a checksum as a comment in its first line, which `load_text` verifies."""
    with replacing(path) as temporary:
        ended = text if text.endswith("\n") else f"{text}\n"
        temporary.write_text(f"# {CHECKSUM_KEY}: {ZEROS}\n{ended}{ENDS['.yaml'].decode()}", encoding="utf-8")
        seal(temporary, path)


def load_text(path: Path) -> str:
    """Read a text file; its checksum, if it has one, is verified.

    Raises:
        OSError: it cannot be read.
        ValueError: it differs from its checksum, or is not UTF-8.
    """
    data = read_regular(path)
    if checksum_of(data, path) is Checksum.DAMAGED:
        raise ValueError(DAMAGED if data else "it is empty")
    return data.decode()


def load_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of `save_json`; its checksum, if it has one, is verified.

    Raises:
        OSError: it cannot be read.
        ValueError: it differs from its checksum, or is not a JSON object.
    """
    value = parse_json(load_text(path))
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    value.pop(CHECKSUM_KEY, None)
    return value


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sync(path: Path) -> None:
    """Make a file or the entries of a folder durable. Has no effect where the file system offers no such call for it.

    Raises:
        OSError: the file's content could not be written to the disk.
    """
    folder = path.is_dir()
    try:
        # A descriptor for reading suffices for fsync, and it is the only kind that a folder can have.
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        # A folder may be writable without being readable, and some systems open no folders at all.
        if folder:
            return
        raise
    try:
        os.fsync(handle)
    except OSError as error:
        # CIFS, FUSE and some NFS servers refuse it, for folders above all. An error of the disk (EIO, ENOSPC, EDQUOT) is no such case.
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)

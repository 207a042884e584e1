"""Paths with which Ray can be started: a short temporary folder, and an interpreter whose path a shell reads as one word.

Imports no Ray.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from sweeper.backends.ray_session import remove_stale, session_folder

MAX_PARENT = 24
"""Longest path of the parent of Ray's folder in bytes: Ray appends about 75 for its sockets, whose paths are limited to 107 (unix(7))."""


# Ray makes its folder writable for everybody; the folder around it is ours alone.
RAY_FOLDER = "r"
"""Name of Ray's temporary folder inside of the session folder."""


def ray_parent_folder() -> Path:
    """Return the parent of Ray's temporary folder: TMPDIR if Ray can use it, or else another temporary folder of the system.

    Raises:
        OSError: none of them can be written and is short enough.
    """
    candidates = []
    # It raises if no folder at all can be written.
    with suppress(OSError):
        candidates.append(Path(tempfile.gettempdir()))
    candidates += [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm")]
    for folder in candidates:
        if len(os.fsencode(folder)) <= MAX_PARENT and is_plain(folder) and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
            return folder
    names = ", ".join(map(str, dict.fromkeys(candidates)))
    raise OSError(f"Ray needs a writable temporary folder whose path has at most {MAX_PARENT} bytes; {names} are not; set TMPDIR to one")


def is_plain(path: Path | str) -> bool:
    """Whether a shell reads the path as one word without quotes. Ray puts the interpreter's path into a shell command as it is."""
    return shlex.quote(str(path)) == str(path)


def plain_interpreter() -> str:
    """Return this interpreter's path, through a symbolic link to its environment if a shell would not read the path as one word."""
    interpreter = Path(sys.executable)
    # The environment rather than the file is linked, because Python looks for pyvenv.cfg beside the folder that contains the interpreter.
    environment = interpreter.parent.parent
    return str(interpreter if is_plain(interpreter) else _link(environment) / interpreter.relative_to(environment))


@contextmanager
def plain_ray() -> Iterator[None]:
    """Context manager in which `import ray`, and processes that it starts, use paths that a shell reads as one word.

    Else Ray's workers end at once, are started again and again, and the sweep waits for them forever.
    """
    spec = importlib.util.find_spec("ray")
    where = Path(spec.origin).parents[1] if spec is not None and spec.origin else None
    interpreter, path = sys.executable, list(sys.path)
    # Ray passes sys.executable, and the path of its own files, to the processes that it starts.
    sys.executable = plain_interpreter()
    if where is not None and not is_plain(where):
        sys.path.insert(0, str(_link(where)))
    try:
        yield
    finally:
        sys.executable = interpreter
        sys.path[:] = path


@cache
def _link(target: Path) -> Path:
    """A symbolic link to a folder, which exists until this process ends."""
    parent = ray_parent_folder()
    remove_stale(parent)
    stack = ExitStack()
    # Ray imports modules late, even when it is shut down, so the links outlive every Ray of this process.
    atexit.register(stack.close)
    link = stack.enter_context(session_folder(parent)) / "link"
    link.symlink_to(target, target_is_directory=True)
    return link

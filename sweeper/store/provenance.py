"""Where numbers come from: the commit, and a fingerprint of the code that planned them."""

from __future__ import annotations

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from sap_core.location import CODE, HOME

__all__ = ["HOME", "code_fingerprint", "commit", "file_state"]

_PACKAGES = ("sap_core", "trainers", "baselines", "sweeper", "conf")


@cache
def commit() -> str:
    """The checkout's commit, with "+" when files differ from it; the package version outside a checkout."""
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != CODE:  # installed inside a checkout of something else
            return f"version {_version()}"
        head = _git("rev-parse", "HEAD")
        return head[:12] + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {_version()}"


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(CODE), *words], capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sap-sweep")
    except PackageNotFoundError:
        return "unknown"


def code_fingerprint() -> str:
    """A hash of all code and configuration that a plan depends on: a stored plan is trusted only under the same one."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((CODE / package).rglob("*")):
            if path.suffix in {".py", ".yaml"}:
                digest.update(f"{path.relative_to(CODE)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def file_state(path: object, below: Path = Path()) -> list[int] | None:
    """[size, time of change in ns] of a file that a configuration names: another one under its name shows here.

    `path` is read from the folder `below`, which is read from `HOME`; both may be absolute.
    """
    found = HOME / below / Path(path).expanduser() if isinstance(path, str) else None
    if found is None or not found.is_file():
        return None
    return [found.stat().st_size, found.stat().st_mtime_ns]

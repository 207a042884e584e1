"""The origin of results: the commit that computed them, and a fingerprint of the code that planned them.

The commit is stored in every row and enters no id, so a store may contain rows of several commits; tables name the commits that they mix.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

from sap_core.command_line import home_expanded
from sap_core.location import CODE, HOME, IN_CHECKOUT, version

__all__ = ["HOME", "code_fingerprint", "commit", "file_state"]

_PACKAGES = ("sap_core", "trainers", "baselines", "sweeper", "conf")


@cache
def commit() -> str:
    """The commit of the checkout, followed by "+" if files differ from it; without one, the version and a fingerprint of the code."""
    # An installed copy has no commit, whatever repository its folder lies in.
    if IN_CHECKOUT:
        try:
            # A checkout without .git (an unpacked archive) may lie inside a repository of something else.
            if Path(_git("rev-parse", "--show-toplevel")).resolve() == CODE:
                # Untracked files do not count: results and logs below the checkout are not code.
                head = _git("rev-parse", "HEAD")
                return head[:12] + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
        except (OSError, subprocess.SubprocessError):
            pass
    # The version alone would be the same for all builds between two releases.
    return f"version {version()}, code {code_fingerprint()[:12]}"


def _git(*arguments: str) -> str:
    # GIT_DIR and its like, set in hooks and by `git rebase --exec`, would name another repository; variables of configuration are kept.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")}
    # safe.directory: git refuses a checkout of another user because of the programs that its configuration may start, but this process
    # runs the checkout's code anyway. Without locks, because the checkout may be read-only and others use it.
    options = ["-c", f"safe.directory={CODE}", "-c", "core.fsmonitor=false", "--no-optional-locks"]
    # With a time limit, because git may wait for a lock or a network file system, and every worker asks for the commit.
    done = subprocess.run(
        ["git", "-C", str(CODE), *options, *arguments],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=20,
        env=environment,
    )
    return done.stdout.strip()


def code_fingerprint() -> str:
    """SHA-256 of all code and configuration that a plan depends on. A stored plan is reused only if its fingerprint is the same."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        # Sorted, because the order of a directory listing differs between file systems. The separator keeps a path and a content apart.
        for path in sorted((CODE / package).rglob("*")):
            if path.suffix in {".py", ".yaml"}:
                digest.update(f"{path.relative_to(CODE)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def file_state(path: object, below: Path = Path()) -> list[int] | None:
    """[size in bytes, modification time in ns] of a file that a configuration names, to detect that it was replaced; None if it is missing.

    `path` is relative to the folder `below`, which is relative to `HOME`; both may be absolute.
    """
    found = HOME / below / home_expanded(path) if isinstance(path, str) else None
    if found is None or not found.is_file():
        return None
    # Size and time instead of a hash: weights and data sets may be gigabytes, and this runs at every start.
    return [found.stat().st_size, found.stat().st_mtime_ns]

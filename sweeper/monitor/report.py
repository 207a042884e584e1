"""Runs `sap-report` as a separate process.

Tables belong to `analysis`, of which the sweeper imports only the reading library `analysis.store` (an import contract), so that a change
of a table cannot break a sweep. A process also keeps pandas and matplotlib out of the sweep's memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sap_core.location import HOME, child_environment

_WIDTH = 140
"""Columns of the printed text where standard output is no terminal."""


def report(store: Path, *arguments: str) -> str:
    """The output of `sap-report STORE ARGUMENTS ...`; "" if the store has no such numbers yet, or the command fails."""
    return _output([str(store.resolve()), *arguments], HOME, max(80, shutil.get_terminal_size((_WIDTH, 24)).columns))


def summary(store: Path) -> str:
    """The output of `sap-report STORE`, as wide as the terminal and with commands that work in the working directory."""
    return _output([os.path.relpath(store)], Path.cwd(), shutil.get_terminal_size((120, 24)).columns)


def _output(arguments: Sequence[str], folder: Path, width: int) -> str:
    # -P: a folder `analysis` of the user's must not hide the package.
    command = [sys.executable, "-P", "-m", "analysis", *arguments]
    # Its output is read as UTF-8, which PYTHONIOENCODING of the user may contradict.
    environment = {**child_environment(), "COLUMNS": str(width), "PYTHONIOENCODING": "utf-8"}
    # The exit code is not checked: a table that cannot be made must not turn a finished sweep into a failed one.
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env=environment, encoding="utf-8", errors="replace"
    ).stdout

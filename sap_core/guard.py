"""Checks at the start of every program. Standard library only.

The names of the top-level packages (`analysis`, `trainers`, `slurm`, `conf`, ...) are common, so a package of another project, or a folder
of the working directory, may come first on the import path.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from sap_core.errors import UserError
from sap_core.location import CODE, HOME, HOME_ERROR, IN_CHECKOUT, PLUGINS_VARIABLE

NAMES = ("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm", "conf")


def check_start() -> None:
    """Check the folders and packages that a program starts with, and make plug-ins importable: those in `HOME`
    and in the folders of `PLUGINS_VARIABLE`.

    Raises:
        UserError: the working directory was deleted, SAP_SWEEP_HOME is not a folder, or `check_origins` refuses a package.
    """
    if HOME_ERROR is not None:
        raise HOME_ERROR
    check_origins()
    # Last on the path: a module of the user's folder must not hide one of the environment.
    for folder in (str(HOME), *filter(None, os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep))):
        if folder not in sys.path:
            sys.path.append(folder)


def check_origins() -> None:
    """Compare the location of every package with the location of this file.

    Raises:
        UserError: another package of that name comes first on the import path; the message names both locations and a remedy.
    """
    # A checkout comes first on the path in its own folder; an installed copy is shadowed by the folder that the command runs in.
    remedy = f"run the command from {CODE}" if IN_CHECKOUT else f"run the command from another folder than {Path.cwd()}"
    # `find_spec` finds a package without importing it, so that a foreign one runs no code before it is refused.
    for name in NAMES:
        spec = find_spec(name)
        locations = [Path(path).resolve() for path in (spec.submodule_search_locations or [])] if spec else []
        # A package that is absent is no conflict.
        if locations and CODE / name not in locations:
            raise UserError(
                f"the package '{name}' would be imported from {locations[0]}, but this sap-sweep is in {CODE}; "
                f"{remedy}, or uninstall the package that owns {locations[0]}"
            )

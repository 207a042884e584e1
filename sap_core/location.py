"""Location of the packages, and the folder to which relative paths refer. Standard library only."""

from __future__ import annotations

import os
import site
from pathlib import Path

from sap_core.errors import UserError

VARIABLE = "SAP_SWEEP_HOME"
"""Environment variable that names another folder than the default of `HOME`."""

PLUGINS_VARIABLE = "SAP_SWEEP_PLUGINS"
"""Environment variable with further folders that contain plug-ins. Programs set it for the processes that they start."""

CODE = Path(__file__).resolve().parents[1]
"""Folder that contains `sap_core` and its sibling packages: a checkout, or the site-packages of an environment."""


def _is_checkout(folder: Path) -> bool:
    # By its name, because a copy (pip install --target) may lie in the folder of another project, which has a pyproject.toml of its own.
    try:
        return 'name = "sap-sweep"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


IN_CHECKOUT = _is_checkout(CODE)
"""False for an installed copy, such as one made from a wheel."""


def find_home(value: str) -> Path:
    """Return the folder to which relative paths refer: `value` if there is one, else the checkout, else the working directory.

    Args:
        value: SAP_SWEEP_HOME; a relative one refers to the working directory, `~` is expanded.

    Raises:
        UserError: the working directory was deleted, or `value` is not a folder.
    """
    # In a checkout as well: Hydra and MKL end with errors of their own in a folder that was deleted.
    try:
        here = Path.cwd()
    except OSError as error:
        raise UserError(
            f"the current folder cannot be read ({error.strerror}), perhaps it was deleted; change to another one: cd ~"
        ) from error
    if not value:
        # site-packages is no place for data and results, so an installed copy works in the current folder.
        return CODE if IN_CHECKOUT else here
    try:
        folder = here / Path(value).expanduser()
        if folder.is_dir():
            return folder.resolve()
        reason = "is not a folder" if folder.exists() else "does not exist"
    # RuntimeError: `~name` of an unknown user.
    except (OSError, RuntimeError, ValueError) as error:
        reason = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise UserError(f"{VARIABLE}={value} {reason}; set it to an existing folder, or unset {VARIABLE}")


HOME: Path
"""Folder to which relative paths refer, `results` and `data` among them: SAP_SWEEP_HOME if it is set; else the checkout, so that commands
do the same in every folder; for an installed copy the working directory."""

HOME_ERROR: UserError | None
"""Why `HOME` is not known. Programs raise it at their start (`sap_core.guard.check_start`); importing the library must not fail."""

try:
    HOME, HOME_ERROR = find_home(os.environ.get(VARIABLE, "")), None
except UserError as unknown_home:
    HOME, HOME_ERROR = Path(), unknown_home


def user_folder() -> Path:
    """Return the folder of the user's own configuration: sap-sweep in XDG_CONFIG_HOME, by default in ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME") or ""
    # The XDG specification says that relative values are to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".config") / "sap-sweep"


def package_path() -> list[str]:
    """Return the folders that PYTHONPATH needs so that a new process of this interpreter imports this copy: `CODE`, or nothing.

    Nothing if the copy is in the interpreter's own site-packages: on PYTHONPATH they would come before the standard library.
    """
    own = {Path(folder).resolve() for folder in (*site.getsitepackages(), site.getusersitepackages())}
    return [] if not IN_CHECKOUT and CODE in own else [str(CODE)]


def child_environment() -> dict[str, str]:
    """Return the environment of a process that shall use this copy and this `HOME` in any working directory."""
    path = os.pathsep.join([*package_path(), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, VARIABLE: str(HOME), **({"PYTHONPATH": path} if path else {})}


def version() -> str:
    """Return the version of this copy, or "unknown"."""
    # Imported only when asked for. Read in this folder alone, because the environment may contain another copy.
    if IN_CHECKOUT:
        import tomllib

        return str(tomllib.loads((CODE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    from importlib.metadata import distributions

    return next((found.version for found in distributions(name="sap-sweep", path=[str(CODE)])), "unknown")


def version_line() -> str:
    """Return the answer to --version of all programs."""
    return f"sap-sweep {version()} in {CODE}"

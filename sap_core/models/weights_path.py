"""Whether the file of weights that an option names exists. Needs no torch, so that a mistyped path is reported at once."""

from __future__ import annotations

from sap_core.command_line import home_expanded
from sap_core.errors import UserError
from sap_core.location import HOME


def check_exists(path: str, key: str) -> None:
    """Refuse a path that is neither a file nor a folder.

    Args:
        path: of the file; a relative one refers to `HOME`.
        key: the option that names it.

    Raises:
        UserError: nothing is there.
    """
    # An absolute path replaces HOME; a relative one means the same in every working directory.
    found = HOME / home_expanded(path)
    if not (found.is_file() or found.is_dir()):
        raise UserError(f"{key}={path} is not a file ({found} does not exist); set it to the path of a state dict")

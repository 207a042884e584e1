"""Do our common top-level names (`analysis`, `trainers`, `slurm`, `conf`) resolve to this checkout? Standard library only."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sap_core.errors import UserError
from sap_core.location import CODE, IN_CHECKOUT

NAMES = ("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm", "conf")


def check_origins() -> None:
    """Compares where each package would be imported from with where this file lies.

    Raises:
        UserError: another package of that name comes first on the path; the sentence gives both places and the cure.
    """
    remedy = f"run the command from {CODE}" if IN_CHECKOUT else f"run the command from another folder than {Path.cwd()}"
    for name in NAMES:
        spec = find_spec(name)
        places = [Path(place).resolve() for place in (spec.submodule_search_locations or [])] if spec else []
        if places and CODE / name not in places:
            raise UserError(
                f"the package '{name}' would be imported from {places[0]}, but this sap-sweep lies in {CODE}; "
                f"{remedy}, or uninstall the package that owns {places[0]}"
            )

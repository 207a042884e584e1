"""Identity of a component's class: its declared name, package and version.

Ids of runs and keys of random streams are made from these and not from import paths, so that a class may move to another module, or be
re-exported from one, without changing either.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sap_core.construct import locate
from sap_core.roles import Versioned

# A closed list, so that a new top-level package counts as a plug-in until it is named here.
PACKAGES = ("sap_core", "trainers", "baselines")
"""Packages of the components of this project; components of other packages are plug-ins."""


def declared_name(cls: Any) -> str | None:
    """Return the `name` in the class's own body, or None; an inherited name identifies the parent class."""
    # `vars` and not `getattr`: a subclass that forgot its name would silently share its parent's ids and random numbers.
    name = vars(cls).get("name") if hasattr(cls, "__dict__") else None
    return name if isinstance(name, str) else None


def name_of(target: str) -> str:
    """Return the declared name of the class at a dotted path; for a network or sampler without one its `__name__`.

    Raises:
        ImportError, AttributeError: the path does not exist.
    """
    cls: Any = locate(target)
    # A network function of a plug-in has no class body, but a name of its own.
    return declared_name(cls) or str(getattr(cls, "__name__", target.rpartition(".")[2]))


def package_of(target: str) -> str | None:
    """Return the top-level package of a plug-in's component; None for a component of this project, even if a plug-in re-exports it.

    Raises:
        ImportError, AttributeError: the path does not exist.
    """
    # A plug-in may re-export a class of this project; its home decides, so that its ids stay the same.
    home = str(getattr(locate(target), "__module__", "")).split(".")[0]
    named = target.split(".")[0]
    return None if {home, named} & set(PACKAGES) else named


def version_of(target: str) -> int:
    """Return the declared version, or 1.

    Raises:
        ImportError, AttributeError: the path does not exist.
    """
    cls: Any = locate(target)
    # A network of another package need not declare a version.
    return cls.version if isinstance(cls, Versioned) and isinstance(cls.version, int) else 1


@cache
def _declared(target: str) -> tuple[str, str | None]:
    """(name, package of a plug-in) of a class, which do not change while the program runs."""
    return name_of(target), package_of(target)


def component_id(kind: str, target: str) -> dict[str, Any]:
    """Return the part of an id that does not depend on settings: kind, name, version, and the package of a plug-in."""
    name, package = _declared(target)
    # The import path is absent on purpose, so that a class may move. The package keeps plug-ins of one name apart.
    return {"kind": kind, "name": name, "version": version_of(target)} | ({"package": package} if package else {})

"""The identity of a component's class: the name, the package and the version that it declares, wherever its module lies.

Ids of runs and keys of random streams are made from these instead of from import paths, so a class may move to another module, and be
imported from several, without changing either.
"""

from __future__ import annotations

from typing import Any

from sap_core.construct import locate
from sap_core.roles import Versioned

PACKAGES = ("sap_core", "trainers", "baselines")
"""The packages of the shipped components; all others are plug-ins."""


def declared_name(cls: Any) -> str | None:
    """The `name` in the class's own body; an inherited one belongs to the parent."""
    name = vars(cls).get("name") if hasattr(cls, "__dict__") else None
    return name if isinstance(name, str) else None


def name_of(target: str) -> str:
    """The declared name of what a dotted path leads to; `__name__` for a network or a sampler that declares none.

    Raises:
        ImportError, AttributeError: the path leads nowhere.
    """
    cls: Any = locate(target)
    return declared_name(cls) or str(getattr(cls, "__name__", target.rpartition(".")[2]))


def package_of(target: str) -> str | None:
    """The top-level package of a plug-in's component; None for a shipped one, also where a plug-in re-exports it.

    Raises:
        ImportError, AttributeError: the path leads nowhere.
    """
    home = str(getattr(locate(target), "__module__", "")).split(".")[0]
    named = target.split(".")[0]
    return None if {home, named} & set(PACKAGES) else named


def version_of(target: str) -> int:
    """The declared version; 1 where none is declared.

    Raises:
        ImportError, AttributeError: the path leads nowhere.
    """
    cls: Any = locate(target)
    return cls.version if isinstance(cls, Versioned) and isinstance(cls.version, int) else 1


def component_id(kind: str, target: str) -> dict[str, Any]:
    """{kind, name, version}, and the package of a plug-in: all of an id but the settings."""
    package = package_of(target)
    return {"kind": kind, "name": name_of(target), "version": version_of(target)} | ({"package": package} if package else {})

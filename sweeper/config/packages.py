"""Which packages a dotted path may name, and where plug-ins are. Loads no torch.

A path in a file that came from elsewhere must not decide what is imported.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sap_core.command_line import home_expanded
from sap_core.components import PACKAGES
from sap_core.errors import UserError
from sap_core.location import PLUGINS_VARIABLE

OPTUNA_PACKAGE = "optuna.samplers"
"""Package that the dotted path of a sampler may name, besides those of components."""

SAMPLER = "search.sampler"
"""Where the specification of a job names the sampler of its search."""


_places: dict[str, Path] = {}
"""Name -> path of the plug-ins that `find_plugins` has made importable."""


def parse_plugins(text: str) -> tuple[str, ...]:
    """The packages of a command line: `plugins=[examples,~/code/mine]` without its key, or `examples,~/code/mine`.

    Raises:
        UserError: see `find_plugins`.
    """
    return find_plugins(text.strip().removeprefix("[").removesuffix("]").split(","))


def find_plugins(entries: Iterable[str]) -> tuple[str, ...]:
    """The names of the plug-ins, which can be imported from now on, also by processes that this one starts.

    Args:
        entries: of each the name of an importable package, or of a package in the current folder, or the path of a package's folder or of
            a module's file.

    Raises:
        UserError: an entry is neither, or another package of its name comes first on the import path.
    """
    return tuple(_find_plugin(entry.strip()) for entry in entries if entry.strip())


def plugin_argument(name: str) -> str:
    """The argument that names a plug-in to a program in another folder: its path if it was found by one, or else its name."""
    return str(_places.get(name, name))


def _find_plugin(entry: str) -> str:
    if entry.isidentifier():
        here = next((path for path in (Path(entry).absolute(), Path(f"{entry}.py").absolute()) if path.exists()), None)
        # An installed package comes first, as on Python's path; a name that is nowhere is reported by whoever imports it.
        if here is None or find_spec(entry) is not None:
            return entry
        return _add(here)
    if not any(sign in entry for sign in "/~") and not entry.endswith(".py"):
        top = entry.split(".")[0]
        remedy = f"name its top-level package, plugins=[{top}]" if top.isidentifier() else "name a package, as in plugins=[examples]"
        raise UserError(f"plugins=[{entry}]: '{entry}' is neither the name of a top-level package nor the path of one; {remedy}")
    path = home_expanded(entry).resolve()
    if not path.exists():
        raise UserError(f"plugins=[{entry}]: '{path}' does not exist; give the folder of a package, or the file of a module (.py)")
    return _add(path)


def _add(path: Path) -> str:
    """Makes the package or module of a path importable, and returns its name."""
    if path.name == "__init__.py":
        path = path.parent
    name = path.stem if path.is_file() else path.name
    if (path.is_file() and path.suffix != ".py") or not name.isidentifier():
        raise UserError(f"plugins: '{path}' is no package; give a folder or a .py file whose name consists of letters, digits and _")
    folder = str(path.parent)
    # Last on the path: what lies beside a plug-in must not hide a package of the environment.
    if folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()
    spec = find_spec(name)
    found = [Path(place).resolve() for place in (*(spec.submodule_search_locations or []), spec.origin or "")] if spec else []
    if path.resolve() not in (*found, *(place.parent for place in found)):
        raise UserError(
            f"plugins: the name '{name}' of '{path}' is that of another package ({found[-1] if found else '?'}); rename the folder"
        )
    # Workers read it at their start (sap_core.guard).
    known = os.environ.get(PLUGINS_VARIABLE, "").split(os.pathsep)
    os.environ[PLUGINS_VARIABLE] = os.pathsep.join(dict.fromkeys([*filter(None, known), folder]))
    _places[name] = path
    return name


def plugins_as_override(arguments: Sequence[str]) -> list[str]:
    """The words of a command line with `--plugins NAME,...` as the override `plugins=[NAME,...]`.

    Raises:
        UserError: the option has no value, or plug-ins are given in both forms.
    """
    words, given = [], []
    rest = iter(arguments)
    for word in rest:
        option, sign, value = word.partition("=")
        if option != "--plugins":
            words.append(word)
            continue
        value = value if sign else next(rest, "")
        if not value or value.startswith("-"):
            raise UserError("--plugins has no value; write --plugins NAME, a package, the path of one, or several with commas")
        given.append(value.strip().removeprefix("[").removesuffix("]"))
    if given and any(word.lstrip("+").startswith("plugins=") for word in words):
        raise UserError("--plugins and plugins= are the same; give all plug-ins in one of them, as in --plugins first,second")
    return [*words, f"plugins=[{','.join(given)}]"] if given else words


def targets(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """(keys that lead to it, dotted path) of each entry `{"target": ..., "settings": ...}` in plain data, at any depth."""
    # A stack rather than a recursion: the nesting of a file from elsewhere is not limited.
    stack = [(path, value)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            if "target" in value:
                yield path, str(value["target"])
            stack.extend((f"{path}.{key}".lstrip("."), item) for key, item in value.items() if isinstance(item, dict | list))
        elif isinstance(value, list):
            stack.extend((path, item) for item in value if isinstance(item, dict | list))


def is_allowed(path: str, target: str, plugins: Sequence[str]) -> bool:
    """Whether the entry at `path` may name a class: of this project, of a plug-in, and for the sampler of a search of Optuna."""
    package, _, rest = target.partition(".")
    ours = bool(rest) and (package in PACKAGES or package in plugins)
    return ours or (path == SAMPLER and target.startswith(f"{OPTUNA_PACKAGE}."))


def refuse_foreign_targets(value: Any, plugins: Sequence[str], where: str) -> None:
    """Check that all entries in plain data, such as the specification of a job, name allowed packages. Imports nothing.

    Args:
        value: the data.
        plugins: the packages that the user has named on the command line; what a file names as its plug-ins does not count.
        where: the file and the place in it, for the message.

    Raises:
        UserError: an entry names another package.
    """
    for path, target in targets(value):
        if not is_allowed(path, target, plugins):
            raise UserError(
                f"{where} names {target[:100]!r}, which is in none of the packages that it may name ({', '.join((*PACKAGES, *plugins))}), "
                "and nothing of it was run; if it is a plug-in of your own, name its package on the command line: plugins=[PACKAGE] "
                "(python -m sweeper.execute: --plugins PACKAGE)"
            )

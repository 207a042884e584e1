"""Which packages a dotted path may name. A path in a file that came from elsewhere must not decide what is imported. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sap_core.components import PACKAGES
from sap_core.errors import UserError

OPTUNA_PACKAGE = "optuna.samplers"
"""Package that the dotted path of a sampler may name, besides those of components."""

SAMPLER = "search.sampler"
"""Where the specification of a job names the sampler of its search."""


def parse_plugins(text: str) -> tuple[str, ...]:
    """The packages of a command line: `plugins=[examples,mine]` without its key, or `examples,mine`.

    Raises:
        UserError: a name is not that of a top-level package.
    """
    names = tuple(name.strip() for name in text.strip().removeprefix("[").removesuffix("]").split(",") if name.strip())
    for name in names:
        if not name.isidentifier():
            raise UserError(f"plugins={text}: {name!r} is not the name of a top-level package, as in plugins=[examples]")
    return names


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

"""`sap-sweep list`: every choice of every configuration group, with the first comment line of its YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import chain
from pathlib import Path

from sap_core.errors import UserError, unknown
from sweeper.commands.common import add_config_dir, examples

FIRST = ("experiment", "dataset", "noise", "model", "trainer", "pruner", "method")
"""The groups in the order in which a user meets them; others follow by name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", nargs="?", metavar="GROUP", help=f"one group: {', '.join(FIRST)}, ...; all groups if not given")
    add_config_dir(parser)
    parser.epilog = examples(
        "sap-sweep list", "sap-sweep list method", "sap-sweep list experiment --config-dir examples/conf"
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Prints the list.

    Raises:
        UserError: no such group or folder.
    """
    for folder in options.config_dir:
        if not folder.is_dir():
            raise UserError(f"--config-dir {folder} is no folder; give one that holds method/, experiment/ or other groups of YAML files")
    print(listing(options.config_dir, options.group))
    return 0


def choices(places: Sequence[Path] = ()) -> dict[str, dict[str, str]]:
    """Group -> choice -> its line; folders named by `--config-dir` add to what is shipped, which wins where a name is in both."""
    found: dict[str, dict[str, str]] = {}
    roots: tuple[Traversable, ...] = (files("conf"), *places)
    for group, path in chain.from_iterable(map(_entries, roots)):
        found.setdefault(group, {}).setdefault(path.name.removesuffix(".yaml"), first_line(path.read_text(encoding="utf-8")))
    groups = [*(group for group in FIRST if group in found), *sorted(set(found) - set(FIRST))]
    return {group: dict(sorted(found[group].items())) for group in groups}


def first_line(text: str) -> str:
    """The first comment line of a YAML file, without its sign; Hydra's own `@package` line does not count. Empty if there is none."""
    for line in text.splitlines():
        said = line.removeprefix("#").strip()
        if line.startswith("#") and said and not said.startswith("@package"):
            return said
        if line.strip() and not line.startswith("#"):
            break
    return ""


def listing(places: Sequence[Path], wanted: str | None = None) -> str:
    """The text that the command prints: every group, or the one that is wanted.

    Raises:
        UserError: there is no such group.
    """
    groups = choices(places)
    if wanted is not None and wanted not in groups:
        raise unknown("group", wanted, groups, "sap-sweep list GROUP")
    width = max(len(name) for names in groups.values() for name in names)
    blocks = []
    for group, names in groups.items():
        if wanted in (None, group):
            lines = [f"  {name:<{width}}  {line}".rstrip() for name, line in names.items()]
            blocks.append("\n".join([group, *lines]))
    return "\n\n".join(blocks)


def _entries(root: Traversable) -> Iterator[tuple[str, Traversable]]:
    for group in root.iterdir():
        if group.is_dir():
            yield from ((group.name, path) for path in group.iterdir() if path.name.endswith(".yaml") and path.is_file())

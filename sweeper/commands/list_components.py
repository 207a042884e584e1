"""`sap-sweep list`: the choices of every configuration group, with the first comment line of each YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from sap_core.errors import UserError, unknown
from sap_core.yaml_files import read_text
from sweeper.commands.common import add_config_dir, examples
from sweeper.config.choices import choices as choices_of
from sweeper.config.choices import config_folder, shipped_folder, user_clusters

MAIN_GROUPS = ("experiment", "dataset", "noise", "model", "trainer", "pruner", "method")
"""The groups that are listed first; the others follow by name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("group", nargs="?", metavar="GROUP", help=f"one group: {', '.join(MAIN_GROUPS)}, ... (default: all groups)")
    add_config_dir(parser)
    parser.epilog = examples(
        "sap-sweep list", "sap-sweep list method", "sap-sweep list experiment --config-dir examples/conf"
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Prints the list; returns 0.

    Raises:
        UserError: the group or a folder does not exist.
    """
    print(listing([config_folder(folder) for folder in options.config_dir], options.group))
    return 0


def choices(folders: Sequence[Path] = ()) -> dict[str, dict[str, str]]:
    """Group -> choice -> description.

    As in Hydra's search path, a shipped file takes precedence over one of the same name in `folders`, and the user's own cluster files over
    all others.
    """
    found: dict[str, dict[str, str]] = {"cluster": {path.stem: _description(path) for path in choices_of(user_clusters())}}
    # Without Hydra, which takes longer to import than the list to print.
    for group, path in chain.from_iterable(map(_entries, (shipped_folder(), *folders))):
        # The first root wins, as in Hydra's search path.
        found.setdefault(group, {}).setdefault(path.stem, _description(path))
    groups = [*(group for group in MAIN_GROUPS if group in found), *sorted(set(found) - set(MAIN_GROUPS))]
    return {group: dict(sorted(found[group].items())) for group in groups}


def first_line(text: str) -> str:
    """The first comment line of a YAML file, without `#`; Hydra's `@package` directive is skipped. "" if there is none."""
    # The description is the file's own first comment, so the list cannot go out of date.
    for line in text.splitlines():
        comment = line.removeprefix("#").strip()
        if line.startswith("#") and comment and not comment.startswith("@package"):
            return comment
        if line.strip() and not line.startswith("#"):
            break
    return ""


def listing(folders: Sequence[Path], selected: str | None = None) -> str:
    """The text that the command prints: all groups, or only the selected one.

    Raises:
        UserError: the group does not exist.
    """
    groups = choices(folders)
    if selected is not None and selected not in groups:
        raise unknown("group", selected, groups, "sap-sweep list GROUP")
    # One width for all groups, so that the list of one group looks like its part of the complete list.
    width = max(len(name) for names in groups.values() for name in names)
    blocks = []
    for group, names in groups.items():
        if selected in (None, group):
            lines = [f"  {name:<{width}}  {line}".rstrip() for name, line in names.items()]
            blocks.append("\n".join([group, *lines]))
    return "\n\n".join(blocks)


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    """(group, YAML file) of every choice below a configuration folder."""
    for group in root.iterdir():
        if group.is_dir() and not group.name.startswith("."):
            yield from ((group.name, path) for path in choices_of(group))


def _description(path: Path) -> str:
    # A file with a mistake is still a choice; whoever chooses it is told what is wrong.
    with suppress(UserError):
        return first_line(read_text(path))
    return "(cannot be read)"

"""`sap-sweep list`: the choices of every configuration group, with the first comment line of each YAML file."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from sap_core.completion import completed_by, one_of
from sap_core.errors import unknown
from sweeper.commands.common import add_config_dir, examples
from sweeper.config.choices import config_folder, described_choices

GROUPS = {
    "experiment": "cells, methods, spaces and seeds of a sweep; experiment=NAME",
    "dataset": "images and labels; dataset=NAME",
    "noise": "how labels are made wrong; noise=NAME",
    "model": "networks; model=NAME",
    "trainer": "how baselines are trained; trainer=NAME",
    "pruner": "how training samples are selected; pruner=NAME",
    "method": "corrective methods and their search spaces; 'methods=[NAME,NAME@SPACE]'",
    "backend": "how jobs are run; backend=NAME",
    "cluster": "cluster files of sap-slurm; cluster=NAME",
    "preset": "smaller forms of a study; preset=NAME",
    "debug": "small forms of a sweep; debug=NAME",
    "search": "how settings are chosen; search=NAME",
    "tracking": "mirrors of a store; tracking=NAME",
}
"""Group -> contents, and how one of its choices is named on the command line."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument("group", nargs="?", metavar="GROUP", help="one of the groups below (default: all of them)")
    completed_by(group, one_of(GROUPS))
    add_config_dir(parser)
    width = max(map(len, GROUPS))
    parser.epilog = "\n".join(
        [
            "groups:",
            *(f"  {name:<{width}}  {line}" for name, line in GROUPS.items()),
            "",
            examples("sap-sweep list", "sap-sweep list method", "sap-sweep list experiment --config-dir examples/conf"),
        ]
    )


def run(options: argparse.Namespace) -> int:
    """Prints the list; returns 0.

    Raises:
        UserError: the group or a folder does not exist.
    """
    print(listing([config_folder(folder) for folder in options.config_dir], options.group))
    return 0


def listing(folders: Sequence[Path], selected: str | None = None) -> str:
    """The text that the command prints: all groups, or only the selected one.

    Raises:
        UserError: the group does not exist.
    """
    groups = described_choices(folders)
    if selected is not None and selected not in groups:
        raise unknown("group", selected, groups, "sap-sweep list GROUP")
    # One width for all groups, so that the list of one group looks like its part of the complete list.
    width = max(len(name) for names in groups.values() for name in names)
    blocks = []
    for group, names in groups.items():
        if selected in (None, group):
            lines = [f"  {name:<{width}}  {line}".rstrip() for name, line in names.items()]
            blocks.append("\n".join([f"{group}: {GROUPS[group]}" if group in GROUPS else group, *lines]))
    return "\n\n".join(blocks)

"""Checks of an experiment's file that Hydra does not make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sweeper.config.choices import SUFFIX, group_folders, is_choice
from sweeper.config.hydra_source import read_file
from sweeper.config.schema import CELL_GROUPS


def check_overridden_groups(name: str, entries: Sequence[Any], config_dirs: Sequence[Path]) -> None:
    """Refuse a group that an experiment chooses in its defaults list and in its cells, which would replace it without a word.

    Args:
        name: of the experiment.
        entries: its composed `cells`.
        config_dirs: folders of --config-dir.

    Raises:
        UserError: a group is chosen in both.
    """
    for file, group, choice in _overridden(name, config_dirs):
        if any(isinstance(entry, Mapping) and group in entry for entry in entries):
            raise UserError(
                f"{file} has 'override /{group}: {choice}' in its defaults, and its cells choose {group} too; remove the line, or give the "
                f"experiment cells of its own, as in cells: [{{{group}: {choice}}}]"
            )


def _overridden(name: str, config_dirs: Sequence[Path], seen: tuple[str, ...] = ()) -> Iterator[tuple[Path, str, Any]]:
    """(file, group, choice) of the `override /GROUP: CHOICE` in an experiment and in those on which it is built."""
    file = next((path for folder in group_folders("experiment", config_dirs) if is_choice(path := folder / f"{name}{SUFFIX}")), None)
    if file is None or name in seen:
        return
    defaults = read_file(file, "experiment").data.get("defaults")
    for item in defaults if isinstance(defaults, list) else []:
        if isinstance(item, str) and item != "_self_":
            yield from _overridden(item.removeprefix("/experiment/"), config_dirs, (*seen, name))
        for key, choice in item.items() if isinstance(item, dict) else ():
            group = str(key).removeprefix("override").strip().removeprefix("/")
            if group in CELL_GROUPS:
                yield file, group, choice

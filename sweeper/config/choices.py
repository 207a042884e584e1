"""The files of a configuration folder that are choices of its groups. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from sap_core.command_line import home_expanded, shell_word
from sap_core.errors import UserError, unknown
from sap_core.location import user_folder

SUFFIX = ".yaml"

_ASYNCHRONOUS = ("asha", "hyperband", "bohb")
"""Searches that stop trials by the results of others at that time, so that results would depend on the speed of the jobs."""


def shipped_folder() -> Path:
    """The folder of the shipped files."""
    return Path(str(files("conf")))


def user_clusters() -> Path:
    """The folder of the user's own cluster files, which `sap-slurm init` writes."""
    return user_folder() / "cluster"


def group_folders(group: str, folders: Sequence[Path] = ()) -> list[Path]:
    """The folders with choices of a group, of which the first wins: the user's clusters, the shipped files, those of --config-dir."""
    return [*([user_clusters()] if group == "cluster" else []), *(root / group for root in (shipped_folder(), *folders))]


def split_multirun(arguments: Sequence[str]) -> tuple[bool, list[str]]:
    """(whether --multirun or -m is among the arguments, the others)"""
    others = [word for word in arguments if word not in ("--multirun", "-m")]
    return len(others) < len(arguments), others


def split_config_dirs(arguments: Sequence[str]) -> tuple[list[Path], list[str]]:
    """(folders named by --config-dir, the other arguments).

    Raises:
        UserError: such a folder does not exist.
    """
    config_dirs: list[Path] = []
    others: list[str] = []
    remaining = iter(arguments)
    for word in remaining:
        name, sign, value = word.partition("=")
        if name not in ("--config-dir", "-cd"):
            others.append(word)
            continue
        # Both `--config-dir=DIR` and `--config-dir DIR`, as Hydra accepts.
        config_dirs.append(config_folder(value if sign else next(remaining, "")))
    return config_dirs, others


def config_folder(text: str | Path) -> Path:
    """The absolute path of a folder of --config-dir.

    Raises:
        UserError: it does not exist.
    """
    folder = home_expanded(str(text)).absolute()
    if not str(text) or not folder.is_dir():
        raise UserError(f"--config-dir {text} is not a folder; give one that contains method/, experiment/ or other groups of YAML files")
    return folder


def is_choice(path: Path) -> bool:
    """Whether a file is a choice of its group: a YAML file that is neither hidden nor a backup of an editor or a file manager."""
    return path.suffix == SUFFIX and not path.name.startswith((".", "#")) and path.is_file()


def choices(folder: Path) -> Iterator[Path]:
    """The files of a group's folder that are choices."""
    return (path for path in folder.iterdir() if is_choice(path)) if folder.is_dir() else iter(())


def unknown_choice(group: str, name: object, allowed: Sequence[str], folders: Sequence[Path], where: str = "") -> UserError:
    """The error for a choice that does not exist; it names a file whose ending is the only mistake."""
    if group == "search" and str(name).lower() in _ASYNCHRONOUS:
        return UserError(
            f"search={name} is not offered, because which trials it continues depends on the speed of the jobs; "
            "use search=successive_halving, the synchronous form"
        )
    for folder in folders:
        for path in sorted((folder / group).glob("*")):
            if path.stem == str(name) and path.suffix != SUFFIX and path.suffix.lower() in (SUFFIX, ".yml"):
                new = path.with_suffix(SUFFIX)
                return UserError(
                    f"{path} is no choice of {group}, because its name does not end in {SUFFIX}; "
                    f"rename it: mv {shell_word(str(path))} {shell_word(str(new))}"
                )
    return unknown(group, name, allowed, where)

"""The files of a configuration folder that are choices of its groups. Standard library only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from sap_core.command_line import home_expanded, shell_word
from sap_core.errors import UserError, unknown

SUFFIX = ".yaml"


def shipped_folder() -> Path:
    """The folder of the shipped files."""
    return Path(str(files("conf")))


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
    """The error for a choice that does not exist; it names a file whose ending is the only mistake, or whose folder is not given."""
    beside = Path.cwd() / "conf"
    file = beside / group / f"{name}{SUFFIX}"
    if beside not in (shipped_folder(), *folders) and file.is_file():
        return UserError(f"unknown {group} '{name}'; {file} is not read without its folder: add --config-dir conf")
    for folder in folders:
        for path in sorted((folder / group).glob("*")):
            if path.stem == str(name) and path.suffix != SUFFIX and path.suffix.lower() in (SUFFIX, ".yml"):
                new = path.with_suffix(SUFFIX)
                return UserError(
                    f"{path} is no choice of {group}, because its name does not end in {SUFFIX}; "
                    f"rename it: mv {shell_word(str(path))} {shell_word(str(new))}"
                )
    return unknown(group, name, allowed, where)

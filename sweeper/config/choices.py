"""The files of a configuration folder that are choices of its groups. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.resources import files
from itertools import chain
from pathlib import Path

from sap_core.command_line import home_expanded, shell_word
from sap_core.errors import UserError, unknown
from sap_core.location import user_folder
from sap_core.yaml_files import read_text

SUFFIX = ".yaml"

MAIN_GROUPS = ("experiment", "dataset", "noise", "model", "trainer", "pruner", "method")
"""The groups that are listed first; the others follow by name."""

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


def hidden_files(chosen: Iterable[tuple[str, object]], folders: Sequence[Path]) -> Iterator[str]:
    """A sentence for each file of --config-dir that differs from the one of the same name that is read in its place.

    Args:
        chosen: (group, choice) of a sweep.
        folders: of --config-dir.
    """
    for group, name in dict.fromkeys((group, str(name)) for group, name in chosen):
        found = [path for folder in group_folders(group, folders) if is_choice(path := folder / f"{name}{SUFFIX}")]
        for path in found[1:]:
            with suppress(UserError):
                if path.parent != found[0].parent and read_text(path) != read_text(found[0]):
                    yield f"{path} is not read, because {group}={name} is {found[0]}; give the file another name, and choose it by that"


def unknown_choice(group: str, name: object, allowed: Sequence[str], folders: Sequence[Path], where: str = "") -> UserError:
    """The error for a choice that does not exist; it names a file whose ending is the only mistake, or whose folder is not given."""
    if group == "search" and str(name).lower() in _ASYNCHRONOUS:
        return UserError(
            f"search={name} is not offered, because which trials it continues depends on the speed of the jobs; "
            "use search=successive_halving, the synchronous form"
        )
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


def described_choices(folders: Sequence[Path] = ()) -> dict[str, dict[str, str]]:
    """Group -> choice -> description.

    As in Hydra's search path, a shipped file takes precedence over one of the same name in `folders`, and the user's own cluster files over
    all others.
    """
    found: dict[str, dict[str, str]] = {"cluster": {path.stem: _description(path) for path in choices(user_clusters())}}
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


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    """(group, YAML file) of every choice below a configuration folder."""
    for group in root.iterdir():
        if group.is_dir() and not group.name.startswith("."):
            yield from ((group.name, path) for path in choices(group))


def _description(path: Path) -> str:
    # A file with a mistake is still a choice; choosing it reports the mistake.
    with suppress(UserError):
        return first_line(read_text(path))
    return "(cannot be read)"

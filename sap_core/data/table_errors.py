"""Error messages and notes of image tables: files that are missing or not listed, and advice on numbers of rows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sap_core.data.duplicates import Duplicates
from sap_core.data.image_files import Check, damaged, named_problems
from sap_core.data.names import first_names, is_hidden, printable, relative
from sap_core.data.tree_listing import images_in
from sap_core.errors import UserError

_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_MAX_FOLDERS = 10_000
"""Of the files of more folders it is not found out which are in no row."""


def refuse_missing(files: Sequence[Path], table: Path) -> None:
    """Check that the files of a table exist.

    Raises:
        UserError: some do not: their number, the first ten, and what their paths have in common.
    """
    lost = [path for path in files if not path.is_file()]
    if not lost:
        return
    hints = [
        hint
        for hint, found in (
            ("paths with drive letters are of another machine: make them relative to the table's folder", _with_drive(lost, table.parent)),
            ("paths with backslashes are read with / in their place, and do not exist that way either", _with_backslashes(lost)),
            ("some paths are not UTF-8: save the table as UTF-8 if the names of the files are", any(_undecodable(path) for path in lost)),
        )
        if found
    ]
    problems = [(path, _why_no_file(path)) for path in lost]
    below = f"; paths are relative to '{printable(table.parent)}', the folder of the table" if len(lost) == len(files) else ""
    raise UserError(
        f"{len(lost)} of {len(files)} image files of table '{printable(table)}' are missing: {named_problems(problems)}{below}"
        + "".join(f"; {hint}" for hint in hints)
        + "; restore them, or delete their rows"
    )


def _why_no_file(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    # Nothing else is opened: a pipe would never end, and a device never be full.
    return "a device, a pipe or a socket" if path.exists() else "No such file or directory"


def not_listed(files: Sequence[Path], base: Path) -> tuple[str, ...]:
    """Return a sentence if images lie beside the listed ones and are in no row; else ()."""
    folders = sorted({path.parent for path in files})
    if len(folders) > _MAX_FOLDERS:
        return ()
    known = {relative(path, base) for path in files}
    found = (relative(path, base) for folder in folders for path in images_in(folder) if not is_hidden(path.name))
    others = list(dict.fromkeys(path for path in found if path not in known))
    return (f"not read: {len(others)} images beside the listed ones that are in no row ({first_names(others, 3)})",) if others else ()


def wrong_row_count(
    table: Path, option: str, expected: float, files: Sequence[Path], check: Check, dropped: Duplicates | None
) -> UserError:  # fmt: skip
    """Return the error for a wrong number of rows. It advises a number only if each row has an intact image.

    Args:
        table: the table.
        option: option with the number.
        expected: its value.
        files: files of the rows that it counts.
        check: check of files.
        dropped: copies that were removed from the rows; None if none were looked for.
    """
    left = f" after dataset.duplicates=drop removed {dropped.dropped} copies" if dropped and dropped.dropped else ""
    head = f"table '{printable(table)}' has {len(files)} rows{left} for dataset.{option}={expected}"
    bad = damaged(files, check)
    if bad:
        rest = len(files) - len(bad)
        then = "the number is then right" if rest == expected else f"then set dataset.{option}={rest}"
        return UserError(
            f"{head}; the files of {len(bad)} of them are missing, damaged or not images: {named_problems(bad)}; delete these rows "
            f"({then}) or replace the files"
        )
    if dropped is not None:
        train, val, test = dropped.remaining
        numbers = f"dataset.num_train={train} dataset.num_test={test}" + (f" dataset.validation={val}" if val else "")
        return UserError(f"{head}; set {numbers}, the numbers that remain")
    counted = {"num_train": "rows of split train and val together", "num_test": "rows of split test"}.get(option, "rows of split val")
    return UserError(f"{head}; set dataset.{option}={len(files)}, leave it out to count the rows, or fix the table (counted in: {counted})")


def _with_drive(files: Sequence[Path], base: Path) -> bool:
    return any(_DRIVE.match(path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name) for path in files)


def _with_backslashes(files: Sequence[Path]) -> bool:
    return any("\\" in str(path) for path in files)


def _undecodable(path: Path) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in str(path))

"""Audit files: CSV tables of training samples whose true labels the user has verified.

On real noise, an audit provides the verified retain and forget samples that methods such as SCRUB and SSD need, without an oracle.

Shapes: N samples of the universe.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from sap_core.data.class_names import canonical
from sap_core.data.csv_files import CsvColumns, read_csv
from sap_core.data.names import first_names, located, printable
from sap_core.errors import UserError

COLUMNS = ("index", "path")
"""Columns that may identify a sample."""


def read_audit(
    root: Path, name: str, paths: Sequence[str], names: Sequence[str], contents: Sequence[bytes] | None = None, base: Path | None = None,
    by_position: bool = True,
) -> tuple[Tensor, bytes]:  # fmt: skip
    """Read an audit file.

    The file is a CSV with a header (see `read_csv`): `index` (position in the training set, from 0) or `path` (below the folder of the data
    set), and `true_label` (number or name of a class). A line verifies all samples of its path, and all copies of their content.

    Args:
        root: data folder.
        name: path of the file below the data folder.
        paths: path of every sample of the universe.
        names: names of the classes, by number.
        contents: content of every sample (see `sap_core.data.image_files`); None if files were not decoded.
        base: folder that the paths are relative to, for lines with absolute paths.
        by_position: whether samples may be named by `index`.

    Returns:
        (N,) int64 true labels, -1 for samples that are not in the file, and the bytes of the file.

    Raises:
        UserError: the file or a column is missing, or a line has an unknown sample, an unknown class or a sample of an earlier line.
    """
    file = located(root, name)
    try:
        # Read once: the bytes that are parsed are those that enter the data set's digest.
        content = file.read_bytes()
        table = read_csv(content, (*COLUMNS, "true_label"))
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(
            f"dataset.verified: file '{printable(file)}' cannot be read ({why}); set it to a CSV file below paths.data, or omit the option"
        ) from error
    keys = [column for column in COLUMNS if column in table.cells]
    if not keys or "true_label" not in table.cells or not table.lines:
        raise UserError(
            f"dataset.verified: file '{printable(file)}' needs the columns index (or path) and true_label, and at least one row; "
            f"its columns are {first_names([column for column in table.cells if column]) or 'none'}"
        )
    if keys == ["index"] and not by_position:
        raise UserError(
            f"dataset.verified: file '{printable(file)}' names samples by index, but dataset.duplicates=drop changes their positions; "
            f"name them by path"
        )
    labels, wrong = _match(table, keys, paths, names, _same(paths, contents), base)
    # All bad lines are collected before the file is refused, so that one attempt shows them.
    if wrong:
        shown = "; ".join(wrong[:10]) + (f"; ... and {len(wrong) - 10} more" if len(wrong) > 10 else "")
        raise UserError(
            f"dataset.verified: {len(wrong)} of {len(table.lines)} lines of '{printable(file)}' do not match the data set ({shown}); "
            f"fix them"
        )
    return labels, content


def _match(
    table: CsvColumns, keys: Sequence[str], paths: Sequence[str], names: Sequence[str], same: Callable[[int], list[int]], base: Path | None
) -> tuple[Tensor, list[str]]:
    """Return the true labels (N,), and what is wrong with lines of the table."""
    # Paths survive another order of the files, positions do not; both are accepted.
    positions = {"path": {path: place for place, path in enumerate(paths)}, "index": {str(place): place for place in range(len(paths))}}
    # Names after numbers, so that a class named like a number is meant by its name.
    classes = {str(number): number for number in range(len(names))} | {label: number for number, label in enumerate(names)}
    labels = torch.full((len(paths),), -1, dtype=torch.int64)
    named: set[str | int] = set()
    wrong = []
    for row, line in enumerate(table.lines):
        found = [_find(positions[key], _spellings(table.cells[key][row], base if key == "path" else None)) for key in keys]
        text = table.cells["true_label"][row]
        # A number may be written in another form ("3.0"), as in tables.
        label = _find(classes, (text, text.strip(), canonical(text.strip())))
        position = found[0]
        if position is None or None in found or label is None:
            wrong.append(f"line {line}: {'no such class' if None not in found else 'no such sample'}")
            continue
        copies = same(position)
        # Rows of a table with equal paths have an index each.
        identity = position if keys[0] == "index" else paths[position]
        if any(other not in copies for other in found):
            wrong.append(f"line {line}: index and path name different samples")
        # A copy may be listed, too, if it has the same true label.
        elif identity in named:
            wrong.append(f"line {line}: a sample of an earlier line")
        elif labels[position] not in (-1, label):
            wrong.append(f"line {line}: another true label than that of an earlier line with the same pixels")
        else:
            named.add(identity)
            labels[copies] = label
    return labels, wrong


def _find(known: Mapping[str, int], spellings: Sequence[str]) -> int | None:
    return next((known[spelling] for spelling in spellings if spelling in known), None)


def _spellings(path: str, base: Path | None = None) -> tuple[str, ...]:
    """Return a path as it is, without spaces around it, in short form, relative to the data set, and with "/" for backslashes."""
    stripped = path.strip()
    plain = [path, stripped, *(PurePosixPath(os.path.normpath(each)).as_posix() for each in (path, stripped, stripped.replace("\\", "/")))]
    below = [os.path.relpath(each, base) for each in plain if base is not None and Path(each).is_absolute()]
    return (*plain, *below)


def _same(paths: Sequence[str], contents: Sequence[bytes] | None) -> Callable[[int], list[int]]:
    """Return a function from a position to all positions of the same path or the same content."""
    of_path: dict[str, list[int]] = {}
    of_content: dict[bytes, list[int]] = {}
    for place, path in enumerate(paths):
        of_path.setdefault(path, []).append(place)
        if contents is not None:
            of_content.setdefault(contents[place], []).append(place)
    return lambda place: sorted({*of_path[paths[place]], *(of_content[contents[place]] if contents is not None else ())})

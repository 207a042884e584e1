"""Reading of image tables, CSV or Parquet, with the columns `path`, `label`, `split` and optionally `true_label`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sap_core.data.csv_files import normalised, read_csv
from sap_core.data.names import first_names, printable
from sap_core.errors import UserError

SPLITS = ("train", "val", "test")
REQUIRED = ("path", "label", "split")


@dataclass(frozen=True)
class Rows:
    """Rows of one split.

    Attributes:
        paths: paths relative to the folder of the table.
        labels: given classes.
        true: true classes; empty without a column `true_label`.
    """

    paths: list[str]
    labels: list[int]
    true: list[int]


def read_table(file: Path, num_classes: int | None) -> tuple[list[str], dict[str, Rows]]:
    """Return the names of the classes, and the rows of each split in the order of the table.

    Labels are numbers from 0, or names, which are numbered in sorted order. With `num_classes=None` the labels determine the classes.

    Raises:
        UserError: the file or a column is missing, or rows have invalid values (their number and the first ones).
    """
    # Both formats become columns of strings, so that one set of checks serves them.
    columns = read_columns(file)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"table '{printable(file)}' lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"required are {', '.join(REQUIRED)}, optional is true_label; its first line contains {first_names(list(columns)) or 'nothing'}"
        )
    labels, true = columns["label"], columns.get("true_label")
    # Given and true labels together: a class may occur among the true labels only.
    names = _names(file, [*labels, *(true or [])], num_classes)
    # From name to number once, instead of a search per row.
    numbers = {name: number for number, name in enumerate(names)}
    rows = {split: Rows([], [], []) for split in SPLITS}
    wrong = []
    for line, (path, label, split) in enumerate(zip(columns["path"], labels, columns["split"], strict=True)):
        truth = None if true is None else true[line]
        # Bad rows are counted, not raised one by one, so that one attempt shows the extent.
        if split not in SPLITS or not path.strip() or label not in numbers or (truth is not None and truth not in numbers):
            wrong.append(
                f"row {line + 1}: path '{printable(path)}', label '{printable(label)}', split '{printable(split)}'"
                + (f", true_label '{printable(truth)}'" if true else "")
            )
            continue
        rows[split].paths.append(existing_path(file.parent, path))
        rows[split].labels.append(numbers[label])
        if truth is not None:
            rows[split].true.append(numbers[truth])
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(labels)} rows of table '{printable(file)}' are invalid ({'; '.join(wrong[:3])}); allowed splits are "
            f"{', '.join(SPLITS)}, allowed labels 0 to {len(names) - 1} or names"
        )
    return names, rows


def _names(file: Path, labels: Sequence[str], num_classes: int | None) -> list[str]:
    """Return the class names by number; numeric labels are their own names."""
    found = {label for label in labels if label}
    # Numbers stay numbers: sorting them as strings would put 10 before 2.
    if all(label.isdecimal() for label in found):
        # Numbers beyond the classes are reported row by row.
        return [str(number) for number in range(max(map(int, found), default=-1) + 1 if num_classes is None else num_classes)]
    if num_classes is not None and len(found) != num_classes:
        raise UserError(
            f"table '{printable(file)}' contains {len(found)} different labels, but dataset.num_classes={num_classes}; "
            f"set dataset.num_classes={len(found)} or fix the table"
        )
    # Sorted, so that the numbering depends on the names and not on the order of the rows.
    return sorted(found)


def read_columns(file: Path) -> dict[str, list[str]]:
    """Return column -> cells of a CSV (plain or gzip) or Parquet file; its first bytes decide, not its suffix.

    Raises:
        UserError: the file is neither.
    """
    try:
        content = file.read_bytes()
        if content.startswith(b"PAR1"):
            return _parquet(content)
        cells = read_csv(content, (*REQUIRED, "true_label")).cells
    except (OSError, ValueError) as error:
        why = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(
            f"table '{printable(file)}' cannot be read ({why}); set paths.data and dataset.table to a CSV or Parquet file"
        ) from error
    # Names of files may begin and end with spaces.
    return {name: cells if name == "path" else [cell.strip() for cell in cells] for name, cells in cells.items()}


def _parquet(content: bytes) -> dict[str, list[str]]:
    # For Parquet tables only: when `sap_core` is imported it loads torch, numpy and safetensors alone.
    from pyarrow import ArrowException, BufferReader, parquet

    try:
        table = parquet.read_table(BufferReader(content))
    except ArrowException as error:
        raise ValueError(str(error)) from error
    columns: dict[str, list[str]] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        known = normalised(name)
        if known in columns and known in (*REQUIRED, "true_label"):
            raise ValueError(f"it contains the column {known} twice; keep one of them")
        columns[known] = ["" if value is None else _cell(value, strip=known != "path") for value in column.to_pylist()]
    return columns


def _cell(value: object, strip: bool) -> str:
    # Names that are not UTF-8 are bytes in Parquet.
    text = os.fsdecode(value) if isinstance(value, bytes) else str(value)
    return text.strip() if strip else text


def existing_path(base: Path, text: str) -> str:
    """Return the spelling of a path under which there is a file below `base`; the text itself if there is none.

    Tried are the text, the text without spaces around it, with "/" for the backslashes of Windows, and with the home folder for "~".
    """
    stripped = text.strip()
    # Nearly all paths are none of these, and need no look at the disk.
    if text == stripped and "\\" not in text and not text.startswith("~"):
        return text
    spellings = (text, stripped, stripped.replace("\\", "/"), str(Path(stripped).expanduser()))
    return next((spelling for spelling in spellings if (base / spelling).is_file()), text)

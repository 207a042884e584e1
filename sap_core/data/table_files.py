"""Reading of image tables, CSV or Parquet, with the columns `path`, `label`, `split` and optionally `true_label`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

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
    columns = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"table '{file}' lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"required are {', '.join(REQUIRED)}, optional is true_label"
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
        if split not in SPLITS or not path or label not in numbers or (truth is not None and truth not in numbers):
            wrong.append(f"row {line + 1}: path '{path}', label '{label}', split '{split}'" + (f", true_label '{truth}'" if true else ""))
            continue
        rows[split].paths.append(path)
        rows[split].labels.append(numbers[label])
        if truth is not None:
            rows[split].true.append(numbers[truth])
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(labels)} rows of table '{file}' are invalid ({'; '.join(wrong[:3])}); allowed splits are "
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
            f"table '{file}' contains {len(found)} different labels, but dataset.num_classes={num_classes}; "
            f"set dataset.num_classes={len(found)} or fix the table"
        )
    # Sorted, so that the numbering depends on the names and not on the order of the rows.
    return sorted(found)


def _csv(file: Path) -> dict[str, list[str]]:
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            # newline="" is what the csv module asks for, so that line breaks within quotes survive.
            reader = csv.DictReader(lines)
            rows = list(reader)
            head = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _unreadable(file, error) from error
    # A short line leaves None in the missing columns.
    return {name: [(row[name] or "").strip() for row in rows] for name in head}


def _parquet(file: Path) -> dict[str, list[str]]:
    # For Parquet tables only: when `sap_core` is imported it loads torch, numpy and safetensors alone.
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(file).to_pydict()
    except (OSError, ArrowException) as error:
        raise _unreadable(file, error) from error
    return {name: ["" if value is None else str(value).strip() for value in values] for name, values in table.items()}


def _unreadable(file: Path, error: Exception) -> UserError:
    why = " ".join(str(error).split())
    return UserError(f"table '{file}' cannot be read ({why}); set paths.data and dataset.table to a CSV or Parquet file")

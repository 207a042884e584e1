"""Reading of image tables, CSV or Parquet, with the columns `path`, `label`, `split` and optionally `true_label`."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sap_core.data.class_names import ClassNames
from sap_core.data.table_labels import number_labels
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


def read_table(file: Path, num_classes: int | None, class_order: str = "text", root: Path = Path()) -> tuple[ClassNames, dict[str, Rows]]:
    """Return the classes, and the rows of each split in the order of the table.

    Labels are numbers from 0, or names (see `sap_core.data.table_labels`).

    Args:
        file: the table.
        num_classes: the expected number of classes; None: the labels determine it.
        class_order: order in which names are numbered, see `sap_core.data.class_names.order_classes`.
        root: data folder.

    Raises:
        UserError: the file or a column is missing, or rows have invalid values (their number and the first ones).
    """
    columns = _columns(file)
    labels, true = columns["label"], columns.get("true_label")
    found = number_labels(_label_columns(columns), num_classes, class_order, root, file)
    numbers = found.numbers
    rows = {split: Rows([], [], []) for split in SPLITS}
    wrong, unknown = [], False
    for line, (path, label, split) in enumerate(zip(columns["path"], labels, columns["split"], strict=True)):
        truth = None if true is None else true[line]
        # Bad rows are counted, not raised one by one, so that one attempt shows the extent.
        no_class = label not in numbers or (truth is not None and truth not in numbers)
        if split not in SPLITS or not path or no_class:
            unknown |= no_class
            wrong.append(f"row {line + 1}: path '{path}', label '{label}', split '{split}'" + (f", true_label '{truth}'" if true else ""))
            continue
        rows[split].paths.append(path)
        rows[split].labels.append(numbers[label])
        if truth is not None:
            rows[split].true.append(numbers[truth])
    if wrong:
        raise UserError(
            f"{len(wrong)} of {len(labels)} rows of table '{file}' are invalid ({'; '.join(wrong[:3])}); allowed splits are "
            f"{', '.join(SPLITS)}, allowed labels 0 to {len(found.classes.names) - 1} or names" + (f"; {found.remedy}" if unknown else "")
        )
    return found.classes, rows


def class_names(file: Path, num_classes: int, class_order: str, root: Path) -> ClassNames:
    """Return the classes of a table (see `read_table`)."""
    return number_labels(_label_columns(_columns(file)), num_classes, class_order, root, file).classes


def _label_columns(columns: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    # Given and true labels together: a class may occur among the true labels only.
    return {name: columns[name] for name in ("label", "true_label") if name in columns}


def _columns(file: Path) -> dict[str, list[str]]:
    """Return the columns of a table as texts, which must include the required ones."""
    # Both formats become columns of strings, so that one set of checks serves them.
    columns = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"table '{file}' lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"required are {', '.join(REQUIRED)}, optional is true_label"
        )
    return columns


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

"""Reading of image tables, CSV or Parquet, with the columns `path`, `label`, `split` and optionally `true_label`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sap_core.data.class_names import ClassNames
from sap_core.data.csv_files import normalised, read_csv
from sap_core.data.names import first_names, printable
from sap_core.data.table_labels import number_labels
from sap_core.errors import UserError

SPLITS = ("train", "val", "test")
REQUIRED = ("path", "label", "split")

_ALWAYS_ROWS = 10_000_000
"""Rows that a Parquet table may have whatever its size."""


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
        if split not in SPLITS or not path.strip() or no_class:
            unknown |= no_class
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
            f"{', '.join(SPLITS)}, allowed labels 0 to {len(found.classes.names) - 1} or names" + (f"; {found.remedy}" if unknown else "")
        )
    return found.classes, rows


def class_names(file: Path, num_classes: int | None, class_order: str, root: Path) -> ClassNames:
    """Return the classes of a table (see `read_table`)."""
    return number_labels(_label_columns(_columns(file)), num_classes, class_order, root, file).classes


def _label_columns(columns: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    # Given and true labels together: a class may occur among the true labels only.
    return {name: columns[name] for name in ("label", "true_label") if name in columns}


def _columns(file: Path) -> dict[str, list[str]]:
    """Return the columns of a table as texts, which must include the required ones."""
    # Both formats become columns of strings, so that one set of checks serves them.
    columns = read_columns(file)
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise UserError(
            f"table '{printable(file)}' lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"required are {', '.join(REQUIRED)}, optional is true_label; its first line contains {first_names(list(columns)) or 'nothing'}"
        )
    return columns


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
        file = parquet.ParquetFile(BufferReader(content))
        # A thousand bytes may claim any number of equal rows; the rows of a table have paths of their own.
        if file.metadata.num_rows > (most := max(_ALWAYS_ROWS, len(content))):
            raise ValueError(f"its {len(content):,} bytes claim {file.metadata.num_rows:,} rows, and more than {most:,} are not read")
        names = [name for name in file.schema_arrow.names if normalised(name) in (*REQUIRED, "true_label")]
        # Dictionaries stay as they are stored: one text of a million rows is not copied a million times.
        table = parquet.read_table(BufferReader(content), columns=names, read_dictionary=names)
    except ArrowException as error:
        raise ValueError(str(error)) from error
    # Other columns are named in messages and not read.
    columns: dict[str, list[str]] = {normalised(name): [] for name in file.schema_arrow.names}
    seen = set()
    for name, column in zip(table.column_names, table.columns, strict=True):
        known = normalised(name)
        if known in seen:
            raise ValueError(f"it contains the column {known} twice; keep one of them")
        seen.add(known)
        columns[known] = [
            "" if value is None else _cell(value, strip=known != "path") for chunk in column.chunks for value in _values(chunk)
        ]
    return columns


def _values(chunk: Any) -> Iterable[Any]:
    """The values of an Arrow array; of a dictionary, those it contains once."""
    from pyarrow import DictionaryArray

    if not isinstance(chunk, DictionaryArray):
        return chunk.to_pylist()
    known = chunk.dictionary.to_pylist()
    return [None if index is None else known[index] for index in chunk.indices.to_pylist()]


def _cell(value: object, strip: bool) -> str:
    # Names that are not UTF-8 are bytes in Parquet.
    if isinstance(value, (list, dict)):
        raise ValueError(f"it contains a list or a record instead of one value, such as {value!r}")
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

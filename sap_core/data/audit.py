"""Audit files: CSV tables of training samples whose true labels the user has verified.

On real noise, an audit provides the verified retain and forget samples that methods such as SCRUB and SSD need, without an oracle.

Shapes: N samples of the universe.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sap_core.data.class_names import canonical
from sap_core.errors import UserError

COLUMNS = ("index", "path")
"""Columns that may identify a sample."""


def read_audit(root: Path, name: str, paths: Sequence[str], names: Sequence[str]) -> tuple[Tensor, bytes]:
    """Read an audit file.

    The file is a CSV with a header: `index` (position in the training set, from 0) or `path` (below the folder of the data set), and
    `true_label` (number or name of a class).

    Args:
        root: data folder.
        name: path of the file below the data folder.
        paths: path of every sample of the universe.
        names: names of the classes, by number.

    Returns:
        (N,) int64 true labels, -1 for samples that are not in the file, and the bytes of the file.

    Raises:
        UserError: the file or a column is missing, or a line has an unknown sample, an unknown class or a sample of an earlier line.
    """
    file = root / name
    try:
        # Read once: the bytes that are parsed are those that enter the data set's digest.
        content = file.read_bytes()
        rows = list(csv.DictReader(content.decode().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"dataset.verified: file '{file}' cannot be read ({error}); set it to a CSV file below paths.data, or omit the option"
        ) from error
    head = set(rows[0]) if rows else set()
    key = next((column for column in COLUMNS if column in head), None)
    if key is None or "true_label" not in head:
        raise UserError(f"dataset.verified: file '{file}' needs the columns index (or path) and true_label, and at least one row")
    # Paths survive another order of the files, positions do not; both are accepted.
    positions = {path: at for at, path in enumerate(paths)} if key == "path" else {str(at): at for at in range(len(paths))}
    # Names after numbers, so that a class named like a number is meant by its name.
    classes = {str(number): number for number in range(len(names))} | {label: number for number, label in enumerate(names)}
    labels = torch.full((len(paths),), -1, dtype=torch.int64)
    wrong = []
    # Line numbers of the file, whose first line is the header.
    for line, row in enumerate(rows, start=2):
        text = (row["true_label"] or "").strip()
        # A number may be written in another form ("3.0"), as in tables.
        position, label = positions.get((row[key] or "").strip()), classes.get(text, classes.get(canonical(text)))
        # All bad lines are collected before the file is refused, so that one attempt shows them.
        if position is None or label is None or labels[position] >= 0:
            reason = "no such sample" if position is None else "no such class" if label is None else "a sample of an earlier line"
            wrong.append(f"line {line}: {reason}")
        else:
            labels[position] = label
    if wrong:
        raise UserError(
            f"dataset.verified: {len(wrong)} of {len(rows)} lines of '{file}' do not match the data set ({'; '.join(wrong[:3])}); fix them"
        )
    return labels, content

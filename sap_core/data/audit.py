"""The user's own audit: a table of training samples whose true label somebody has looked up.

It is what SCRUB, SSD and finetuning need on real noise: verified right and wrong samples, and no oracle. N samples in the universe.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sap_core.errors import UserError

COLUMNS = ("index", "path")


def read_audit(root: Path, name: str, paths: Sequence[str], names: Sequence[str]) -> tuple[Tensor, bytes]:
    """((N,) int64 true labels, -1 where nobody looked; the file's bytes).

    The file is a CSV with a head: `index` (position in the training set, from 0) or `path` (below the data set's folder), and `true_label`
    (a class's number or name).

    Args:
        root: the data folder, below which the file lies.
        name: the file.
        paths: path of every sample of the universe.
        names: of the classes, by number.

    Raises:
        UserError: no such file or columns; a line that names no sample, no class, or a sample twice: which line, and how many are wrong.
    """
    file = root / name
    try:
        content = file.read_bytes()
        rows = list(csv.DictReader(content.decode().splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"dataset.verified: file '{file}' cannot be read ({error}); give a CSV below paths.data, or leave it out"
        ) from error
    head = set(rows[0]) if rows else set()
    key = next((column for column in COLUMNS if column in head), None)
    if key is None or "true_label" not in head:
        raise UserError(f"dataset.verified: file '{file}' needs the columns index (or path) and true_label, and at least one line")
    places = {path: place for place, path in enumerate(paths)} if key == "path" else {str(place): place for place in range(len(paths))}
    classes = {str(number): number for number in range(len(names))} | {label: number for number, label in enumerate(names)}
    labels = torch.full((len(paths),), -1, dtype=torch.int64)
    wrong = []
    for line, row in enumerate(rows, start=2):
        place, label = places.get((row[key] or "").strip()), classes.get((row["true_label"] or "").strip())
        if place is None or label is None or labels[place] >= 0:
            reason = "no such sample" if place is None else "no such class" if label is None else "a sample that stands twice"
            wrong.append(f"line {line}: {reason}")
        else:
            labels[place] = label
    if wrong:
        raise UserError(
            f"dataset.verified: {len(wrong)} of {len(rows)} lines of '{file}' do not fit the data set ({'; '.join(wrong[:3])}); mend them"
        )
    return labels, content

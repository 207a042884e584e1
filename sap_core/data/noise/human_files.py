"""Label files of CIFAR-N, read without running code from them.

A file is a torch file (a zip archive that contains a pickle) of integer arrays in the order of CIFAR's training batches. The pickle is read
by an unpickler that is restricted to such arrays (`sap_core.data.unpickle`).
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sap_core.crafted_files import check_expansion
from sap_core.data.unpickle import ForbiddenGlobalError, load_arrays
from sap_core.errors import UserError

FOLDERS = ("cifar-n", "cifar-10-100n/data")
"""Folders below the data folder: the files alone, or a clone of the official repository (github.com/UCSC-REAL/cifar-10-100n)."""

TRUE = "clean_label"
NUM = 50_000


@dataclass(frozen=True)
class Column:
    """One set of labels of the release."""

    file: str
    key: str
    rate: float  # published fraction of wrong labels; a test measures it
    sha256: str  # of the labels as little-endian 64-bit integers


COLUMNS: Mapping[str, Column] = {
    "aggregate": Column("CIFAR-10_human.pt", "aggre_label", 0.09010, "b3c3d486d22c3055756e7b1b1a0e98b099c1d68b771633023b0f76fa2e09ede6"),
    "random1": Column("CIFAR-10_human.pt", "random_label1", 0.17234, "b5dc9007ae247a48ce267bec37a1310b0cd65ed73801ca7e595fb954902575a7"),
    "random2": Column("CIFAR-10_human.pt", "random_label2", 0.18122, "1182c45d3a24636640fe1e3743b9566b6fabe86b2ed14f6b8216799e209a0d4e"),
    "random3": Column("CIFAR-10_human.pt", "random_label3", 0.17640, "b51e116c617ded2c98be095ba8b3abae8adfa6caa54f7f6eedf50c7aed013d44"),
    "worst": Column("CIFAR-10_human.pt", "worse_label", 0.40208, "a64d887522cf6d8f4966912a1536ea2d890600929a8465a7f307cdca2501847b"),
    "cifar100": Column("CIFAR-100_human.pt", "noisy_label", 0.40200, "4a1efd5da7a214b299cf6ac0bafe3f0d48c065b7aa2d40aa185d4711714bb311"),
}


def read_column(root: Path, column: Column) -> tuple[Tensor, Tensor]:
    """Return (true, given) labels, (50,000,) int64 each.

    Raises:
        UserError: the file is missing or damaged, would run code, or its labels are not the published ones.
    """
    # The plain copy of the files goes before a clone of the repository.
    path, content = _find(root, column.file), None
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"noise=human: file '{path}' cannot be read ({error.strerror}); check its permissions") from error
    table = _table(path, content)
    # True labels are read with every column, because the caller compares them with the data set's.
    true, given = (_labels(path, table, key) for key in (TRUE, column.key))
    # The digest is of the labels, not of the file, so that a file saved again with the same labels is accepted.
    if fingerprint(given) != column.sha256:
        raise UserError(f"noise=human: '{column.key}' in '{path}' differs from the published labels; fetch {column.file} again")
    return true, given


def fingerprint(labels: Tensor) -> str:
    """Return the SHA-256 of labels, independent of their file format."""
    # A fixed byte order, so that big-endian machines agree.
    return hashlib.sha256(labels.numpy().astype("<i8").tobytes()).hexdigest()


def _find(root: Path, name: str) -> Path:
    paths = [root / folder / name for folder in FOLDERS]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise UserError(
            f"noise=human: there is no file '{paths[0]}' or '{paths[1]}'; put {name} of the CIFAR-N release "
            f"(github.com/UCSC-REAL/cifar-10-100n, data folder) there, or set paths.data (now '{root}') to the folder that contains it"
        )
    return found


def _table(path: Path, content: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_expansion(archive, len(content))
            # The folder inside the archive is named after the saved file, so only the end of the name is known.
            inner = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            # Not `torch.load`: the release stores numpy arrays, which its safe mode refuses.
            table = load_arrays(archive.read(inner))
    except ForbiddenGlobalError as error:
        raise UserError(
            f"noise=human: file '{path}' would run '{error}' when loaded, which the official file does not; "
            f"nothing was run; delete it and fetch it again"
        ) from error
    # NotImplementedError and RuntimeError: compressed in a way that Python does not know, or encrypted.
    except (zipfile.BadZipFile, zlib.error, StopIteration, ValueError, EOFError, RuntimeError) as error:
        raise UserError(f"noise=human: file '{path}' is damaged ({error or 'it contains no data.pkl'}); fetch it again") from error
    if not isinstance(table, dict):
        raise UserError(f"noise=human: file '{path}' contains no named labels; fetch it again")
    return table


def _labels(path: Path, table: Mapping[str, Any], key: str) -> Tensor:
    if key not in table:
        raise UserError(f"noise=human: file '{path}' has no '{key}', but {', '.join(sorted(map(str, table)))}; fetch the official file")
    # Shape and dtype are checked before conversion, because float labels would be truncated silently.
    values = np.asarray(table[key])
    # The release covers the complete training set; a part of it could not be matched by position.
    if values.shape != (NUM,) or values.dtype.kind not in "iu":
        raise UserError(
            f"noise=human: '{key}' in '{path}' contains {values.dtype} of shape {values.shape}, not {NUM} labels; fetch it again"
        )
    return torch.from_numpy(values.astype(np.int64))

"""Images listed in a CSV or Parquet table with labels and splits: a data set of the user without any Python code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from sap_core.api import TaskType
from sap_core.data.audit import read_audit
from sap_core.data.constants import check_constants
from sap_core.data.image_files import Check, FilePixels, fingerprint
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.data.table_files import Rows, read_table
from sap_core.errors import UserError


@dataclass(frozen=True)
class Table:
    """A table with the columns `path`, `label`, `split` (train, val, test) and optionally `true_label`.

    Paths are relative to the folder of the table. The universe consists of the training rows, then the validation rows, in the order of the
    table; if there are rows of split `val`, no training rows are used for validation. Set `truth_known=true` if the labels are true, so
    that noise may be added. Set `true_labels=true` if the labels may be wrong and `true_label` contains the true ones: then scores on true
    labels, the measured noise rate and verified samples are available, and noise cannot be added. Test rows are scored by `true_label` if
    it exists. The counts are options, because a sweep is planned without reading files; a wrong one is refused with a message that contains
    the right one.
    """

    name: ClassVar[str] = "table"
    version: ClassVar[int] = 1
    kind: ClassVar[TaskType] = "classification"

    table: str
    num_classes: int
    num_train: int
    num_test: int
    size: int
    channels: Literal[1, 3] = 3
    mean: tuple[float, ...] = ()  # empty: no normalisation of pixels in [0, 1]
    std: tuple[float, ...] = ()
    truth_known: bool = False
    true_labels: bool = False
    digest: str = ""
    verify: bool = False
    validation: float | int = 0.1
    split_seed: int | None = None
    num_val: int = 0
    check: Check = "content"
    verified: str = ""

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        # Both are in the configuration: `validation` is what the planner reads, `num_val` says that rows of the table are meant.
        if self.num_val and self.validation != self.num_val:
            raise UserError(
                f"dataset.num_val={self.num_val} defines the validation samples, so dataset.validation must be {self.num_val}, too, "
                f"not {self.validation!r}; dataset.num_train counts training and validation samples"
            )
        if self.size < 1 or self.num_classes < 2 or self.num_test < 1:
            raise UserError(
                "a table needs dataset.size of at least 1, dataset.num_classes of at least 2 and dataset.num_test of at least 1"
            )
        check_constants(self.mean, self.std, "dataset", self.channels)
        if self.truth_known and self.true_labels:
            raise UserError(
                "dataset.truth_known=true means that the labels are true, and dataset.true_labels=true that true_label is; "
                "set only one of them"
            )
        if self.true_labels and self.verified:
            raise UserError("dataset.true_labels=true verifies every sample already; omit dataset.verified")
        if self.verify and not self.digest:
            raise UserError("dataset.verify=true needs dataset.digest, the digest to compare with; set it, or use dataset.verify=false")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    @property
    def audit_file(self) -> str:
        return self.verified

    @property
    def provides_true_labels(self) -> bool:
        return self.true_labels

    def files_read(self) -> tuple[str, ...]:
        # The table's folder, because its paths lie below it.
        folder = str(Path(self.table).parent)
        return (self.verified, folder) if self.verified else (folder,)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`; the digest depends on the images, the table and the audit file."""
        names, train, test = self._rows(root)
        base = self._file(root).parent
        # The table decides labels and splits, so it is part of the digest like the images.
        extra = self._file(root).read_bytes()
        if self.verified:
            extra += read_audit(root, self.verified, train.paths, names)[1]
        return fingerprint([base / path for path in train.paths + test.paths], base, self.check, self.digest, self.verify, extra)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read."""
        names, train, test = self._rows(root)
        base = self._file(root).parent
        return Source(
            FilePixels(tuple(base / path for path in train.paths), self.size, self.channels),
            torch.tensor(train.labels),
            FilePixels(tuple(base / path for path in test.paths), self.size, self.channels),
            # Tests are scored by true labels wherever there are any.
            torch.tensor(test.true or test.labels),
            own_validation=self.num_val,
            audited=read_audit(root, self.verified, train.paths, names)[0] if self.verified else None,
            true_labels=torch.tensor(train.true) if self.true_labels else None,
        )

    def _file(self, root: Path) -> Path:
        return root / self.table

    def _rows(self, root: Path) -> tuple[list[str], Rows, Rows]:
        """Return the class names, the rows of the universe, and the test rows."""
        file = self._file(root)
        names, rows = read_table(file, self.num_classes)
        train, val, test = rows["train"], rows["val"], rows["test"]
        # Validation rows at the end, where `own_validation` expects them.
        universe = Rows(train.paths + val.paths, train.labels + val.labels, train.true + val.true)
        # The configuration's numbers were used for the plan, so other numbers in the table would make its forecasts and ids wrong.
        for option, expected, found in (
            ("num_val", self.num_val, len(val.paths)),
            ("num_train", self.num_train, len(universe.paths)),
            ("num_test", self.num_test, len(test.paths)),
        ):
            if expected != found:
                raise UserError(
                    f"table '{file}' has {found} rows for dataset.{option}={expected}; set dataset.{option}={found} or fix the table"
                )
        # A class without a training sample can be neither learnt nor corrected.
        absent = sorted(set(range(self.num_classes)) - set(train.labels))
        if absent:
            shown = ", ".join(names[label] for label in absent[:3])
            raise UserError(f"table '{file}' has no training row for {len(absent)} of {self.num_classes} classes ({shown}); fix the table")
        if self.true_labels and len(universe.true) != len(universe.paths):
            raise UserError(
                f"dataset.true_labels=true needs a column true_label, which table '{file}' lacks; add it, or set dataset.true_labels=false"
            )
        return names, universe, test

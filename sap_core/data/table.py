"""Images that a table lists, with any labels: no Python needed to bring a set of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from sap_core.api import TaskType
from sap_core.data.audit import read_audit
from sap_core.data.image_files import Check, FilePixels, fingerprint
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.data.table_files import Rows, read_table
from sap_core.errors import UserError


@dataclass(frozen=True)
class Table:
    """A CSV or Parquet file of `path`, `label`, `split` (train, val, test) and, where it is known, `true_label`.

    Paths are below the table's own folder. The universe is the training rows, then the validation rows, in the table's order; with rows
    of split `val` nothing is cut off the training rows. A table without `true_label` is as good as its labels: `truth_known=true` says that
    they are right, so that noise may be added. With `true_labels=true` the labels may be wrong and `true_label` says what is right: then
    scores on true labels, the measured noise rate and verified samples exist, and noise cannot be added. Test rows count by `true_label`
    where there is one. Counts are told here, because a plan is made without the files; a wrong one is refused with the right one.
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
    mean: tuple[float, ...] = ()  # empty: pixels in [0, 1] as they are
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
        if self.num_val and self.validation != self.num_val:
            raise UserError(
                f"dataset.num_val={self.num_val} makes a validation part of its own, so dataset.validation must be {self.num_val}, too, "
                f"not {self.validation!r}; dataset.num_train counts both parts"
            )
        if self.size < 1 or self.num_classes < 2 or self.num_test < 1:
            raise UserError(
                "a table needs dataset.size of at least 1, dataset.num_classes of at least 2 and dataset.num_test of at least 1"
            )
        if len(self.mean) not in (0, self.channels) or len(self.std) != len(self.mean):
            raise UserError(f"dataset.mean and dataset.std need {self.channels} numbers each, one per channel, or none")
        if self.truth_known and self.true_labels:
            raise UserError(
                "dataset.truth_known=true says that the labels are right and dataset.true_labels=true that another column is; "
                "choose one of them"
            )
        if self.true_labels and self.verified:
            raise UserError("dataset.true_labels=true verifies every sample already; leave dataset.verified out")
        if self.verify and not self.digest:
            raise UserError(
                "dataset.verify=true needs dataset.digest, the fingerprint to compare with; give it or use dataset.verify=false"
            )

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
        folder = str(Path(self.table).parent)
        return (self.verified, folder) if self.verified else (folder,)

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`; the digest is of the images, the table and the audit."""
        names, train, test = self._rows(root)
        base = self._file(root).parent
        extra = self._file(root).read_bytes()
        if self.verified:
            extra += read_audit(root, self.verified, train.paths, names)[1]
        return fingerprint([base / path for path in train.paths + test.paths], base, self.check, self.digest, self.verify, extra)

    def load(self, root: Path) -> Source:
        """Lists the files; images are decoded when they are fetched."""
        names, train, test = self._rows(root)
        base = self._file(root).parent
        return Source(
            FilePixels(tuple(base / path for path in train.paths), self.size, self.channels),
            torch.tensor(train.labels),
            FilePixels(tuple(base / path for path in test.paths), self.size, self.channels),
            torch.tensor(test.true or test.labels),
            own_validation=self.num_val,
            audited=read_audit(root, self.verified, train.paths, names)[0] if self.verified else None,
            true_labels=torch.tensor(train.true) if self.true_labels else None,
        )

    def _file(self, root: Path) -> Path:
        return root / self.table

    def _rows(self, root: Path) -> tuple[list[str], Rows, Rows]:
        """Class names, the universe and the test rows."""
        file = self._file(root)
        names, rows = read_table(file, self.num_classes)
        train, val, test = rows["train"], rows["val"], rows["test"]
        universe = Rows(train.paths + val.paths, train.labels + val.labels, train.true + val.true)
        for option, asked, found in (
            ("num_val", self.num_val, len(val.paths)),
            ("num_train", self.num_train, len(universe.paths)),
            ("num_test", self.num_test, len(test.paths)),
        ):
            if asked != found:
                raise UserError(
                    f"table '{file}' gives {found} for dataset.{option}={asked}; set dataset.{option}={found} or mend the table"
                )
        absent = sorted(set(range(self.num_classes)) - set(train.labels))
        if absent:
            shown = ", ".join(names[label] for label in absent[:3])
            raise UserError(f"table '{file}' has no training row for {len(absent)} of {self.num_classes} classes ({shown}); mend the table")
        if self.true_labels and len(universe.true) != len(universe.paths):
            raise UserError(f"dataset.true_labels=true needs a column true_label, which table '{file}' lacks; add it or use false")
        return names, universe, test

"""Images listed in a CSV or Parquet table with labels and splits: a data set of the user without any Python code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from sap_core.api import TaskType
from sap_core.data.audit import read_audit
from sap_core.data.class_names import ClassNames, check_order, order_bytes, order_file
from sap_core.data.constants import check_constants
from sap_core.data.duplicates import Duplicates, Policy, check_policy
from sap_core.data.file_facts import FileFacts, Reading, numbered, read_headers
from sap_core.data.image_files import Check, FilePixels, examine, fingerprint
from sap_core.data.image_modes import Decoding, Orientation, Transparency
from sap_core.data.listing import NOT_COMPARED, Listing
from sap_core.data.names import first_names, located, printable, relative
from sap_core.data.source import Classes, Fingerprint, Source
from sap_core.data.splits import validation_count
from sap_core.data.table_errors import not_listed, refuse_missing, wrong_row_count
from sap_core.data.table_files import SPLITS, Rows, class_names, read_table
from sap_core.errors import UserError


@dataclass(frozen=True)
class Table:
    """A table with the columns `path`, `label`, `split` (train, val, test) and optionally `true_label`.

    Paths are relative to the folder of the table. The universe consists of the training rows, then the validation rows, in the order of the
    table; if there are rows of split `val`, `validation` is their number, and no training rows are used for validation. Set
    `truth_known=true` if the labels are true, so that noise may be added. Set `true_labels=true` if the labels may be wrong and
    `true_label` contains the true ones: then scores on true labels, the measured noise rate and verified samples are available, and noise
    cannot be added. Test rows are scored by `true_label` if it exists. Images that occur more than once are treated as `duplicates` says
    (see `sap_core.data.duplicates`). The counts are options, of the rows that remain if copies are dropped, which `read_options` reads from
    the table; a wrong one is refused with a message that contains the right one.
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
    check: Check = "content"
    verified: str = ""
    class_order: str = "text"
    transparency: Transparency = "refuse"
    orientation: Orientation = "ignore"
    value_range: tuple[float, ...] = ()
    duplicates: Policy = "warn"

    def __post_init__(self) -> None:
        validation_count(self.num_train, self.validation)
        check_policy(self.duplicates, self.check)
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
        check_order(self.class_order)
        # Built here for its checks.
        _ = self.decoding
        if self.verify and not self.digest:
            raise UserError("dataset.verify=true needs dataset.digest, the digest to compare with; set it, or use dataset.verify=false")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.channels, self.size, self.size)

    @property
    def classes(self) -> Classes:
        return Classes(self.num_classes)

    @property
    def decoding(self) -> Decoding:
        """How files are decoded."""
        return Decoding(self.transparency, self.orientation, tuple(self.value_range))

    @property
    def audit_file(self) -> str:
        return self.verified

    @property
    def provides_true_labels(self) -> bool:
        return self.true_labels

    def files_read(self) -> tuple[str, ...]:
        # The table's folder, because its paths lie below it.
        folder = str(Path(self.table).parent)
        return (*filter(None, (self.verified, order_file(self.class_order))), folder)

    def class_names(self, root: Path) -> ClassNames | None:
        """See `NamesClasses`. Reads the table."""
        file = self._file(root)
        return class_names(file, self.num_classes, self.class_order, root) if file.is_file() else None

    def inspect(self, root: Path) -> Fingerprint:
        """See `DataSet.inspect`; the digest depends on the images, the table and the audit file."""
        whole, _ = self._listed(root)
        file, base = self._file(root), self._file(root).parent
        # Numbers are compared before files are decoded, which takes longer; those of a table of which rows are dropped are known after.
        if self.duplicates != "drop":
            self._check_counts(root, whole)
        refuse_missing(whole.files, file)
        read = examine(whole.files, base, self.check, self.channels, self.decoding)
        notes = read.notes if read.contents is not None else (f"{NOT_COMPARED}; only paths were compared",)
        # One file in two rows is found without decoding, too.
        contents = read.contents or [os.path.realpath(path).encode("utf-8", "surrogateescape") for path in whole.files]
        found, dropped = whole.copies(self.duplicates, base, contents)
        listed = whole.without(dropped)
        if self.duplicates == "drop":
            self._check_counts(root, listed, found)
        # The table decides labels and splits, so it is part of the digest like the images.
        extra = file.read_bytes()
        if self.verified:
            extra += self._audit(root, whole, read.contents)[1]
        # Names decide the labels as the table does, but not in its bytes.
        extra += order_bytes(whole.names, self.class_order)
        marks = [mark for place, mark in enumerate(read.marks) if place not in dropped]
        result = fingerprint(listed.files, base, marks, self.digest, self.verify, extra)
        return replace(result, notes=(*notes, *not_listed(whole.files, base)), duplicates=found)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read, and once before if copies are dropped or an audit marks them."""
        whole, true = self._listed(root)
        base = self._file(root).parent
        dropped, found, contents = frozenset[int](), None, None
        if self.duplicates == "drop" or (self.verified and self.check == "content"):
            contents = examine(whole.files, base, "content", self.channels, self.decoding).contents
        if self.duplicates == "drop" and contents is not None:
            found, dropped = whole.copies(self.duplicates, base, contents)
        listed = whole.without(dropped)
        self._check_counts(root, listed, found)
        kept = [place for place in range(len(whole.universe)) if place not in dropped]
        return Source(
            FilePixels(tuple(path for path, _ in listed.universe), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in listed.universe]),
            FilePixels(tuple(path for path, _ in listed.test), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in listed.test]),
            own_validation=len(listed.val),
            audited=self._audit(root, whole, contents)[0][kept] if self.verified else None,
            true_labels=torch.tensor(true)[kept] if self.true_labels else None,
        )

    def _file(self, root: Path) -> Path:
        return located(root, self.table)

    @classmethod
    def read_options(cls, settings: Mapping[str, Any], root: Path) -> FileFacts:
        """See `ReadsOptions`. Reads the table and the header of every image, of large tables of some."""
        file = located(root, str(settings["table"]))
        classes, rows = read_table(file, None, str(settings.get("class_order", cls.class_order)), root)
        names = list(classes.names)
        listed = _listing(file, names, rows)
        if settings.get("duplicates") == "drop":
            refuse_missing(listed.files, file)
            channels: Literal[1, 3] = 1 if settings.get("channels") == 1 else 3
            read = examine(listed.files, file.parent, "content", channels, Decoding.of(settings))
            listed = listed.without(listed.copies("drop", file.parent, read.contents or [])[1])
        for option, files in (("num_train", listed.universe), ("num_test", listed.test)):
            # Numbers that are given are compared here, where it is known what is counted in.
            if type(settings.get(option)) is int and settings[option] != len(files):
                raise wrong_row_count(file, option, settings[option], [path for path, _ in files], "content", None)
        train, val, test = len(listed.train), len(listed.val), len(listed.test)
        for split, count in (("train", train), ("test", test)):
            if not count:
                raise UserError(f"table '{printable(file)}' has no row of split {split}; add some")
        # Before headers are read: a missing file is not one that is no image.
        refuse_missing(listed.files, file)
        options = {
            "num_classes": Reading(len(names), f"column label: {numbered(names)}"),
            "num_train": Reading(train + val, f"rows of split train ({train}) and val ({val})" if val else "rows of split train"),
            "num_test": Reading(test, "rows of split test"),
        }
        if val:
            options["validation"] = Reading(val, "rows of split val")
        headers = read_headers(listed.files, file.parent)
        return FileFacts(options, names, headers, validation_part="split val" if val else "")

    def _audit(self, root: Path, whole: Listing, contents: list[bytes] | None) -> tuple[Tensor, bytes]:
        """Return the verified labels of the universe before copies are dropped, and the bytes of the file."""
        base = self._file(root).parent
        paths = [relative(path, base) for path, _ in whole.universe]
        # Equal contents have one true label, so a line marks all copies; without decoding, those of equal paths.
        of_universe = None if contents is None else contents[: len(paths)]
        return read_audit(root, self.verified, paths, whole.names, of_universe, base, by_position=self.duplicates != "drop")

    def _listed(self, root: Path) -> tuple[Listing, list[int]]:
        """Return the rows as files with classes, and the true labels of the universe (empty if the table has none)."""
        file = self._file(root)
        classes, rows = read_table(file, self.num_classes, self.class_order, root)
        listed, true = _listing(file, list(classes.names), rows), rows["train"].true + rows["val"].true
        if self.true_labels and len(true) != len(listed.universe):
            raise UserError(
                f"dataset.true_labels=true needs a column true_label, which table '{printable(file)}' lacks; add it, or set "
                f"dataset.true_labels=false"
            )
        return listed, true

    def _check_counts(self, root: Path, listed: Listing, dropped: Duplicates | None = None) -> None:
        """Compare the numbers of rows with the options; `dropped` are the copies that were removed from them."""
        file = self._file(root)
        # The configuration's numbers were used for the plan, so other numbers in the table would make its forecasts and ids wrong.
        for option, expected, files in (
            ("validation", self.validation if listed.val else 0, listed.val),
            ("num_train", self.num_train, listed.universe),
            ("num_test", self.num_test, listed.test),
        ):
            if expected != len(files):
                raise wrong_row_count(file, option, expected, [path for path, _ in files], self.check, dropped)
        # A class without a training sample can be neither learnt nor corrected.
        absent = sorted(set(range(self.num_classes)) - {label for _, label in listed.train})
        if absent:
            left = " that dataset.duplicates=drop leaves" if dropped is not None and dropped.dropped else ""
            raise UserError(
                f"table '{printable(file)}' has no training row{left} for {len(absent)} of {self.num_classes} classes "
                f"({first_names([listed.names[label] for label in absent], 3)}); fix the table"
            )


def _listing(file: Path, names: list[str], rows: Mapping[str, Rows]) -> Listing:
    # Tests are scored by true labels wherever there are any.
    labels = {split: (part.true or part.labels) if split == "test" else part.labels for split, part in rows.items()}
    train, val, test = (
        [(file.parent / path, label) for path, label in zip(rows[split].paths, labels[split], strict=True)] for split in SPLITS
    )  # fmt: skip
    return Listing(names, train, val, test)

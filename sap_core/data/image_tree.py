"""Folder trees of images by part and class, `PART/CLASS/*.jpg`, the format of most large data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from sap_core.data import tree_errors
from sap_core.data.audit import read_audit
from sap_core.data.class_names import ClassNames, check_look_alikes, listed_names, order_bytes, order_classes, order_note
from sap_core.data.duplicates import Duplicates, Policy
from sap_core.data.image_files import Check, Examined, FilePixels, examine, fingerprint
from sap_core.data.image_modes import AS_RELEASED, Decoding
from sap_core.data.listing import NOT_COMPARED, Listing
from sap_core.data.missing_folder import missing_folder
from sap_core.data.names import located, relative
from sap_core.data.source import Fingerprint, Source
from sap_core.data.tree_listing import NotRead, PartFiles, hidden_in, list_part


@dataclass(frozen=True)
class Part:
    """One part of a tree.

    Attributes:
        name: name of the folder.
        count: expected number of images, for the training part together with the validation part; None: any number.
        option: option of the data set with this number, for messages; "" if it is fixed.
        name_option: option of the data set with the name of the folder; "" if it is fixed.
    """

    name: str
    count: int | None
    option: str = ""
    name_option: str = ""


@dataclass(frozen=True)
class ImageTree:
    """Location and expected content of a tree. Classes are the folders in the training part, numbered in the order `class_order`."""

    folder: str  # below the data folder
    num_classes: int | None  # None: any number
    train: Part
    test: Part
    size: int
    channels: Literal[1, 3] = 3
    val: Part | None = None  # the set's own validation part, if it has one
    check: Check = "content"
    verified: str = ""  # path of an audit file (see `audit`) below the data folder; "" for none
    class_order: str = "text"  # see `sap_core.data.class_names.order_classes`
    decoding: Decoding = AS_RELEASED
    duplicates: Policy | None = None  # None: not looked for

    def inspect(self, root: Path, verify: bool, digest: str) -> Fingerprint:
        """See `DataSet.inspect`. The digest depends on names, contents (or sizes), and the audit file."""
        base, whole = located(root, self.folder), self._list(root)
        # Numbers are compared before files are decoded, which takes longer; those of a set from which copies are dropped are known after.
        if self.duplicates != "drop":
            self._check_counts(root, whole)
        read = examine(whole.files, base, self.check, self.channels, self.decoding)
        listed, marks, found, notes = whole, read.marks, None, (*whole.not_read.notes(), *read.notes)
        if self.duplicates is not None:
            if read.contents is None:
                notes = (*notes, NOT_COMPARED)
            else:
                found, dropped = whole.copies(self.duplicates, base, read.contents)
                listed, marks = whole.without(dropped), [mark for place, mark in enumerate(marks) if place not in dropped]
        if self.duplicates == "drop":
            self._check_counts(root, listed, found)
        # The audit determines verified samples, so results depend on it as they do on the images.
        extra = self._audit(root, whole, read)[1] if self.verified else b""
        extra += order_bytes(whole.names, self.class_order)
        return replace(fingerprint(listed.files, base, marks, digest, verify, extra), notes=notes, duplicates=found)

    def load(self, root: Path) -> Source:
        """List the files; images are decoded when they are read, and once before if copies are dropped or an audit marks them."""
        base, whole = located(root, self.folder), self._list(root)
        listed, dropped, found, read = whole, frozenset[int](), None, None
        if self.duplicates == "drop" or (self.verified and self.duplicates is not None and self.check == "content"):
            read = examine(whole.files, base, "content", self.channels, self.decoding)
        if self.duplicates == "drop" and read is not None and read.contents is not None:
            found, dropped = whole.copies(self.duplicates, base, read.contents)
            listed = whole.without(dropped)
        self._check_counts(root, listed, found)
        audited = None
        if self.verified:
            audited = self._audit(root, whole, read)[0][[place for place in range(len(whole.universe)) if place not in dropped]]
        return Source(
            FilePixels(tuple(path for path, _ in listed.universe), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in listed.universe]),
            FilePixels(tuple(path for path, _ in listed.test), self.size, self.channels, self.decoding),
            torch.tensor([label for _, label in listed.test]),
            own_validation=len(listed.val),
            audited=audited,
        )

    def list_files(self, root: Path) -> Listing:
        """List the class names and the files of each part; decodes the files if copies are dropped.

        Raises:
            UserError: a folder is missing, the numbers of classes or images are not the expected ones, or a class has no image.
        """
        base, listed, found = located(root, self.folder), self._list(root), None
        if self.duplicates == "drop":
            read = examine(listed.files, base, "content", self.channels, self.decoding)
            found, dropped = listed.copies("drop", base, read.contents or [])
            listed = listed.without(dropped)
        self._check_counts(root, listed, found)
        return listed

    def _audit(self, root: Path, whole: Listing, read: Examined | None) -> tuple[torch.Tensor, bytes]:
        """Return the verified labels of the universe before copies are dropped, and the bytes of the file."""
        base = located(root, self.folder)
        paths = [relative(path, base) for path, _ in whole.universe]
        # Equal contents have one true label, so a line marks all copies; without decoding, those of equal paths.
        contents = read.contents[: len(paths)] if read is not None and read.contents is not None else None
        return read_audit(root, self.verified, paths, whole.names, contents, base, by_position=self.duplicates != "drop")

    def _list(self, root: Path) -> Listing:
        """List all files, without comparing their numbers with the options."""
        base = located(root, self.folder)
        parts = [part for part in (self.train, self.val, self.test) if part]
        found = [self._part(root, part, [other.name for other in parts if other is not part]) for part in parts]
        train = found[0]
        # Classes are numbered by the training part alone, so that a test part cannot renumber them.
        names, _ = self._numbered(root, list(train.classes))
        tree_errors.check_classes(train, self.num_classes, self.train.option)
        for part, files in zip(parts[1:], found[1:], strict=True):
            tree_errors.check_equal_classes(files, names, part.name_option)
        not_read = NotRead(hidden=hidden_in(base) if self.train.name != "." else [])
        for files in found:
            not_read.add(files.not_read)
        numbered = [[(path, label) for label, name in enumerate(names) for path in files.classes[name]] for files in found]
        return Listing(names, numbered[0], numbered[1] if self.val else [], numbered[-1], not_read)

    def class_names(self, root: Path) -> ClassNames | None:
        """See `NamesClasses`."""
        folder = located(root, self.folder) / self.train.name
        if not folder.is_dir():
            return None
        others = [part.name for part in (self.val, self.test) if part]
        names, alike = self._numbered(root, list(self._part(root, self.train, others).classes))
        return ClassNames(tuple(names), alike + order_note(names, self.class_order, str(folder)))

    def _numbered(self, root: Path, found: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
        """Return the class folders in the order of their numbers, and sentences about names that look alike."""
        where = str(located(root, self.folder) / self.train.name)
        alike = check_look_alikes(found, where, listed_names(root, self.class_order))
        return order_classes(found, self.class_order, root, where), alike

    def _part(self, root: Path, part: Part, others: list[str]) -> PartFiles:
        base = located(root, self.folder)
        missing: Callable[[OSError], Exception] = lambda error: missing_folder(root, base, part.name, part.name_option, error)  # noqa: E731
        return list_part(base, part.name, others, missing)

    def explain_counts(self, root: Path, listed: Listing, given: Mapping[str, int]) -> None:
        """Compare numbers of images that the user gave, by option, where damaged files or files that are not read explain a difference.

        Raises:
            UserError: they do.
        """
        for part in self._counted(root, listed):
            expected = given.get(part.option, part.right)
            explained = tree_errors.explained_count(replace(part, expected=expected)) if expected != part.right else None
            if explained is not None:
                raise explained

    def _check_counts(self, root: Path, listed: Listing, dropped: Duplicates | None = None) -> None:
        """Compare the numbers of images with the options; `dropped` are the copies that were removed from them."""
        for part in self._counted(root, listed, dropped):
            if part.right != part.expected:
                raise tree_errors.wrong_count(part)
            # A class without images would leave a gap in the labels that no error shows later.
            tree_errors.check_filled(part.folder, listed.names, {label for _, label in part.files}, dropped is not None)

    def _counted(self, root: Path, listed: Listing, dropped: Duplicates | None = None) -> Iterator[tree_errors.Counted]:
        base = located(root, self.folder)
        parts = [
            (self.train, listed.train, len(listed.val)),
            *([(self.val, listed.val, 0)] if self.val else []),
            (self.test, listed.test, 0),
        ]
        for part, files, others in parts:
            expected = len(files) + others if part.count is None else part.count
            yield tree_errors.Counted(
                base / part.name, files, listed.names, expected, part.option, others, listed.not_read, self.check, dropped
            )  # fmt: skip

"""Error messages of image trees: what is wrong with folders, classes and numbers of images, and advice that is right for what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sap_core.data.class_names import look_alike, shown
from sap_core.data.duplicates import Duplicates
from sap_core.data.image_files import Check, damaged, named_problems
from sap_core.data.missing_folder import PART_NAMES
from sap_core.data.names import first_names, printable
from sap_core.data.tree_listing import NotRead, PartFiles
from sap_core.errors import UserError


def check_classes(train: PartFiles, expected: int | None, option: str) -> None:
    """Compare the number of class folders in the training part with the expected one.

    Args:
        train: the training part.
        expected: number of classes; None: any.
        option: option with the number of training images; "" if numbers are fixed.

    Raises:
        UserError: there are fewer than two class folders, or not as many as expected.
    """
    names, empty = list(train.classes), train.empty
    where = f"folder '{printable(train.folder)}'"
    if len(names) < 2:
        beside = f", and {len(train.not_read.beside)} images that are in no class folder" if train.not_read.beside else ""
        found = f"1 class folder ({printable(names[0])})" if names else "no class folder"
        wanted = "at least two" if expected is None else f"at least two, and dataset.num_classes={expected}"
        raise UserError(
            f"{where} contains {found}{beside}; a classifier needs {wanted}: put the images of each class into a folder of its own"
        )
    if expected is None or len(names) == expected:
        return
    head = f"{where} contains {len(names)} class folders, but dataset.num_classes={expected}"
    doubtful = [name for name in names if name.lower() in PART_NAMES]
    if empty:
        left = len(names) - len(empty)
        then = "" if left == expected else f", and set dataset.num_classes={left}" if option else ""
        raise UserError(f"{head}; {len(empty)} of them contain no image ({first_names(empty)}): delete or fill these{then}")
    if doubtful:
        raise UserError(
            f"{head}; among them are {first_names(doubtful)}, which look like parts of the data set and not like classes: "
            f"set dataset.train_folder to the folder that contains the classes, move them elsewhere, or, if they are classes, too, set "
            f"dataset.num_classes={len(names)}"
        )
    remedy = f"set dataset.num_classes={len(names)} or fix the folder" if option else "fix the folder"
    raise UserError(f"{head}; {remedy} (the classes would be {first_names(names)})")


def check_equal_classes(part: PartFiles, names: Sequence[str], name_option: str = "") -> None:
    """Check that a part has the class folders of the training part.

    Args:
        part: the part.
        names: the class folders of the training part.
        name_option: option with the name of the part's folder; "" if it is fixed.

    Raises:
        UserError: some are missing or surplus; both are named.
    """
    # Validation images need no folder.
    without = (
        ", or set dataset.val_folder=none to draw validation images from the training images" * (name_option == "dataset.val_folder")
    )  # fmt: skip
    if part.count == 0 and not set(part.classes) - set(names):
        raise UserError(
            f"folder '{printable(part.folder)}' contains no image in a class folder; put images into "
            f"{printable(part.folder.name)}/CLASS/{without}{_left_out(part.not_read)}"
        )
    # Compared in both directions: a missing class folder and a surplus one are different mistakes.
    lacking = [name for name in names if name not in part.classes]
    surplus = [name for name in part.classes if name not in set(names)]
    problems = [
        *([f"lacks {len(lacking)} of {len(names)} class folders: {_named(lacking, part.classes)}"] if lacking else []),
        *([f"has class folders that the training part lacks: {len(surplus)}: {_named(surplus, names)}"] if surplus else []),
    ]
    if problems:
        raise UserError(f"folder '{printable(part.folder)}' {', and '.join(problems)}; fix the folder{without}")


def _named(classes: Sequence[str], others: Iterable[str]) -> str:
    """Return the first names, and the first of them that the other part has in another spelling."""
    others = list(others)
    pairs = ((name, look_alike(name, others)) for name in classes)
    alike = next((f" ({shown(name)} may be {shown(other)} of the other part)" for name, other in pairs if other is not None), "")
    return first_names(classes) + alike


def check_filled(folder: Path, names: Sequence[str], filled: set[int], dropped: bool) -> None:
    """Check that every class has an image.

    Raises:
        UserError: a class has none.
    """
    empty = [name for label, name in enumerate(names) if label not in filled]
    if empty and dropped:
        raise UserError(
            f"dataset.duplicates=drop leaves {len(empty)} of {len(names)} classes of '{printable(folder)}' without an image: "
            f"{first_names(empty)}; mend their labels, or set dataset.duplicates=warn"
        )
    if empty:
        raise UserError(
            f"folder '{printable(folder)}' has {len(empty)} of {len(names)} class folders without an image: {first_names(empty)}; "
            f"fix the folder"
        )


@dataclass(frozen=True)
class Counted:
    """The images of one part, and their expected number.

    Attributes:
        folder: folder of the part.
        files: its images, each with its class.
        names: of the classes.
        expected: the configured number, which counts `others`, too.
        option: option with this number; "" if it is fixed.
        others: validation images that the option counts as well.
        not_read: what the data set contains besides.
        check: check of files.
        dropped: copies that were removed from the files; None if none were looked for.
    """

    folder: Path
    files: Sequence[tuple[Path, int]]
    names: Sequence[str]
    expected: int
    option: str
    others: int
    not_read: NotRead
    check: Check
    dropped: Duplicates | None = None

    @property
    def right(self) -> int:
        """The number that the option would have to be."""
        return len(self.files) + self.others

    @property
    def head(self) -> str:
        """What is wrong, without a remedy."""
        dropped = self.dropped.dropped if self.dropped else 0
        left = f" after dataset.duplicates=drop removed {dropped} copies from all parts" if dropped else ""
        name = self.option or "the published number"
        return f"folder '{printable(self.folder)}' contains {len(self.files)} images{left}, but {name}={self.expected}"


def explained_count(part: Counted) -> UserError | None:
    """Return the error for a wrong number of images that is explained by damaged files or by images that are not read, or None.

    No number is advised that would count damaged files in.
    """
    bad = damaged([path for path, _ in part.files], part.check)
    if bad:
        rest = part.right - len(bad)
        then = (
            "the number is then right"
            if rest == part.expected
            else f"then set {part.option}={rest}"
            if part.option
            else "then compare again"
        )
        return UserError(
            f"{part.head}; {len(bad)} of them are damaged or not images: {named_problems(bad)}; delete them ({then}) or replace them"
        )
    not_read = part.not_read
    for paths, what in ((not_read.nested, "in folders below class folders"), (not_read.beside, "beside the class folders")):
        if paths and part.right + len(paths) == part.expected:
            return UserError(
                f"{part.head}; {len(paths)} more are {what}, which are not read ({first_names(paths)}); move them into their class folders"
            )
    return None


def wrong_count(part: Counted) -> UserError:
    """Return the error for a wrong number of images. It advises a number only if each of them is an image that was meant."""
    if not part.option:
        return UserError(f"{part.head}; fix the folder{_left_out(part.not_read)}")
    explained = explained_count(part)
    if explained is not None:
        return explained
    if part.right < 1:
        return UserError(f"{part.head}; put images into its class folders{_left_out(part.not_read)}")
    if part.dropped is not None:
        train, val, test = part.dropped.remaining
        numbers = f"dataset.num_train={train} dataset.num_test={test}" + (f" dataset.validation={val}" if val else "")
        return UserError(f"{part.head}; set {numbers}, the numbers that remain")
    per_class = Counter(label for _, label in part.files)
    counted = first_names([f"{name} {per_class[label]}" for label, name in enumerate(part.names)])
    besides = f" and {part.others} in the validation part" if part.others else ""
    return UserError(
        f"{part.head}; set {part.option}={part.right}, leave it out to count the files, or fix the folder (counted in: {counted}{besides})"
        f"{_left_out(part.not_read)}"
    )


def _left_out(not_read: NotRead) -> str:
    notes = "; ".join(not_read.notes())
    return f"; {notes}" if notes else ""

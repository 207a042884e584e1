"""Error messages of image trees: what is wrong with folders, classes and numbers of images, and advice that is right for what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from sap_core.data.class_names import look_alike, shown
from sap_core.data.duplicates import Duplicates
from sap_core.data.image_files import Check, damaged, named_problems
from sap_core.data.names import first_names, printable
from sap_core.data.tree_listing import NotRead, PartFiles, folders_in, images_in
from sap_core.errors import UserError

_PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"})
"""Folder names that are rarely classes."""


def missing_folder(root: Path, base: Path, part: str, option: str, error: OSError) -> UserError:
    """Return the error for the folder of a part that cannot be read, with what is there instead.

    Args:
        root: data folder.
        base: folder of the data set.
        part: name of the part's folder below `base`.
        option: option with this name; "" if it is fixed.
        error: the error of the operating system.
    """
    folder = base / part
    head = f"there is no readable folder '{printable(folder)}' ({error.strerror})"
    if base.is_file() or root.is_file():
        return UserError(
            f"{head}: '{printable(base if base.is_file() else root)}' is a file; extract it, and name the folder of the images"
        )
    if not base.is_dir():
        # The data folder is not the working directory, where the shell completes names.
        here = Path.cwd() / base.name
        if here.is_dir() and option:
            return UserError(f"{head}; write dataset.folder='{here}', which exists")
        there = f"; '{printable(root)}' contains the folders {first_names(folders_in(root))}" if folders_in(root) else ""
        return UserError(f"{head}; set paths.data to the folder that contains the data set, or fix dataset.folder{there}")
    inside = folders_in(base)
    classes = [name for name in inside if images_in(base / name)]
    key = f", or name another folder with {option}=NAME" if option else ""
    if classes and option == "dataset.train_folder":
        # The class folders lie where the parts should be. Classes beside a test folder can be named; without one they must be moved.
        parts = [name for name in inside if name.lower() in _PART_NAMES]
        remedy = f"set {option}=. to read them as classes, except the folders of the other parts" if parts else (
            "move them into a folder train, and test images into a folder test with the same class folders"
        )  # fmt: skip
        return UserError(f"{head}: '{printable(base)}' itself contains folders of images ({first_names(classes)}); {remedy}")
    there = f"'{printable(base)}' contains the folders {first_names(inside)}" if inside else f"'{printable(base)}' contains no folder"
    return UserError(f"{head}: {there}; put one folder per class into '{printable(folder)}'{key}; or fix paths.data and dataset.folder")


def check_classes(base: Path, train: PartFiles, expected: int | None, option: str, others: Sequence[str]) -> None:
    """Compare the number of class folders in the training part with the expected one.

    Args:
        base: folder of the data set.
        train: the training part.
        expected: number of classes; None: any.
        option: option with the number of training images; "" if numbers are fixed.
        others: names of the folders of the other parts.

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
    doubtful = [name for name in names if name.lower() in _PART_NAMES and name not in others]
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


def check_equal_classes(part: PartFiles, names: Sequence[str]) -> None:
    """Check that a part has the class folders of the training part.

    Raises:
        UserError: some are missing or surplus; both are named.
    """
    # Compared in both directions: a missing class folder and a surplus one are different mistakes.
    lacking = [name for name in names if name not in part.classes]
    surplus = [name for name in part.classes if name not in set(names)]
    problems = [
        *([f"lacks {len(lacking)} of {len(names)} class folders: {first_names(lacking)}"] if lacking else []),
        *([f"has class folders that the training part lacks: {len(surplus)}: {first_names(surplus)}"] if surplus else []),
    ]
    if not problems:
        return
    # The other part may have it in another spelling.
    pairs = [(name, look_alike(name, part.classes if name in lacking else names)) for name in [*lacking, *surplus]]
    alike = [f"{shown(name)} may be {shown(other)} of the other part" for name, other in pairs if other is not None]
    hint = f" ({first_names(alike[:1])})" if alike else ""
    raise UserError(f"folder '{printable(part.folder)}' {', and '.join(problems)}{hint}; fix the folder")


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


def wrong_count(
    folder: Path, files: Sequence[Path], names: Sequence[str], labels: Sequence[int], expected: int, option: str, others: int,
    not_read: NotRead, check: Check, dropped: Duplicates | None,
) -> UserError:  # fmt: skip
    """Return the error for a wrong number of images. It advises a number only if each of them is an image that was meant.

    Args:
        folder: folder of the part.
        files: its images.
        names: of the classes.
        labels: class of each image.
        expected: the configured number, which counts `others`, too.
        option: option with this number; "" if it is fixed.
        others: validation images that the option counts as well.
        not_read: what the data set contains besides.
        check: check of files.
        dropped: copies that were removed from the files; None if none were looked for.
    """
    right = len(files) + others
    per_class = Counter(labels)
    counted = first_names([f"{name} {per_class[label]}" for label, name in enumerate(names)])
    besides = f" and {others} in the validation part" if others else ""
    left = f" after dataset.duplicates=drop removed {dropped.dropped} copies from all parts" if dropped and dropped.dropped else ""
    head = f"folder '{printable(folder)}' contains {len(files)} images{left}, but {option or 'the published number'}={expected}"
    if not option:
        return UserError(f"{head}; fix the folder{_left_out(not_read)}")
    bad = damaged(files, check)
    if bad:
        # Without the damaged files the number may be right, so none is advised that would count them in.
        rest = right - len(bad)
        then = "the number is then right" if rest == expected else f"then set {option}={rest}"
        return UserError(
            f"{head}; {len(bad)} of them are damaged or not images: {named_problems(bad)}; delete them ({then}) or replace them"
        )
    if right < 1:
        return UserError(f"{head}; put images into its class folders{_left_out(not_read)}")
    for paths, what in ((not_read.nested, "in folders below class folders"), (not_read.beside, "beside the class folders")):
        if paths and right + len(paths) == expected:
            return UserError(
                f"{head}; {len(paths)} more are {what}, which are not read ({first_names(paths)}); move them into their class folders"
            )
    if dropped is not None:
        train, _, test = dropped.remaining
        return UserError(f"{head}; set dataset.num_train={train} dataset.num_test={test}, the numbers that remain")
    return UserError(f"{head}; set {option}={right} or fix the folder (counted in: {counted}{besides}){_left_out(not_read)}")


def _left_out(not_read: NotRead) -> str:
    notes = "; ".join(not_read.notes())
    return f"; {notes}" if notes else ""

"""The error message for the folder of an image tree that cannot be read. Needs no torch, so that a mistyped folder is reported at once."""

from __future__ import annotations

from pathlib import Path

from sap_core.data.names import first_names, printable
from sap_core.data.tree_listing import folders_in, images_in
from sap_core.errors import UserError

PART_NAMES = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"})
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
    if isinstance(error, PermissionError):
        return UserError(f"folder '{printable(error.filename)}' cannot be read ({error.strerror}); change its permissions")
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
    if classes and option == "dataset.train_folder":
        # The class folders lie where the parts should be. Classes beside a test folder can be named; without one they must be moved.
        parts = [name for name in inside if name.lower() in PART_NAMES]
        remedy = f"set {option}=. to read them as classes, except the folders of the other parts" if parts else (
            "move them into a folder train, and test images into a folder test with the same class folders"
        )  # fmt: skip
        return UserError(f"{head}: '{printable(base)}' itself contains folders of images ({first_names(classes)}); {remedy}")
    key = f", or name the folder that contains them with {option}=NAME" if option else ""
    there = f"'{printable(base)}' has {f'the folders {first_names(inside)}' if inside else 'no folder'}"
    return UserError(f"{head}: {there}; put images into {printable(part)}/CLASS/{key}")

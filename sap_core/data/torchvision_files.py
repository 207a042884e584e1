"""Published files in the folders and with the checksums of torchvision: errors, verification and download.

A test compares the checksums with torchvision's. torchvision is imported only to download.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sap_core.errors import UserError


@dataclass(frozen=True)
class Published:
    """A data set that torchvision can download."""

    name: str  # name of the class in torchvision.datasets
    folder: str  # below the data folder
    md5: Mapping[str, str]  # name of a published file -> MD5


def missing(published: Published, root: Path, path: Path) -> UserError:
    """Return the error for a file that does not exist."""
    return UserError(
        f"{published.name}: there is no file '{path}'; set paths.data (now '{root}') to the folder that contains "
        f"'{published.folder}', or set dataset.download=true to download the set into it"
    )


def damaged(published: Published, path: Path, why: object) -> UserError:
    """Return the error for a file whose content is not of the expected format."""
    return UserError(f"{published.name}: file '{path}' is damaged ({why}); delete it and download it again with dataset.download=true")


def differs(published: Published, path: Path, why: str = "its MD5 is not the published one") -> UserError:
    """Return the error for a file that differs from the published one while `verify` is true."""
    return UserError(
        f"{published.name}: file '{path}' differs from the published set ({why}); delete it and download it again with "
        f"dataset.download=true, or accept this copy with dataset.verify=false, which is recorded in every row"
    )


def read_bytes(published: Published, path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        UserError: it exists but cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{published.name}: file '{path}' cannot be read ({error.strerror}); check its permissions") from error


def is_published(published: Published, name: str, data: bytes) -> bool:
    """Return whether `data` is the published file of this name, by its MD5."""
    # MD5 because it is what was published; it guards against damage and other versions, not against an attacker.
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == published.md5[name]


def fetch(published: Published, root: Path) -> None:
    """Download the data set into `root` by torchvision, which verifies the files.

    Raises:
        UserError: there is no network or no disk space, or the folder is not writable.
    """
    # Only a download needs torchvision, so machines with complete files can do without it.
    from torchvision import datasets

    try:
        # Constructing torchvision's data set downloads and verifies; its object is not used.
        getattr(datasets, published.name)(str(root), download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{published.name}: the download into '{root}' failed ({reason}); copy '{published.folder}' there from a machine "
            f"with network access, or set paths.data to a folder that contains it"
        ) from error

"""What MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 have in common: published files in the folder where torchvision keeps them.

Checksums are torchvision's; a test compares them. torchvision itself is imported only to download.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sap_core.errors import UserError


@dataclass(frozen=True)
class Published:
    """A set that torchvision offers."""

    name: str  # its class in torchvision.datasets
    folder: str  # below the data folder
    md5: Mapping[str, str]  # published file -> checksum


def missing(published: Published, root: Path, path: Path) -> UserError:
    """The error for a file that is not there."""
    return UserError(
        f"{published.name}: there is no file '{path}'; point paths.data (now '{root}') at the folder that holds "
        f"'{published.folder}', or set dataset.download=true to fetch the set into it"
    )


def damaged(published: Published, path: Path, why: object) -> UserError:
    """The error for a file that cannot be read as what it should be."""
    return UserError(f"{published.name}: file '{path}' is damaged ({why}); delete it and fetch it again with dataset.download=true")


def differs(published: Published, path: Path, why: str = "its MD5 is not the published one") -> UserError:
    """The error for a file that is not the published one, while `verify` asks for that."""
    return UserError(
        f"{published.name}: file '{path}' differs from the published set ({why}); fetch it again with dataset.download=true after "
        f"deleting it, or accept this copy with dataset.verify=false, which is recorded in every row"
    )


def read_bytes(published: Published, path: Path) -> bytes:
    """The file's bytes.

    Raises:
        UserError: it exists but cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{published.name}: file '{path}' cannot be read ({error.strerror}); check its permissions") from error


def is_published(published: Published, name: str, data: bytes) -> bool:
    """Whether these are the bytes that the set's authors published under this name."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == published.md5[name]


def fetch(published: Published, root: Path) -> None:
    """Downloads the set into `root` through torchvision, which checks what it fetches.

    Raises:
        UserError: no network, no space, a folder that cannot be written to.
    """
    from torchvision import datasets

    try:
        getattr(datasets, published.name)(str(root), download=True)
    except (RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{published.name}: the download into '{root}' failed ({reason}); copy '{published.folder}' there from a machine "
            f"with network, or point paths.data at a folder that holds it"
        ) from error

"""Files of the small data sets that are part of scikit-learn.

They are read without importing scikit-learn, because the import takes longer than everything else that a small job does.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sap_core.data.source import Fingerprint
from sap_core.errors import UserError


def folder(name: str) -> Path:
    """Return the folder of scikit-learn's data files; `name` is the data set, for the message.

    Raises:
        UserError: scikit-learn is not installed.
    """
    # Locates the package without importing it.
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError(f"{name}: scikit-learn, which ships this data set, is not installed; install it with 'pip install scikit-learn'")
    return Path(spec.origin).parent / "datasets" / "data"


def contents(name: str, paths: Sequence[Path]) -> tuple[bytes, ...]:
    """Return the decompressed content of each gzip file.

    Raises:
        UserError: a file is missing or damaged.
    """
    found = []
    for path in paths:
        try:
            found.append(gzip.decompress(path.read_bytes()))
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: file '{path}' is missing or damaged ({error}); install scikit-learn again") from error
    return tuple(found)


def fingerprint(name: str, paths: Sequence[Path], extracted: Sequence[bytes], published: str, verify: bool) -> Fingerprint:
    """Return the digest of the decompressed files, and whether it is the `published` one.

    Raises:
        UserError: `verify` is true and the digest is not the published one.
    """
    # Of the decompressed content, since another release may compress the same file differently.
    digest = hashlib.sha256(b"".join(extracted)).hexdigest()
    if verify and digest != published:
        files = " and ".join(f"'{path}'" for path in paths)
        raise UserError(
            f"{name}: {files} differ{'s' if len(paths) == 1 else ''} from the known version; install another version of scikit-learn, or "
            f"accept them with dataset.verify=false, which is recorded in every row"
        )
    return Fingerprint(digest == published, digest)

"""Files of the small data sets that scikit-learn ships: no download, no folder.

They are read directly, because importing scikit-learn takes longer than all the rest.
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
    """Where scikit-learn's files lie; `name` is the data set's, for the sentence.

    Raises:
        UserError: scikit-learn is not installed.
    """
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UserError(f"{name}: scikit-learn, which ships this data set, is not installed; install it with 'pip install scikit-learn'")
    return Path(spec.origin).parent / "datasets" / "data"


def contents(name: str, paths: Sequence[Path]) -> tuple[bytes, ...]:
    """The extracted content of each gzip file.

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
    """The digest of the extracted files, one after the other, and whether it is the `published` one.

    Raises:
        UserError: it is not, and `verify` asks that it be.
    """
    digest = hashlib.sha256(b"".join(extracted)).hexdigest()
    if verify and digest != published:
        files = " and ".join(f"'{path}'" for path in paths)
        raise UserError(
            f"{name}: {files} differ{'s' if len(paths) == 1 else ''} from what this project knows; install another scikit-learn, or "
            f"accept that with dataset.verify=false, which is recorded in every row"
        )
    return Fingerprint(digest == published, digest)

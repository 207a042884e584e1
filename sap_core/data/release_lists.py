"""Reading of the text lists of published releases: one file, class or label per line, separated by spaces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sap_core.data.names import printable
from sap_core.errors import UserError


def words_of(path: Path, columns: int) -> Iterator[list[str]]:
    """Yield the first `columns` words of each line that is not empty.

    Raises:
        UserError: the list cannot be read, or a line has fewer words.
    """
    for number, line in lines_of(path):
        words = line.split()
        if len(words) < columns:
            raise UserError(
                f"line {number} of list '{printable(path)}' has {len(words)} words instead of {columns}; extract the release again"
            )
        yield words[:columns]


def labels_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the path and the number of each line `PATH NUMBER`; the path may contain spaces.

    Raises:
        UserError: the list cannot be read, or a line is no such pair.
    """
    for number, line in lines_of(path):
        words = line.rsplit(maxsplit=1)
        if len(words) < 2 or not words[1].isdecimal():
            raise UserError(f"line {number} of list '{printable(path)}' is not a path and a number; extract the release again")
        yield words[0], words[1]


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of each line that is not empty. Bytes that are not UTF-8 stay as they are in names of files.

    Raises:
        UserError: the list cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "surrogateescape")
    except OSError as error:
        raise UserError(f"list '{printable(path)}' cannot be read ({error}); set --from to the folder of the extracted release") from error
    # Not `splitlines`, which also splits at characters that names may contain.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.strip("\r\t ")

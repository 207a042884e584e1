"""Names of the user's files: which are hidden, how any name is printed, and where a path of the configuration points."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from sap_core.command_line import home_expanded

SUFFIXES = frozenset({
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".avif", ".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".tif",
    ".tiff", ".tga",
})  # fmt: skip
"""Endings of image files, in lower case; what is in a file is found out by decoding it."""

SHOWN = 10
"""Number of names that a message lists before it counts the rest."""

_SERVICE_NAMES = frozenset({
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "lost+found", "$recycle.bin", "system volume information", "#recycle",
    "__pycache__",
})  # fmt: skip
"""Files and folders that operating systems and file managers leave beside images, in lower case."""


def is_hidden(name: str) -> bool:
    """Return whether a name is never an image or a class: it begins with a dot or "@" (folders of a NAS), or a system writes it."""
    return name.startswith((".", "@")) or name.casefold() in _SERVICE_NAMES


def printable(name: object) -> str:
    r"""Return a name on one line: control characters and bytes that are not UTF-8 as escapes, such as `caf\xe9` or `a\nb`."""
    return "".join(_escaped(character) for character in str(name))


def _escaped(character: str) -> str:
    # Python keeps bytes of a file name that are not UTF-8 as the surrogates U+DC80 to U+DCFF, which no stream can print.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()


def first_names(names: Sequence[object], shown: int = SHOWN) -> str:
    """Return the first names, and how many more there are: `a, b, ... and 12 more`."""
    listed = ", ".join(printable(name) for name in names[:shown])
    return listed + (f", ... and {len(names) - shown} more" if len(names) > shown else "")


def located(root: Path, name: str) -> Path:
    """Return the path that a configuration names: below `root` unless it is absolute; `~` and $HOME are the user's home folder."""
    return root / home_expanded(name)


def relative(path: Path, base: Path) -> str:
    """Return a path with "/", without "." and inner "..", relative to `base` if it is below it."""
    return Path(os.path.normpath(path.relative_to(base) if path.is_relative_to(base) else path)).as_posix()

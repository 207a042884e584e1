"""Listing of one part of an image tree, `PART/CLASS/*.jpg`: its class folders and images, and everything in it that is not read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sap_core.data.names import SUFFIXES, first_names, is_hidden, relative

_FEW = 3


@dataclass
class NotRead:
    """Paths, relative to the folder of the data set, of what a listing leaves out.

    Attributes:
        hidden: files and folders with hidden names (see `is_hidden`).
        nested: images in folders below a class folder.
        beside: images beside the class folders.
        other: files that are no images by their suffix.
    """

    hidden: list[str] = field(default_factory=list)
    nested: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def add(self, more: NotRead) -> None:
        for name in vars(self):
            getattr(self, name).extend(getattr(more, name))

    def notes(self) -> tuple[str, ...]:
        """Return one sentence for each kind that occurs."""
        return tuple(
            f"not read: {len(paths)} {one if len(paths) == 1 else several} ({first_names(paths, _FEW)})"
            for paths, one, several in (
                (self.hidden, "hidden file or folder", "hidden files and folders"),
                (self.nested, "image in a folder below a class folder", "images in folders below class folders"),
                (self.beside, "image beside the class folders", "images beside the class folders"),
                (self.other, "file without the suffix of an image", "files without the suffix of an image"),
            )
            if paths
        )


@dataclass
class PartFiles:
    """Content of one part.

    Attributes:
        folder: its folder.
        classes: name of a class folder -> its images, both sorted.
        not_read: what it contains besides.
    """

    folder: Path
    classes: dict[str, list[Path]]
    not_read: NotRead

    @property
    def count(self) -> int:
        return sum(map(len, self.classes.values()))

    @property
    def empty(self) -> list[str]:
        """Names of the class folders without an image."""
        return [name for name, files in self.classes.items() if not files]

    def per_class(self) -> str:
        """Return the number of images of each class, such as `cat 3, dog 2`."""
        return first_names([f"{name} {len(files)}" for name, files in self.classes.items()])


def list_part(base: Path, name: str, others: Sequence[str], missing: Callable[[OSError], Exception]) -> PartFiles:
    """List one part.

    Args:
        base: folder of the data set.
        name: name of the part's folder; "." for `base` itself.
        others: names of the folders of the other parts, which are no classes if they are in this one.
        missing: returns the error to raise if the folder cannot be read.
    """
    folder = base / name
    foreign = {os.path.normpath(base / other) for other in others}
    files = PartFiles(folder, {}, NotRead())
    for entry in _entries(folder, missing):
        path = folder / entry.name
        if is_hidden(entry.name):
            files.not_read.hidden.append(relative(path, base))
        elif _is_folder(entry):
            if os.path.normpath(path) not in foreign:
                files.classes[entry.name] = _list_class(path, base, files.not_read, missing)
        else:
            (files.not_read.beside if _has_suffix(entry.name) else files.not_read.other).append(relative(path, base))
    return files


def hidden_in(folder: Path) -> list[str]:
    """Return the hidden names in a folder; [] if it cannot be read."""
    try:
        return [entry.name for entry in _entries(folder, lambda error: error) if is_hidden(entry.name)]
    except OSError:
        return []


def folders_in(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, without hidden ones; [] if it cannot be read."""
    try:
        return [entry.name for entry in _entries(folder, lambda error: error) if _is_folder(entry) and not is_hidden(entry.name)]
    except OSError:
        return []


def images_in(folder: Path) -> list[Path]:
    """Return the images directly in a folder, sorted, without hidden names; [] if it cannot be read."""
    try:
        entries = _entries(folder, lambda error: error)
    except OSError:
        return []
    return [folder / entry.name for entry in entries if _has_suffix(entry.name) and not is_hidden(entry.name)]


def images_below(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder and the folders below it, without hidden names; links to folders are not followed."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield from (Path(place, name) for name in sorted(names) if _has_suffix(name) and not is_hidden(name))


def _list_class(folder: Path, base: Path, not_read: NotRead, missing: Callable[[OSError], Exception]) -> list[Path]:
    images = []
    for entry in _entries(folder, missing):
        path = folder / entry.name
        if is_hidden(entry.name):
            not_read.hidden.append(relative(path, base))
        elif _is_folder(entry):
            not_read.nested.extend(relative(found, base) for found in images_below(path))
        # A link to a missing file is listed, so that it is refused by name like a damaged one; pipes and sockets are not read.
        elif _has_suffix(entry.name) and (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
            images.append(path)
        else:
            not_read.other.append(relative(path, base))
    return images


def _entries(folder: Path, missing: Callable[[OSError], Exception]) -> list[os.DirEntry[str]]:
    # Sorted, because a folder's own order differs between file systems and positions are part of noise and splits.
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise missing(error) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _has_suffix(name: str) -> bool:
    # Not `Path.suffix`, which is ten times slower for millions of names.
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122

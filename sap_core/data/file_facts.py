"""What the files of a user's data set say about its options: numbers of classes and images, sizes and channels of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sap_core.data.names import printable
from sap_core.data.open_image import open_image
from sap_core.data.unread_formats import HEAD, unread_format
from sap_core.errors import UserError
from sap_core.regular_files import open_regular

if TYPE_CHECKING:
    from sap_core.data.listing import Listing

MAX_HEADERS = 20_000
"""Of larger sets the headers of this many images, evenly spaced, are read."""


@dataclass(frozen=True)
class Reading:
    """The value of one option, and in words where it was read."""

    value: Any
    source: str


@dataclass(frozen=True)
class ImageHeaders:
    """Sizes and channels of images, from the headers of their files.

    Attributes:
        sizes: (width, height) in pixels -> number of images.
        grey: images with one channel (or grey and alpha).
        colour: all other images.
        total: images of the data set, of which only some are read if there are very many.
    """

    sizes: Mapping[tuple[int, int], int]
    grey: int
    colour: int
    total: int

    @property
    def read(self) -> int:
        return self.grey + self.colour


@dataclass(frozen=True)
class FileFacts:
    """Options that the files determine.

    Attributes:
        options: option -> reading; a configured value that differs is a mistake.
        class_names: the classes in the order of their numbers; () if they have no names.
        headers: of image files, which are resized, so that their size is a choice; None for tensors, whose shape is an option.
        value_range: lowest and highest value of tensors of floats, which are used as they are; None for images of 8 bits.
        validation_part: words for the data set's own validation images; "": there are none, and they are drawn from the training images.
    """

    options: Mapping[str, Reading]
    class_names: Sequence[str] = ()
    headers: ImageHeaders | None = None
    validation_part: str = ""
    value_range: tuple[float, float] | None = None


def read_headers(files: Sequence[Path], base: Path) -> ImageHeaders:
    """Read the sizes and channels of image files; those that cannot be read are left to the inspection, which names them.

    Raises:
        UserError: none of them is an image.
    """
    # Files at regular intervals, because the first ones are all of one class.
    step = -(-len(files) // MAX_HEADERS) or 1
    with ThreadPoolExecutor() as pool:
        found = [header for header in pool.map(_header, files[::step]) if header is not None]
    if not found:
        try:
            unread = unread_format(_head(files[0]))
        except OSError:
            unread = None
        if unread:
            raise UserError(
                f"none of the {len(files)} image files below '{printable(base)}' can be used as it is, the first is "
                f"'{printable(files[0])}': {unread}"
            )
        raise UserError(f"none of the {len(files)} image files below '{printable(base)}' can be read as an image; replace them")
    sizes = Counter(size for size, _ in found)
    grey = sum(is_grey for _, is_grey in found)
    return ImageHeaders(sizes, grey, len(found) - grey, len(files))


def _head(path: Path) -> bytes:
    with open_regular(path) as file:
        return file.read(HEAD)


def _header(path: Path) -> tuple[tuple[int, int], bool] | None:
    """Return ((width, height), whether it is grey); None for a file that is no image."""
    # Pillow is imported where a file is read, so that sets in memory do not need it.
    from PIL import Image

    try:
        with open_image(path) as image:
            # The mode's base: grey with alpha is grey, and a palette counts as colour.
            return image.size, Image.getmodebase(image.mode) == "L" and image.mode != "P"
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def facts_of_folder(base: Path, listed: Listing, train: str, test: str, val: str = "") -> FileFacts:
    """Return the facts of a folder tree whose parts are the folders `train`, `test` and, if there is one, `val`."""
    options = {
        "num_classes": Reading(len(listed.names), f"folders below {train}/: {numbered(listed.names)}"),
        "num_train": Reading(
            len(listed.universe), f"images below {train}/" + (f" ({len(listed.train)}) and {val}/ ({len(listed.val)})" * bool(val))
        ),
        "num_test": Reading(len(listed.test), f"images below {test}/"),
    }
    if val:
        options["validation"] = Reading(len(listed.val), f"images below {val}/")
    files = [path for path, _ in listed.universe + listed.test]
    return FileFacts(options, listed.names, read_headers(files, base), validation_part=f"{val}/" if val else "")


def numbered(names: Sequence[str]) -> str:
    """Return the classes with their numbers, which must be those of the network's outputs."""
    return some(f"{number} {name}" for number, name in enumerate(names))


def some(names: Iterable[str], most: int = 5) -> str:
    """Return the names as a list, of which only the first ones are shown."""
    known = [printable(name) for name in names]
    return ", ".join(known[:most]) + (f", ... ({len(known)} in all)" if len(known) > most else "")

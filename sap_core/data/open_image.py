"""Opening of image files with Pillow: regular files only, and a plain warning for very large images."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from sap_core.data.names import printable
from sap_core.regular_files import check_regular

if TYPE_CHECKING:
    from PIL import Image


def open_image(path: Path, data: bytes | None = None) -> Image.Image:
    """Open an image file; its pixels are not decoded yet.

    Args:
        path: the file.
        data: its content, if it has been read already; a very large image is warned of then.

    Raises:
        OSError: it cannot be opened, is no regular file, or is not an image.
        DecompressionBombError (of Pillow): it has more pixels than Pillow decodes.
    """
    # Pillow is imported where a file is read, so that sets in memory do not need it.
    from PIL import Image

    _without_pillows_warning()
    if data is None:
        check_regular(path)
    image = Image.open(path if data is None else io.BytesIO(data))
    pixels = image.size[0] * image.size[1]
    if data is not None and pixels > (Image.MAX_IMAGE_PIXELS or pixels):
        warnings.warn(
            f"image file '{printable(path)}' has {pixels:,} pixels, and decoding it takes {3 * pixels >> 20:,} MiB of memory; scale it "
            "down if it is larger than you expect",
            stacklevel=2,
        )
    return image


def _without_pillows_warning() -> None:
    """Silence Pillow's warning, which speaks of an attack and names no file."""
    from PIL import Image

    # Once, because every change of the filters makes Python repeat warnings that it has shown.
    if not any(category is Image.DecompressionBombWarning for _, _, category, *_ in warnings.filters):
        warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

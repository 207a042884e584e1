"""From the pixel format of an image file to 8-bit grey or RGB: ranges, transparency and orientation.

Every format keeps its range: its lowest value becomes 0 and its highest 255, or the image is refused. Grey of 16 bits is divided by 257
(65535 becomes 255), also that of PGM files, whose highest value Pillow maps to 65535. Of colours of 16 bits Pillow reads the upper 8.
Integers of 32 bits and floats have no known range and need `Decoding.value_range`. A grey image among RGB images has its value in all three
channels; a colour image among grey ones becomes luma (ITU-R 601-2). Of an animation or a file of several pages the first image is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sap_core.errors import UserError, unknown

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Transparency = Literal["refuse", "drop", "white", "black"]
Orientation = Literal["ignore", "apply"]

_ORIENTATION_TAG = 0x0112  # of EXIF
_PHOTOMETRIC_TAG, _WHITE_IS_ZERO = 262, 0  # of TIFF
_BITS_TAG = 258  # of TIFF
_SAMPLE_FORMAT_TAG, _UNSIGNED, _SIGNED = 339, (1,), (2,)  # of TIFF
_FEW_BITS = {"L;2": 85, "L;4": 17}
"""Pillow's name of grey with 2 and 4 bits -> factor by which it multiplies the values."""
_SUSPICIOUS_BITS = 14
"""16-bit images whose highest value needs at most as many bits probably have a smaller range: 8, 10, 12 and 14 bits are usual."""


class ImageFormatError(ValueError):
    """The pixels of an intact image cannot be converted without a guess. The message contains the remedy."""


@dataclass(frozen=True)
class Decoding:
    """Options for what an image file leaves open; see the fields of `Folder`.

    Attributes:
        transparency: images with transparent pixels are refused; or alpha is dropped, so that the colours below it show (as torchvision's
            ImageFolder does); or they are put on a white or black background. Opaque alpha is always dropped.
        orientation: the EXIF orientation of photographs is ignored (as torchvision's ImageFolder does) or applied. Pillow applies that of
            TIFF files in any case.
        value_range: (lowest, highest) value of grey images of 16 bits, 32 bits or floats, which become 0 and 255; (): 0 to 65535 for 16
            bits, and the others are refused.
    """

    transparency: Transparency = "refuse"
    orientation: Orientation = "ignore"
    value_range: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.transparency not in ("refuse", "drop", "white", "black"):
            raise unknown("value", self.transparency, ("refuse", "drop", "white", "black"), "dataset.transparency")
        if self.orientation not in ("ignore", "apply"):
            raise unknown("value", self.orientation, ("ignore", "apply"), "dataset.orientation")
        low_high = self.value_range
        if low_high and not (len(low_high) == 2 and np.isfinite(low_high).all() and low_high[0] < low_high[1]):
            raise UserError(
                f"dataset.value_range={list(low_high)} must be empty or the lowest and the highest value of grey images, such as [0,4095]"
            )

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Decoding:
        """Return the decoding that the options of a data set describe; those that are left out have their defaults."""
        return cls(
            settings.get("transparency", cls.transparency), settings.get("orientation", cls.orientation),
            tuple(settings.get("value_range", cls.value_range)),
        )  # fmt: skip


CHECKED = Decoding()
"""For sets of the user: nothing is guessed."""

AS_RELEASED = Decoding(transparency="drop")
"""For published sets, whose images the released code reads with torchvision's ImageFolder."""


@dataclass(frozen=True)
class ImageFacts:
    """What the user should know about one image file.

    Attributes:
        grey: it has one channel.
        turned: it has an EXIF orientation that is ignored.
        frames: it has more than one frame or page.
        highest: highest value of an image of 16 bits; None for others.
    """

    grey: bool
    turned: bool
    frames: bool
    highest: int | None


def to_pixels(image: Picture, channels: Literal[1, 3], decoding: Decoding) -> tuple[Picture, ImageFacts]:
    """Convert an opened image to mode "L" (one channel) or "RGB", of the same range.

    Raises:
        ImageFormatError: the range is unknown, the image is transparent, or its colours have no conversion; with the remedy.
        Exception: the file is damaged; Pillow raises errors of many types.
    """
    from PIL import ImageOps

    # Looked up first, because reading EXIF of a PNG decodes it.
    factor = _FEW_BITS.get(str(image.tile[0][3]), 1) if image.format == "PNG" and image.tile else 1  # type: ignore[attr-defined]
    # Before the pixels are decoded: Pillow turns TIFF files when it loads them, and removes the tag.
    turned = image.format != "TIFF" and _orientation(image) not in (None, 1)
    frames = bool(getattr(image, "is_animated", False))
    image.load()
    # Pillow scales the pixels to 8 bits, and not the value that is transparent.
    if factor != 1 and isinstance(image.info.get("transparency"), int):
        image.info["transparency"] *= factor
    if turned and decoding.orientation == "apply":
        image, turned = ImageOps.exif_transpose(image), False
    highest = None
    grey = image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")
    if image.mode == "L" and _sample_format(image) == _SIGNED:
        raise ImageFormatError("its pixels are integers of 8 bits with a sign, which are not supported; save them as unsigned integers")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        if image.mode.startswith("I;16"):
            highest = int(np.asarray(image).max())
        image = _scaled(image, decoding)
    image = _opaque(image, decoding)
    if image.mode == "LAB":
        raise ImageFormatError("its colours are in mode LAB, which is not supported; convert it to RGB")
    return image.convert("L" if channels == 1 else "RGB"), ImageFacts(grey, turned, frames, highest)


def notes(facts: Iterable[ImageFacts], channels: Literal[1, 3], decoding: Decoding) -> tuple[str, ...]:
    """Return sentences about a set of images: mixed colours, several frames, ignored orientations, and a range that is hardly used."""
    known = list(facts)
    found = []
    grey = sum(each.grey for each in known)
    if 0 < grey < len(known) and channels == 3:
        found.append(f"{grey} of {len(known)} images are grey; their value is used for all three channels")
    if grey < len(known) and channels == 1:
        found.append(f"{len(known) - grey} of {len(known)} images are in colour and are converted to grey (dataset.channels=1)")
    frames = sum(each.frames for each in known)
    if frames:
        found.append(f"{frames} of {len(known)} images have several frames or pages, of which the first is used")
    turned = sum(each.turned for each in known)
    if turned:
        found.append(
            f"{turned} of {len(known)} images have an EXIF orientation, which is ignored as by torchvision's ImageFolder; if your training "
            f"applied it, set dataset.orientation=apply"
        )
    highest = max((each.highest for each in known if each.highest is not None), default=None)
    if highest is not None and not decoding.value_range and 0 < highest < 2**_SUSPICIOUS_BITS:
        # The next usual depth, not the highest value itself: the range is a property of the camera, not of the images.
        bits = next(bits for bits in (8, 10, 12, 14) if highest < 2**bits)
        found.append(
            f"the highest value of all 16-bit images is {highest}, so with the range 0 to 65535 they are nearly black; if they have {bits} "
            f"bits, set dataset.value_range=[0,{2**bits - 1}]"
        )
    return tuple(found)


def _orientation(image: Picture) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION_TAG)
    # A damaged EXIF block says nothing about the pixels; its parser raises errors of many types.
    except Exception:
        return None


def _scaled(image: Picture, decoding: Decoding) -> Picture:
    """Return a grey image of more than 8 bits in mode "L", or "LA" if one of its values is transparent."""
    from PIL import Image

    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ImageFormatError("it contains NaN or infinity; repair or delete it")
    # Pillow keeps integers of 32 bits without a sign in a type with one.
    if image.mode == "I" and image.format == "TIFF" and _sample_format(image) == _UNSIGNED and _tiff_bits(image) == 32:
        values = values.astype(np.uint32)
    low, high = decoding.value_range or _known_range(image, values)
    outside = ~((values >= low) & (values <= high))
    if outside.any():
        value = values[outside].flat[0]
        raise ImageFormatError(
            f"it contains the value {value:g}, which is outside dataset.value_range=[{low:g},{high:g}]; set the range of all images"
        )
    # In float64, which holds integers of 32 bits exactly.
    unit = (values.astype(np.float64) - low) / (high - low)
    # Pillow inverts such files at 8 bits only.
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO:  # type: ignore[attr-defined]
        unit = 1 - unit
    grey = Image.fromarray(np.rint(unit * 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return grey


def _known_range(image: Picture, values: np.ndarray) -> tuple[float, float]:
    if image.mode.startswith("I;16"):
        return 0, 2 ** (_tiff_bits(image) if image.format == "TIFF" else 16) - 1
    # Pillow scales the highest value of the file's header to 65535. Its format of PFM files, which contain floats, is PPM, too.
    if image.format == "PPM" and image.mode == "I":
        return 0, 65535
    kind = "floats" if image.mode == "F" else "integers of more than 16 bits or with a sign"
    seen = f"{values.min():g} to {values.max():g} in this file"
    # An example from this file may not cover the others, so it is offered as such.
    raise ImageFormatError(
        f"its pixels are {kind} ({seen}), whose range is unknown; set dataset.value_range=[LOWEST,HIGHEST] to the values that become black "
        f"and white, such as {_example(image.mode, values)}"
    )


def _sample_format(image: Picture) -> tuple[int, ...]:
    """Return whether the integers of a TIFF file have a sign; () for other files."""
    return tuple(image.tag_v2.get(_SAMPLE_FORMAT_TAG, _UNSIGNED)) if image.format == "TIFF" else ()  # type: ignore[attr-defined]


def _tiff_bits(image: Picture) -> int:
    return int(image.tag_v2.get(_BITS_TAG, (16,))[0])  # type: ignore[attr-defined]


def _example(mode: str, values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    if mode == "F" and low >= 0 and high <= 1:
        return "dataset.value_range=[0,1]"
    bits = next((bits for bits in (8, 10, 12, 16) if low >= 0 and high < 2**bits), None)
    if bits is not None:
        return f"dataset.value_range=[0,{2**bits - 1}]"
    return f"dataset.value_range=[{low:g},{high:g}]" if np.isfinite([low, high]).all() and low < high else "dataset.value_range=[0,65535]"


def _opaque(image: Picture, decoding: Decoding) -> Picture:
    """Return an image without alpha and without a transparent colour."""
    from PIL import Image

    if not image.has_transparency_data:
        return image
    # Alpha that is multiplied in already can be converted to plain alpha only.
    image = image.convert("LA") if image.mode == "La" else image
    transparent = image.info.get("transparency")
    if decoding.transparency == "drop":
        # First RGBA: a palette whose transparency is a sequence of bytes has no direct conversion without a warning.
        return image.convert("RGBA").convert("RGB") if image.mode in ("P", "PA", "LA", "RGBa") else image.convert("RGB")
    # The colour has 16 bits per channel and the pixels, as Pillow reads them, have 8.
    if isinstance(transparent, tuple) and max(transparent) > 255:
        raise ImageFormatError("it has a transparent colour of 16 bits per channel; set dataset.transparency=drop or convert it to 8 bits")
    rgba = image.convert("RGBA")
    if rgba.getchannel("A").getextrema()[0] == 255:
        return rgba.convert("RGB")
    if decoding.transparency == "refuse":
        raise ImageFormatError(
            "it has transparent pixels; set dataset.transparency=drop to use the colours below them, as torchvision's ImageFolder does, or "
            "white or black for that background, whichever your network was trained with"
        )
    background = Image.new("RGBA", rgba.size, decoding.transparency)
    return Image.alpha_composite(background, rgba).convert("RGB")

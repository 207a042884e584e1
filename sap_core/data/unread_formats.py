"""Recognises by their first bytes intact image files that Pillow cannot decode, so that messages do not call them damaged."""

from __future__ import annotations

_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
HEAD = 16
"""Number of first bytes that decide."""


def unread_format(head: bytes) -> str | None:
    """Return what a file that Pillow does not identify contains, with the remedy; None if it is no known image format.

    Args:
        head: the first `HEAD` bytes of the file.
    """
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return "it is a HEIC (HEIF) photograph, whatever its suffix, which Pillow does not read; convert it to PNG or JPEG"
    if head.startswith(_JPEG_XL):
        return "it is a JPEG XL image, which Pillow does not read; convert it to PNG or JPEG"
    if head.startswith(_TIFF):
        return (
            "it is a TIFF file whose pixels are of a type that Pillow does not read, such as floats of 16 or 64 bits; save them as "
            "integers of 8 or 16 bits or floats of 32 bits"
        )
    return None

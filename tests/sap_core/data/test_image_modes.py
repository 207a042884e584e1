"""Pixel formats of image files: each keeps its range, or is refused with a remedy."""

import io
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data.file_facts import read_headers
from sap_core.data.folder import Folder
from sap_core.data.image_files import FilePixels, examine
from sap_core.data.image_modes import AS_RELEASED, CHECKED, Decoding
from sap_core.errors import UserError

GREY = np.array([[0, 51, 102], [153, 204, 255], [1, 128, 254]], np.uint8)
RGB = np.stack([GREY, 255 - GREY, GREY.T], axis=2)
GREY_16 = GREY.astype(np.uint16) * 257


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path, content, name="a.png", channels=3, decoding=CHECKED):
    """The decoded image as (C, H, W); a warning is an error."""
    path = tmp_path / name
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return FilePixels((path,), 3, channels, decoding).fetch(torch.tensor([0]))[0].numpy()


def refused(tmp_path, *args, **options):
    with pytest.raises(UserError) as error:
        read(tmp_path, *args, **options)
    assert "a." in str(error.value)
    return str(error.value)


GREY_FILES = {
    "L": encoded(Image.fromarray(GREY), "PNG"),
    "P": encoded(Image.fromarray(GREY).convert("P"), "PNG"),
    "RGB": encoded(Image.fromarray(GREY).convert("RGB"), "BMP"),
    "opaque LA": encoded(Image.fromarray(GREY).convert("LA"), "PNG"),
    "opaque RGBA": encoded(Image.fromarray(GREY).convert("RGBA"), "PNG"),
    "opaque RGBA in TIFF": encoded(Image.fromarray(GREY).convert("RGBA"), "TIFF"),
    "16-bit PNG": encoded(Image.fromarray(GREY_16), "PNG"),
    "16-bit TIFF": encoded(Image.fromarray(GREY_16), "TIFF"),
    "16-bit PGM": b"P5 3 3 65535\n" + GREY_16.astype(">u2").tobytes(),
    "PGM of another highest value": b"P5 3 3 4080\n" + (GREY.astype(np.uint16) * 16).astype(">u2").tobytes(),
    "text PGM": b"P2 3 3 65535\n" + " ".join(map(str, GREY_16.flat)).encode(),
    "big-endian 16-bit TIFF": encoded(Image.frombytes("I;16B", (3, 3), GREY_16.astype(">u2").tobytes()), "TIFF"),
    "compressed 16-bit TIFF": encoded(Image.fromarray(GREY_16), "TIFF", compression="tiff_lzw"),
}


@pytest.mark.parametrize("kind", GREY_FILES)
def test_grey_keeps_its_range_in_every_format(tmp_path, kind):
    assert np.array_equal(read(tmp_path, GREY_FILES[kind], channels=1), GREY[None])
    # In a set of colour images the value is repeated.
    assert np.array_equal(read(tmp_path, GREY_FILES[kind]), np.stack([GREY] * 3))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_span_the_whole_range(tmp_path, bits):
    values = np.arange(9, dtype=np.uint8).reshape(3, 3) % 2**bits
    image = Image.fromarray(values)
    content = encoded(image.point(lambda v: 255 * v, "1") if bits == 1 else image, "PNG", **({} if bits == 1 else {"bits": bits}))
    if bits > 1:  # Pillow writes few bits for palettes only
        image.putpalette([level * 255 // (2**bits - 1) for level in range(2**bits) for _ in range(3)])
        content = encoded(image, "PNG", bits=bits)
    assert np.array_equal(read(tmp_path, content, channels=1)[0], values * (255 // (2**bits - 1)))


@pytest.mark.parametrize(("mode", "kind", "error"), [("RGB", "PNG", 0), ("CMYK", "TIFF", 0), ("YCbCr", "TIFF", 3), ("P", "PNG", 0)])
def test_colours_keep_their_range(tmp_path, mode, kind, error):
    image = Image.fromarray(RGB).quantize(9) if mode == "P" else Image.fromarray(RGB).convert(mode)
    wanted = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    found = read(tmp_path, encoded(image, kind), f"a.{kind.lower()}")
    assert np.abs(found.astype(int) - wanted).max() <= error
    assert np.abs(found.astype(int) - RGB.transpose(2, 0, 1)).max() <= error or mode == "P"


def test_colour_becomes_luma_in_a_grey_set(tmp_path):
    found = read(tmp_path, encoded(Image.fromarray(RGB), "PNG"), channels=1)[0]
    assert np.abs(found - RGB @ np.array([0.299, 0.587, 0.114])).max() < 1


def png(bit_depth, colour_type, rows, transparent=None):
    """A PNG that Pillow cannot write, from its rows of samples as bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", 3, 3, bit_depth, colour_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    colour = b"" if transparent is None else chunk(b"tRNS", struct.pack(">H", transparent))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + colour + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_16_bit_colours_keep_their_upper_8_bits(tmp_path):
    content = png(16, 2, [row.astype(">u2").tobytes() for row in RGB.astype(np.uint16) * 257])
    assert np.array_equal(read(tmp_path, content), RGB.transpose(2, 0, 1))


UNKNOWN_RANGE = {
    "float TIFF": (Image.fromarray(GREY.astype(np.float32) / 255), r"dataset\.value_range=\[0,1\]"),
    "float TIFF of 8 bits": (Image.fromarray(GREY.astype(np.float32)), r"dataset\.value_range=\[0,255\]"),
    "32-bit TIFF": (Image.fromarray(GREY_16.astype(np.int32)), r"dataset\.value_range=\[0,65535\]"),
    "signed TIFF": (Image.fromarray(GREY.astype(np.int32) - 100), r"dataset\.value_range=\[-100,155\]"),
}


@pytest.mark.parametrize("kind", UNKNOWN_RANGE)
def test_an_unknown_range_is_refused_with_a_remedy(tmp_path, kind):
    image, remedy = UNKNOWN_RANGE[kind]
    message = refused(tmp_path, encoded(image, "TIFF"), "a.tif")
    assert "range is unknown" in message
    assert re.search(remedy, message)


@pytest.mark.parametrize(
    ("values", "given"),
    [
        (GREY.astype(np.float32) / 255, (0.0, 1.0)),
        (GREY.astype(np.float32) - 128, (-128.0, 127.0)),
        (GREY.astype(np.int32) * 1000, (0.0, 255000.0)),
        (GREY.astype(np.uint16) * 16, (0.0, 4080.0)),
    ],
)
def test_a_given_range_is_used(tmp_path, values, given):
    content = encoded(Image.fromarray(values), "TIFF")
    assert np.array_equal(read(tmp_path, content, "a.tif", 1, Decoding(value_range=given))[0], GREY)
    half = (given[0], (given[0] + given[1]) / 2)
    assert "outside dataset.value_range" in refused(tmp_path, content, "a.tif", 1, Decoding(value_range=half))


def test_floats_of_pfm_files_have_no_known_range(tmp_path):
    content = b"Pf\n3 3\n-1.0\n" + (GREY.astype("<f4") / 255)[::-1].tobytes()
    assert "its pixels are floats" in refused(tmp_path, content, "a.pfm", 1)
    assert np.array_equal(read(tmp_path, content, "a.pfm", 1, Decoding(value_range=(0.0, 1.0)))[0], GREY)


@pytest.mark.parametrize("decoding", [CHECKED, Decoding(value_range=(0.0, 1.0))])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_as_such(tmp_path, value, decoding):
    values = GREY.astype(np.float32) / 255
    values[1, 1] = value
    assert "NaN or infinity" in refused(tmp_path, encoded(Image.fromarray(values), "TIFF"), "a.tif", 1, decoding)


def tiff(values, bits, sample_format):
    """An uncompressed grey TIFF file of any pixel type, which Pillow cannot write."""
    data = values.tobytes()
    entries = {256: 3, 257: 3, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 3, 279: len(data), 339: sample_format}
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + directory + bytes(4)


def test_32_bits_without_a_sign_keep_their_upper_half(tmp_path):
    content = tiff(GREY.astype("<u4") * 16843009, 32, 1)
    assert np.array_equal(read(tmp_path, content, "a.tif", 1, Decoding(value_range=(0.0, 2.0**32 - 1)))[0], GREY)


def test_8_bits_with_a_sign_are_refused(tmp_path):
    assert "8 bits with a sign" in refused(tmp_path, tiff(GREY.astype(np.int8), 8, 2), "a.tif")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tiff(GREY.astype("<f8"), 64, 3), "floats of 16 or 64 bits"),
        (tiff(GREY.astype("<f2"), 16, 3), "floats of 16 or 64 bits"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40), "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(40), "JPEG XL"),
    ],
)
def test_intact_files_that_pillow_cannot_read_are_not_called_damaged(tmp_path, content, said):
    message = refused(tmp_path, content, "a.jpg")
    assert said in message
    with pytest.raises(UserError, match=said) as error:
        examine([tmp_path / "a.jpg"], tmp_path, "content")
    with pytest.raises(UserError, match=said):
        read_headers([tmp_path / "a.jpg"], tmp_path)
    assert not any(word in text for word in ("damaged", "delete") for text in (message, str(error.value)))


def test_a_given_range_leaves_8_bits_alone(tmp_path):
    assert np.array_equal(read(tmp_path, GREY_FILES["L"], channels=1, decoding=Decoding(value_range=(0.0, 1.0)))[0], GREY)


def test_white_is_zero_is_inverted_at_16_bits_too(tmp_path):
    content = encoded(Image.fromarray(65535 - GREY_16), "TIFF", tiffinfo={262: 0})
    assert np.array_equal(read(tmp_path, content, "a.tif", 1)[0], GREY)


def test_colours_without_a_conversion_are_refused(tmp_path):
    message = refused(tmp_path, encoded(Image.new("LAB", (3, 3)), "TIFF"), "a.tif")
    assert "mode LAB" in message
    assert "damaged" not in message


def half_transparent(mode):
    """Red where it is opaque; the hidden half is green."""
    alpha = Image.fromarray(np.array([[255, 255, 255], [0, 0, 0], [255, 255, 255]], np.uint8))
    pixels = np.zeros((3, 3, 3), np.uint8)
    pixels[[0, 2], :, 0], pixels[1, :, 1] = 255, 200
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(alpha)
        return encoded(image, "PNG")
    if mode == "LA":
        image = Image.fromarray(pixels.max(2))
        image.putalpha(alpha)
        return encoded(image, "PNG")
    palette = image.quantize(2)
    hidden = palette.getpixel((0, 1))
    transparency = bytes(0 if index == hidden else 255 for index in range(2)) if mode == "P bytes" else hidden
    if mode.startswith("P"):
        return encoded(palette, "PNG", transparency=transparency)
    if mode == "RGB colour":
        return encoded(image, "PNG", transparency=(0, 200, 0))
    if mode == "I;16 value":
        return encoded(Image.fromarray(pixels.max(2).astype(np.uint16) * 257), "PNG", transparency=200 * 257)
    return encoded(Image.fromarray(pixels.max(2)), "PNG", transparency=200)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P bytes", "P index", "RGB colour", "L value", "I;16 value"])
def test_transparency_is_refused_or_treated_as_told(tmp_path, mode):
    content = half_transparent(mode)
    message = refused(tmp_path, content)
    assert "transparent" in message
    assert "dataset.transparency=drop" in message
    white, black = (read(tmp_path, content, decoding=Decoding(each))[:, 1] for each in ("white", "black"))
    assert (white == 255).all()
    assert (black == 0).all()
    dropped = read(tmp_path, content, decoding=AS_RELEASED)
    assert dropped[1, 1, 1] == 200
    assert (dropped[0, 0] == 255).all()


def turned(kind, tag=6):
    exif = Image.Exif()
    exif[0x0112] = tag
    return encoded(Image.fromarray(RGB), kind, exif=exif)


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_values_of_few_bits_are_recognised(tmp_path, bits):
    values = np.array([[0, 1, 2], [3, 1, 0], [2, 2, 1]], np.uint8)
    rows = [sum(int(value) << (bits * (2 - at)) for at, value in enumerate(row)) << (-3 * bits % 8) for row in values]
    content = png(bits, 0, [row.to_bytes(-(-3 * bits // 8), "big") for row in rows], transparent=1)
    assert "transparent" in refused(tmp_path, content)
    scaled = values * (255 // (2**bits - 1))
    assert np.array_equal(read(tmp_path, content, decoding=Decoding("white"))[0], np.where(values == 1, 255, scaled))


def test_orientation_is_ignored_or_applied(tmp_path):
    assert np.array_equal(read(tmp_path, turned("PNG")), RGB.transpose(2, 0, 1))
    applied = read(tmp_path, turned("PNG"), decoding=Decoding(orientation="apply"))
    assert np.array_equal(applied, np.rot90(RGB, -1).transpose(2, 0, 1))


def test_of_several_frames_the_first_is_read(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    for kind in ("PNG", "TIFF"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert np.array_equal(read(tmp_path, content, f"a.{kind.lower()}"), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP"])
def test_truncated_files_are_refused_by_name(tmp_path, kind):
    content = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)), kind)
    for share in (0.02, 0.1, 0.5, 0.9):
        assert "damaged or not an image" in refused(tmp_path, content[: int(share * len(content))], f"a.{kind.lower()}")


@pytest.fixture
def pets(tmp_path):
    """Four training and two test images, of classes cat and dog, in colour."""
    for part, count in (("train", 2), ("test", 1)):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / part / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(RGB).save(tmp_path / "pets" / part / name / f"{number}.png")
    return tmp_path


def folder(**options):
    return Folder(**{"folder": "pets", "num_classes": 2, "num_train": 4, "num_test": 2, "size": 3, "validation": 2, **options})


def replace(pets, content, name="cat/1.png"):
    (pets / "pets" / "train" / name).write_bytes(content)


def test_a_plain_set_has_no_notes(pets):
    assert folder().inspect(pets).notes == ()


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (GREY_FILES["L"], {}, "1 of 6 images are grey"),
        (GREY_FILES["L"], {"channels": 1}, r"5 of 6 images are in colour.*dataset\.channels=1"),
        (turned("PNG"), {}, r"1 of 6 images have an EXIF orientation.*dataset\.orientation=apply"),
        (encoded(Image.fromarray(RGB), "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]), {}, "first is used"),
        (encoded(Image.fromarray(GREY.astype(np.uint16)), "PNG"), {}, r"nearly black.*dataset\.value_range=\[0,255\]"),
        (encoded(Image.fromarray(GREY.astype(np.uint16) * 16), "PNG"), {}, r"12 bits, set dataset\.value_range=\[0,4095\]"),
    ],
    ids=["grey among colour", "colour among grey", "orientation", "frames", "8 of 16 bits", "12 of 16 bits"],
)
def test_what_the_user_should_know_is_noted(pets, content, options, said):
    replace(pets, content)
    notes = " ".join(folder(**options).inspect(pets).notes)
    assert re.search(said, notes), notes


def test_what_is_applied_as_told_is_not_noted(pets):
    replace(pets, turned("PNG"))
    assert folder(orientation="apply").inspect(pets).notes == ()


def test_formats_that_cannot_be_used_are_refused_before_a_run(pets):
    replace(pets, half_transparent("RGBA"))
    with pytest.raises(UserError, match=r"1 of 6 image files .* cannot be used as they are, the first is '.*cat/1\.png': .*transparent"):
        folder().inspect(pets)
    plain = folder(transparency="drop").inspect(pets)
    assert plain.notes == ()
    assert folder(transparency="drop").load(pets).train.fetch(torch.tensor([1]))[0, 1, 1, 1] == 200


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"transparency": "Drop"}, "refuse, drop, white, black"),
        ({"orientation": "exif"}, "ignore, apply"),
        ({"value_range": (1.0, 0.0)}, r"dataset\.value_range=\[1.0, 0.0\]"),
        ({"value_range": (1.0,)}, r"\[0,4095\]"),
        ({"value_range": (0.0, float("nan"))}, r"\[0,4095\]"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(UserError, match=said):
        folder(**options)

"""Tables, files of tensors and images that would fill the memory, and paths that name a device or a pipe, are refused in one sentence."""

from __future__ import annotations

import gzip
import io
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sap_core.data.folder import Folder
from sap_core.data.image_files import FilePixels
from sap_core.data.table import Table
from sap_core.data.table_files import read_columns
from sap_core.data.tensors import Tensors
from sap_core.errors import UserError


def refused(action, text):
    with pytest.raises(UserError) as caught:
        action()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_expands(tmp_path):
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"path,label,split\n" + bytes((1 << 28) + (1 << 22)), 9))
    refused(lambda: read_columns(tmp_path / "t.csv.gz"), "bytes expand to more than")


def test_a_parquet_table_that_claims_any_number_of_rows(tmp_path):
    constant = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000_001, np.int8)), ["x" * 1000])
    pq.write_table(pa.table({"path": constant, "label": constant, "split": constant}), tmp_path / "t.parquet")
    refused(lambda: read_columns(tmp_path / "t.parquet"), "claim 10,000,001 rows")


def test_one_long_text_of_a_dictionary_is_kept_once(tmp_path):
    constant = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), ["x" * 1_000_000])
    table = pa.table({"path": constant, "label": pa.array(range(100_000)), "split": constant, "more": constant})
    pq.write_table(table, tmp_path / "t.parquet")
    columns = read_columns(tmp_path / "t.parquet")
    assert columns["path"][0] is columns["path"][-1]
    assert columns["label"][-1] == "99999"
    assert columns["more"] == []


@pytest.mark.parametrize("cut", [b"PAR1", b"PAR1" * 3, b"PAR1" + b"\xff" * 100 + struct.pack("<i", 100) + b"PAR1"])
def test_parquet_with_absurd_metadata(tmp_path, cut):
    (tmp_path / "t.parquet").write_bytes(cut)
    refused(lambda: read_columns(tmp_path / "t.parquet"), "cannot be read")


def test_a_file_of_tensors_that_expands_or_contains_objects(tmp_path):
    with zipfile.ZipFile(tmp_path / "t.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("images.npy", bytes((1 << 28) + (1 << 22)))
    np.savez(tmp_path / "o.npz", images=np.array([{}], dtype=object), labels=np.zeros(1, np.int64))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 46,)})
    with zipfile.ZipFile(tmp_path / "h.npz", "w") as file:
        file.writestr("images.npy", header.getvalue())
    for name, text in (("t.npz", "bytes expand to more than"), ("o.npz", "array 'images' of"), ("h.npz", "cannot be read")):
        refused(lambda name=name: Tensors(name, 2, 20, 1, (1, 8, 8)).inspect(tmp_path), text)


def png(width, height):
    """A PNG of a few bytes that claims a size."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        + chunk(b"IDAT", b"x")
        + chunk(b"IEND", b"")
    )


@pytest.fixture
def table(tmp_path):
    """table(NAME): inspect a table of five images, of which one has this path."""
    for number in range(4):
        Image.new("L", (8, 8), number).save(tmp_path / f"{number}.png")

    def inspect(name):
        lines = [f"{number}.png,{number % 2},{'test' if number == 3 else 'train'}" for number in range(4)]
        (tmp_path / "t.csv").write_text("\n".join(["path,label,split", f"{name},0,train", *lines]) + "\n")
        return Table("t.csv", 2, 4, 1, 8, 1, validation=0.5).inspect(tmp_path)

    return inspect


@pytest.mark.parametrize("name", ["pipe.png", "/dev/zero", "/dev/stdin", "/dev/null"])
def test_a_path_of_a_table_opens_no_pipe_and_no_device(table, tmp_path, name):
    os.mkfifo(tmp_path / "pipe.png")
    refused(lambda: table(name), "(a device, a pipe or a socket)" if name != "/dev/stdin" else "are missing")


def test_other_paths_that_are_no_images(table, tmp_path):
    (tmp_path / "folder.png").mkdir()
    refused(lambda: table("folder.png"), "(a folder)")
    refused(lambda: table("/proc/self/mem"), "are damaged or not images")
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 36)
    refused(lambda: table("sparse.png"), "larger than 1024 MiB, and nothing of it was read")


def test_the_pixels_of_an_image_are_bounded(table, tmp_path):
    (tmp_path / "huge.png").write_bytes(png(60_000, 60_000))
    refused(lambda: table("huge.png"), "it has 3,600,000,000 pixels, and at most 178,956,970 are decoded; scale it down if it is yours")


def test_a_very_large_image_gives_one_plain_warning(table, tmp_path, monkeypatch):
    for number in range(4):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "scan.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table("scan.png")
    (sentence,) = [str(one.message) for one in caught]
    assert "scan.png' has 81 pixels, and decoding it takes" in sentence


def test_an_image_folder_opens_no_device(tmp_path):
    for part in ("train", "test"):
        for name in "ab":
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8), (len(part), ord(name), 0)).save(folder / "0.png")
            Image.new("RGB", (8, 8), (len(part), ord(name), 1)).save(folder / "1.png")
    (tmp_path / "images" / "train" / "a" / "2.png").symlink_to("/dev/zero")
    refused(lambda: Folder("images", 2, 5, 4, 8, 3, validation=2).inspect(tmp_path), "2.png' (it is no regular file)")
    with pytest.raises(UserError, match="no regular file"):
        FilePixels((tmp_path / "images" / "train" / "a" / "2.png",), 8, 3).fetch(torch.tensor([0]))

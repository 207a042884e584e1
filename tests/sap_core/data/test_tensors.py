"""Images in one tensor file."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sap_core.data.source import DataSet
from sap_core.data.tensors import Tensors
from sap_core.errors import UserError

NUMBERS = {"num_classes": 3, "num_train": 8, "num_test": 4, "shape": (1, 2, 2), "validation": 2}


def content(split=True):
    images = torch.arange(48, dtype=torch.uint8).reshape(12, 1, 2, 2)
    labels = torch.arange(12) % 3
    return {"images": images, "labels": labels} | ({"split": (torch.arange(12) >= 8).to(torch.uint8)} if split else {})


def write(path, tensors):
    if path.suffix == ".npz":
        np.savez(path, **{name: value.numpy() for name, value in tensors.items()})
    else:
        save_file(tensors, path)


@pytest.mark.parametrize("name", ["images.npz", "images.safetensors"])
def test_both_kinds_of_file_are_read_alike(tmp_path, name):
    write(tmp_path / name, content())
    data = Tensors(file=name, **NUMBERS)
    assert isinstance(data, DataSet)
    source = data.load(tmp_path)
    wanted = content()
    assert torch.equal(source.train.fetch(torch.arange(8)), wanted["images"][:8])
    assert torch.equal(source.train_labels, wanted["labels"][:8])
    assert torch.equal(source.test.fetch(torch.arange(4)), wanted["images"][8:])
    assert torch.equal(source.test_labels, wanted["labels"][8:])


def test_without_a_split_all_images_are_both(tmp_path):
    write(tmp_path / "images.npz", content(split=False))
    source = Tensors(file="images.npz", **NUMBERS | {"num_train": 12, "num_test": 12}).load(tmp_path)
    assert len(source.train) == len(source.test) == 12


def test_float_images_are_taken_as_they_are(tmp_path):
    tensors = content()
    tensors["images"] = tensors["images"].double() / 7
    write(tmp_path / "images.npz", tensors)
    source = Tensors(file="images.npz", **NUMBERS).load(tmp_path)
    assert torch.equal(source.train.fetch(torch.arange(8)), tensors["images"][:8].float())


def test_the_fingerprint_is_of_the_content(tmp_path):
    for name in ("one.npz", "two.npz"):
        write(tmp_path / name, content())
    one, two = (Tensors(file=name, **NUMBERS).inspect(tmp_path) for name in ("one.npz", "two.npz"))
    assert one.digest == two.digest
    assert not one.verified
    assert Tensors(file="one.npz", digest=one.digest, verify=True, **NUMBERS).inspect(tmp_path).verified
    changed = content()
    changed["labels"][0] = 2
    write(tmp_path / "one.npz", changed)
    assert Tensors(file="one.npz", **NUMBERS).inspect(tmp_path).digest != two.digest
    with pytest.raises(UserError, match="has the digest"):
        Tensors(file="one.npz", digest=two.digest, verify=True, **NUMBERS).inspect(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_train": 9}, r"contains 8 train images, but dataset.num_train=9; set dataset.num_train=8"),
        ({"num_test": 5}, r"set dataset.num_test=4"),
        ({"shape": (3, 2, 2)}, r"set dataset.shape=\[1,2,2\]"),
        ({"num_classes": 2}, r"labels outside 0 to 1, .*set dataset.num_classes=3"),
        ({"file": "other.npz"}, r"other.npz' cannot be read as a file of tensors"),
        ({"mean": (0.5, 0.5)}, r"one number per channel \(1\)"),
        ({"verify": True}, r"needs dataset.digest"),
        ({"num_classes": 1}, r"num_classes of at least 2"),
    ],
)
def test_mistakes_are_named_with_the_right_value(tmp_path, changes, said):
    write(tmp_path / "images.npz", content())
    with pytest.raises(UserError, match=said):
        Tensors(**{"file": "images.npz", **NUMBERS, **changes}).inspect(tmp_path)


def test_a_file_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "images.npz", images=np.zeros((3, 1, 2, 2)))
    with pytest.raises(UserError, match=r"must contain images \(N, ...\), labels \(N,\)"):
        Tensors(file="images.npz", **NUMBERS).inspect(tmp_path)
    np.savez(tmp_path / "images.npz", images=np.array([object()]), labels=np.zeros(1))
    with pytest.raises(UserError, match=r"array 'images' .* is not an array of numbers"):
        Tensors(file="images.npz", **NUMBERS).inspect(tmp_path)
    (tmp_path / "images.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        Tensors(file="images.safetensors", **NUMBERS).inspect(tmp_path)


def saved(path, **changes):
    """The path of a file with some arrays changed; None leaves one out."""
    arrays = {name: value.numpy() for name, value in content().items()} | changes
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


IMAGES, LABELS, SPLIT = (content()[name].numpy() for name in ("images", "labels", "split"))


def with_pixel(value, dtype=np.float32, at=5):
    images = (IMAGES / 255).astype(dtype) if np.issubdtype(dtype, np.floating) else IMAGES.astype(dtype)
    images[at, 0, 1, 1] = value
    return images


def with_label(value, at=7, dtype=np.float64):
    labels = LABELS.astype(dtype)
    labels[at] = value
    return labels


@pytest.mark.parametrize(
    "labels", [LABELS.astype(kind) for kind in (np.int8, np.uint8, np.uint16, np.float32, np.float64, np.dtype(">i4"), np.dtype(">f8"))]
)
def test_whole_numbers_of_any_type_are_labels(tmp_path, labels):
    saved(tmp_path / "a.npz", labels=labels, split=SPLIT.astype(labels.dtype))
    source = Tensors(file="a.npz", **NUMBERS).load(tmp_path)
    assert source.train_labels.tolist() == LABELS[:8].tolist()
    assert source.train_labels.dtype == torch.int64


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_precision_are_images(tmp_path, kind):
    save_file(content() | {"images": torch.full((12, 1, 2, 2), 0.5, dtype=kind)}, tmp_path / "a.safetensors")
    images = Tensors(file="a.safetensors", **NUMBERS).load(tmp_path).train.fetch(torch.arange(8))
    assert images.dtype == torch.float32
    assert (images == 0.5).all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images": IMAGES.astype(np.int16)}, r"int16; save images\.astype\('uint8'\)"),
        ({"images": IMAGES.astype(np.int64)}, r"int64; save images\.astype\('uint8'\)"),
        ({"images": with_pixel(256, np.int32)}, r"image 5 has values outside 0 to 255 \(all are from 0 to 256\); .*\.astype\('float32'\)"),
        ({"images": with_pixel(-1, np.int8)}, "image 5 has values outside 0 to 255"),
        ({"images": with_pixel(60000, np.uint16)}, r"uint16, and image 5 .*\(images / 65535\)"),
        ({"images": IMAGES > 20}, r"bool; save images\.astype\('uint8'\) \* 255"),
        ({"images": IMAGES.astype(np.complex64)}, "complex64"),
        ({"images": with_pixel(np.nan)}, "image 5 .* contains NaN or infinity"),
        ({"images": with_pixel(np.inf, at=3)}, "image 3 .* contains NaN or infinity"),
        ({"images": with_pixel(1e300, np.float64)}, "image 5 .* beyond the range of float32"),
        (
            {"images": np.zeros((12, 32, 32, 3), np.uint8)},
            r"channels last; save numpy\.moveaxis\(images, -1, 1\).*dataset\.shape=\[3,32,32\]",
        ),
        ({"images": np.zeros((12, 28, 28, 1), np.uint8)}, r"dataset\.shape=\[1,28,28\]"),
        ({"images": np.zeros((12, 2, 2), np.uint8)}, r"without the axis of the channels; save images\[:, None\]"),
        ({"images": np.zeros((12, 512, 4, 4), np.float32)}, r"set dataset\.shape=\[512,4,4\]"),
        ({"images": np.float32(3)}, r"images \(\)"),
        ({"images": np.array([[1], [2, 3]] * 6, object)}, "array 'images' .* is not an array of numbers"),
        ({"labels": with_label(0.5)}, "label 7 .* is 0.5, which is not a whole number"),
        ({"labels": with_label(np.nan)}, "label 7 .* is nan"),
        ({"labels": with_label(np.inf)}, "label 7 .* is inf"),
        ({"labels": with_label(-1, dtype=np.int64)}, r"label 7 is -1, the first of 1; remove images without a label"),
        ({"labels": LABELS + 1}, r"label 2 is 3, the first of 4; if classes are numbered from 1, save labels - 1"),
        ({"labels": LABELS * 2}, r"label 2 is 4.*fix the labels$"),
        ({"labels": LABELS % 2}, r"no training image for 1 of 3 classes \(2\)"),
        ({"labels": LABELS > 0}, r"label of type bool.*labels\.astype\('int64'\)"),
        ({"labels": LABELS[:, None]}, r"save labels\[:, 0\]"),
        ({"labels": np.eye(3)[LABELS]}, r"labels\.argmax\(1\)"),
        ({"labels": np.ones((12, 3))}, "save labels with one number per image"),
        ({"labels": np.array(["cat", "dog", "cow"])[LABELS]}, r"array 'labels' .*numpy\.unique\(labels, return_inverse=True\)\[1\]"),
        ({"labels": LABELS[:11]}, r"labels \(11,\).*one length"),
        ({"labels": np.int64(3)}, r"labels \(\)"),
        ({"labels": None, "targets": LABELS}, r"contains images \(12, 1, 2, 2\), split \(12,\), targets \(12,\); save it with these names"),
        ({"images": None, "labels": None, "split": None, "x": IMAGES}, r"contains x \(12, 1, 2, 2\)"),
        ({"split": np.where(LABELS == 0, 3, 0)}, "split 0 .* is 3, but allowed are 0, 1, 2"),
        ({"split": SPLIT - 0.5}, "split 0 .* is -0.5"),
        ({"split": SPLIT * 0}, "contains no test image, since no value of split is 1"),
        ({"split": SPLIT * 0 + 1}, "contains no train image, since no value of split is 0"),
        ({"split": SPLIT[:, None]}, r"save split\[:, 0\]"),
        ({"split": np.where(SPLIT, "test", "train")}, "array 'split' .*numpy.where"),
        ({"images": IMAGES[:0], "labels": LABELS[:0], "split": SPLIT[:0]}, "contains no image"),
    ],
)
def test_arrays_that_would_be_misread_are_refused_with_the_first_index(tmp_path, changes, said):
    saved(tmp_path / "a.npz", **changes)
    with pytest.raises(UserError, match=said):
        Tensors(file="a.npz", **NUMBERS).inspect(tmp_path)


def test_floats_up_to_255_are_noted_and_contradict_a_mean(tmp_path):
    saved(tmp_path / "a.npz", images=IMAGES.astype(np.float32))
    (note,) = Tensors(file="a.npz", **NUMBERS).inspect(tmp_path).notes
    assert "floats from 0 to 47" in note
    assert "images.round().astype('uint8')" in note
    with pytest.raises(UserError, match=r"image 0 .* outside 0 to 1 .*astype\('uint8'\)"):
        Tensors(file="a.npz", mean=(0.5,), std=(0.5,), **NUMBERS).inspect(tmp_path)
    saved(tmp_path / "a.npz", images=(IMAGES / 24 - 1).astype(np.float32))
    assert Tensors(file="a.npz", **NUMBERS).inspect(tmp_path).notes == ()
    with pytest.raises(UserError, match=r"image 0 .*set dataset\.mean=\[\] dataset\.std=\[\]"):
        Tensors(file="a.npz", mean=(0.5,), std=(0.5,), **NUMBERS).inspect(tmp_path)


def test_black_images_are_noted(tmp_path):
    saved(tmp_path / "a.npz", images=(IMAGES / 255).astype(np.uint8))
    (note,) = Tensors(file="a.npz", **NUMBERS).inspect(tmp_path).notes
    assert "exceeds 0 of 255, so images are black" in note
    saved(tmp_path / "a.npz")
    assert Tensors(file="a.npz", **NUMBERS).inspect(tmp_path).notes == ()


def test_channels_last_are_refused_before_a_file_is_read():
    with pytest.raises(UserError, match=r"dataset\.shape=\[3,32,32\]"):
        Tensors(file="a.npz", **NUMBERS | {"shape": (32, 32, 3)})


def test_a_file_of_torch_save_is_refused_with_the_way_to_convert(tmp_path):
    torch.save(content(), tmp_path / "images.pt")
    with pytest.raises(UserError, match=r"torch\.save wrote it; save the tensors with safetensors\.torch\.save_file"):
        Tensors.read_options({"file": "images.pt"}, tmp_path)

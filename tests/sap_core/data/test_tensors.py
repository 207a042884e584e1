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
        ({"mean": (0.5, 0.5)}, r"must have 1 values each"),
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
    with pytest.raises(UserError, match="cannot be read"):
        Tensors(file="images.npz", **NUMBERS).inspect(tmp_path)
    (tmp_path / "images.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UserError, match="cannot be read"):
        Tensors(file="images.safetensors", **NUMBERS).inspect(tmp_path)

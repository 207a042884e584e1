"""Digits, against scikit-learn."""

import gzip
import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sap_core.data import digits, sklearn_files
from sap_core.data.digits import Digits
from sap_core.data.source import DataSet
from sap_core.errors import UserError

NOWHERE = Path("/nonexistent")

DAMAGED = {  # compressed without a time of day: each process that runs tests must collect the same ones
    "empty": b"",
    "garbage": b"garbage",
    "no number": gzip.compress(b"1,2,x", mtime=0),
    "too short a row": gzip.compress(b"1,2,3", mtime=0),
    "cut off": gzip.compress(b"0,0\n" * 999, mtime=0)[:-9],
}


def everything(pixels):
    return pixels.fetch(torch.arange(len(pixels)))


def test_all_images_are_there_once_with_their_labels():
    from sklearn.datasets import load_digits

    source = Digits().load(NOWHERE)
    ours = {
        (tuple((16 * image).flatten().tolist()), int(label))
        for pixels, labels in ((source.train, source.train_labels), (source.test, source.test_labels))
        for image, label in zip(everything(pixels), labels, strict=True)
    }
    theirs = load_digits()
    assert ours == {(tuple(image), int(label)) for image, label in zip(theirs.data.tolist(), theirs.target, strict=True)}
    assert len(source.train) + len(source.test) == len(theirs.target) == 1_797


def test_sizes_and_values():
    source = Digits().load(NOWHERE)
    images = everything(source.train)
    assert images.shape == (1_397, *Digits.shape)
    assert images.dtype == torch.float32
    assert (images.min().item(), images.max().item()) == (0, 1)
    assert source.test_labels.bincount().tolist() == [40] * 10
    assert images.mean().item() == pytest.approx(Digits.mean[0], abs=5e-5)
    assert images.std().item() == pytest.approx(Digits.std[0], abs=5e-5)


def test_the_parts_never_change():
    source = Digits().load(NOWHERE)
    assert source.train_labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2]
    assert hashlib.sha256(everything(source.test).numpy().tobytes()).hexdigest()[:16] == "99f541d725e12111"


def test_inspect_knows_the_published_file():
    fingerprint = Digits().inspect(NOWHERE)
    assert fingerprint.verified
    assert fingerprint.digest == digits.PUBLISHED
    assert isinstance(Digits(), DataSet)


@pytest.fixture
def other_file(tmp_path, monkeypatch):
    path = tmp_path / "digits.csv.gz"
    rows = np.loadtxt(gzip.decompress(digits.published_file().read_bytes()).decode().splitlines(), delimiter=",", dtype=int)

    def write(change):
        changed = rows.copy()
        change(changed)
        path.write_bytes(gzip.compress("\n".join(",".join(map(str, row)) for row in changed).encode()))
        return path

    monkeypatch.setattr(digits, "published_file", lambda: path)
    return write


def test_another_file_needs_verify_false(other_file):
    def change(rows):
        rows[5, 5] = 3

    other_file(change)
    with pytest.raises(UserError, match=r"dataset\.verify=false"):
        Digits().load(NOWHERE)
    assert not Digits(verify=False).inspect(NOWHERE).verified
    assert len(Digits(verify=False).load(NOWHERE).test_labels) == 400


@pytest.mark.parametrize("spoil", [lambda rows: rows.__setitem__((0, 64), 10), lambda rows: rows.__setitem__((0, 0), 17)])
def test_values_out_of_range_are_refused(spoil, other_file):
    path = other_file(spoil)
    with pytest.raises(UserError, match=str(path)):
        Digits(verify=False).load(NOWHERE)


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_named(content, other_file):
    path = other_file(lambda rows: None)
    path.write_bytes(content)
    with pytest.raises(UserError, match=str(path)):
        Digits(verify=False).load(NOWHERE)
    path.unlink()
    with pytest.raises(UserError, match=str(path)):
        Digits(verify=False).load(NOWHERE)


def test_without_scikit_learn_the_cure_is_named(monkeypatch):
    monkeypatch.setattr(sklearn_files, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install scikit-learn"):
        Digits().inspect(NOWHERE)


def test_neither_scikit_learn_nor_torchvision_is_loaded():
    code = (
        "import sys; from pathlib import Path\n"
        "import sap_core.data.mnist, sap_core.data.cifar100, sap_core.data.folder, sap_core.data.noise\n"
        "from sap_core.data.digits import Digits; Digits().load(Path('.'))\n"
        "print([name for name in ('sklearn', 'torchvision', 'PIL') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.strip() == "[]"

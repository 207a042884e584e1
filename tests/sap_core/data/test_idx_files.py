"""IDX files of MNIST and Fashion-MNIST."""

import gzip
import hashlib
import struct
from dataclasses import replace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torchvision import datasets
from torchvision.datasets import mnist as torchvision_mnist

from sap_core.data.fashion_mnist import FashionMNIST
from sap_core.data.idx_files import ARCHIVES
from sap_core.data.mnist import MNIST
from sap_core.data.source import DataSet
from sap_core.errors import UserError

SETS = (MNIST, FashionMNIST)
COUNTS = {"train": 20, "t10k": 8}


def idx(array):
    """An IDX file, written from the format's description."""
    return b"\x00\x00\x08" + bytes([array.ndim]) + b"".join(struct.pack(">I", size) for size in array.shape) + array.tobytes()


def contents(seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for name in ARCHIVES:
        count = COUNTS[name.split("-")[0]]
        made[name] = (
            rng.integers(0, 10, count, dtype=np.uint8) if "labels" in name else rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        )
    return made


def write(root, kind, extracted=False):
    folder = root / kind.__name__ / "raw"
    folder.mkdir(parents=True)
    for name, array in contents().items():
        if extracted:
            (folder / name.removesuffix(".gz")).write_bytes(idx(array))
        else:
            (folder / name).write_bytes(gzip.compress(idx(array)))
    return folder


@pytest.mark.parametrize("kind", SETS)
@pytest.mark.parametrize("extracted", [False, True])
def test_a_miniature_copy_loads_as_torchvision_loads_it(kind, extracted, tmp_path):
    write(tmp_path / "ours", kind, extracted)
    write(tmp_path / "theirs", kind, extracted=True)
    source = kind(verify=False).load(tmp_path / "ours")
    for train, pixels, labels in ((True, source.train, source.train_labels), (False, source.test, source.test_labels)):
        theirs = getattr(datasets, kind.__name__)(str(tmp_path / "theirs"), train=train)
        images = pixels.fetch(torch.arange(len(pixels)))
        assert images.dtype == torch.uint8
        assert images.shape[1:] == kind.shape
        assert torch.equal(images[:, 0], theirs.data)
        assert torch.equal(labels, theirs.targets)
        assert labels.dtype == torch.int64


def test_a_read_only_folder_with_archives_only_suffices(tmp_path):
    folder = write(tmp_path, MNIST)
    before = sorted(folder.iterdir())
    folder.chmod(0o555)
    try:
        MNIST(verify=False).load(tmp_path)
    finally:
        folder.chmod(0o755)
    assert sorted(folder.iterdir()) == before


def test_the_digest_depends_on_content_and_not_on_compression(tmp_path):
    write(tmp_path / "a", MNIST)
    folder = write(tmp_path / "b", MNIST, extracted=True)
    packed, loose = (MNIST(verify=False).inspect(tmp_path / which) for which in "ab")
    assert packed.digest == loose.digest
    assert not packed.verified
    assert not loose.verified
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + bytes([(path.read_bytes()[-1] + 1) % 10]))
    assert MNIST(verify=False).inspect(tmp_path / "b").digest != loose.digest


@pytest.mark.parametrize("kind", SETS)
def test_the_checksums_are_those_of_torchvision(kind, monkeypatch, tmp_path):
    published = dict(getattr(datasets, kind.__name__).resources)
    write(tmp_path, kind)
    asked = []
    monkeypatch.setattr(
        "sap_core.data.idx_files.is_published", lambda published, name, data: asked.append((name, published.md5[name])) or True
    )
    assert kind().inspect(tmp_path).verified
    assert dict(asked) == published


def test_a_copy_with_the_published_checksums_is_verified(monkeypatch, tmp_path):
    folder = write(tmp_path, MNIST)
    own = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in ARCHIVES}
    files = replace(MNIST.published, published=replace(MNIST.published.published, md5=own))
    monkeypatch.setattr(MNIST, "published", files)
    assert MNIST().inspect(tmp_path).verified
    assert len(MNIST().load(tmp_path).train_labels) == 20
    (folder / ARCHIVES[0]).write_bytes((folder / ARCHIVES[0]).read_bytes() + b"\0")
    with pytest.raises(UserError, match="differs"):
        MNIST().inspect(tmp_path)


def test_another_checksum_is_refused_with_the_remedy(tmp_path):
    write(tmp_path, FashionMNIST)
    for read in (FashionMNIST().inspect, FashionMNIST().load):
        with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz.*MD5.*dataset\.verify=false, which is recorded") as caught:
            read(tmp_path)
        assert "\n" not in str(caught.value)


def test_extracted_files_cannot_be_verified(tmp_path):
    write(tmp_path, MNIST, extracted=True)
    with pytest.raises(UserError, match=r"only the \.gz archives have published checksums.*dataset\.verify=false"):
        MNIST().inspect(tmp_path)


@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_folder_or_file_is_named(verify, tmp_path):
    with pytest.raises(UserError, match=r"MNIST/raw/train-images-idx3-ubyte\.gz.*paths\.data.*dataset\.download=true"):
        MNIST(verify=verify).inspect(tmp_path / "nowhere")
    folder = write(tmp_path, MNIST)
    (folder / ARCHIVES[3]).unlink()
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte\.gz"):
        MNIST(verify=False).inspect(tmp_path)


def labels_of(count, largest=9):
    return np.resize(np.arange(largest + 1, dtype=np.uint8), count)


DAMAGED = {
    "truncated archive": (0, lambda good: good[:-40], "damaged"),
    "garbage": (0, lambda good: b"garbage" * 100, "damaged"),
    "empty": (1, lambda good: b"", "damaged"),
    "no header": (1, lambda good: gzip.compress(b"\0\0"), "not an IDX file"),
    "another type": (1, lambda good: gzip.compress(b"\0\0\x0d\1" + bytes(24)), "not an IDX file"),
    "images for labels": (1, lambda good: gzip.compress(idx(np.zeros((20, 28, 28), np.uint8))), "not an IDX file"),
    "short content": (0, lambda good: gzip.compress(gzip.decompress(good)[:-1]), "header has shape"),
    "another size": (2, lambda good: gzip.compress(idx(np.zeros((8, 14, 56), np.uint8))), "14 x 56"),
    "label out of range": (3, lambda good: gzip.compress(idx(labels_of(8) + np.uint8(3))), "label 10 but"),
    "too few labels": (3, lambda good: gzip.compress(idx(labels_of(7))), "7 labels for 8 images"),
    "no images": (0, lambda good: gzip.compress(idx(np.zeros((0, 28, 28), np.uint8))), "header has shape"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(case, tmp_path):
    which, damage, words = DAMAGED[case]
    path = write(tmp_path, MNIST) / ARCHIVES[which]
    path.write_bytes(damage(path.read_bytes()))
    for read in (MNIST(verify=False).inspect, MNIST(verify=False).load):
        with pytest.raises(UserError, match=words) as caught:
            read(tmp_path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_download_fetches_what_is_missing_through_torchvision(monkeypatch, tmp_path):
    fetched = []

    def deliver(url, download_root, filename, md5):
        fetched.append(filename)
        raw = tmp_path / "MNIST" / "raw"
        raw.joinpath(filename).write_bytes(gzip.compress(idx(contents()[filename])))
        raw.joinpath(filename.removesuffix(".gz")).write_bytes(idx(contents()[filename]))

    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", deliver)
    source = MNIST(verify=False, download=True).load(tmp_path)
    assert fetched == list(ARCHIVES)
    assert len(source.train_labels) == 20
    MNIST(verify=False, download=True).load(tmp_path)
    assert len(fetched) == 4


def test_a_failed_download_is_a_user_error(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torchvision_mnist, "download_and_extract_archive", fail)
    with pytest.raises(UserError, match=r"download into .* failed .*no network.*paths\.data") as caught:
        MNIST(download=True).inspect(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", SETS)
def test_the_class_defines_what_planning_needs(kind):
    assert isinstance(kind(), DataSet)
    assert (kind.num_train, kind.num_test, kind.shape, kind.classes.num) == (60_000, 10_000, (1, 28, 28), 10)
    with pytest.raises(UserError, match=r"dataset\.validation"):
        kind(validation=60_000)

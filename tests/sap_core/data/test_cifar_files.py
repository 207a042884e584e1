"""CIFAR's batch files."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch
from torchvision import datasets

from sap_core.data.cifar10 import CIFAR10
from sap_core.data.cifar100 import CIFAR100
from sap_core.data.source import DataSet
from sap_core.errors import UserError

FOLDER = {CIFAR10: "cifar-10-batches-py", CIFAR100: "cifar-100-python"}
FILES = {CIFAR10: [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"], CIFAR100: ["train", "test"]}
LABELS = {CIFAR10: "labels", CIFAR100: "fine_labels"}
META = {CIFAR10: ("batches.meta", "label_names"), CIFAR100: ("meta", "fine_label_names")}


def python2_pickle(batch):
    """The bytes that Python 2 wrote for the published files: protocol 2, byte strings for text, arrays by numpy.core.multiarray."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode("latin1")

    def item(value):
        if isinstance(value, str):
            return text(value)
        if isinstance(value, list):
            return b"](" + b"".join(b"K" + bytes([one]) if isinstance(one, int) else text(one) for one in value) + b"e"
        rows, columns = value.shape
        array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        shape = b"J" + struct.pack("<i", rows) + b"J" + struct.pack("<i", columns) + b"\x86"
        return array + b"(K\x01" + shape + kind + b"\x89T" + struct.pack("<i", value.size) + value.tobytes() + b"tb"

    return b"\x80\x02}(" + b"".join(text(key) + item(value) for key, value in batch.items()) + b"u."


def batch_of(kind, seed, count=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10 if kind is CIFAR10 else 100, count).tolist()
    data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return {"batch_label": "miniature", LABELS[kind]: labels, "data": data, "filenames": ["x.png"] * count}


def write(root, kind, dump=python2_pickle):
    folder = root / FOLDER[kind]
    folder.mkdir(parents=True)
    for seed, name in enumerate(FILES[kind]):
        (folder / name).write_bytes(dump(batch_of(kind, seed)))
    name, key = META[kind]
    (folder / name).write_bytes(dump({key: ["a", "b"]}))
    return folder


PICKLERS = {"python2": python2_pickle, **{f"protocol{n}": lambda value, n=n: pickle.dumps(value, n) for n in range(2, 6)}}


@pytest.mark.parametrize("kind", FOLDER)
@pytest.mark.parametrize("pickler", PICKLERS)
def test_a_miniature_copy_loads_with_its_pixels_and_labels(kind, pickler, tmp_path):
    write(tmp_path, kind, PICKLERS[pickler])
    source = kind(verify=False).load(tmp_path)
    batches = [batch_of(kind, seed) for seed in range(len(FILES[kind]))]
    images = source.train.fetch(torch.arange(len(source.train)))
    expected = np.concatenate([batch["data"] for batch in batches[:-1]]).reshape(-1, 3, 32, 32)
    assert images.dtype == torch.uint8
    assert np.array_equal(images.numpy(), expected)
    assert source.train_labels.tolist() == [label for batch in batches[:-1] for label in batch[LABELS[kind]]]
    assert np.array_equal(source.test.fetch(torch.tensor([2]))[0].numpy().ravel(), batches[-1]["data"][2])
    assert source.test_labels.tolist() == batches[-1][LABELS[kind]]
    assert source.train_labels.dtype == torch.int64


@pytest.mark.parametrize("kind", FOLDER)
@pytest.mark.parametrize("pickler", PICKLERS)
def test_torchvision_reads_the_same(kind, pickler, tmp_path):
    write(tmp_path, kind, PICKLERS[pickler])
    original = getattr(datasets, kind.__name__)
    lists = {"train_list": [(name, None) for name in FILES[kind][:-1]], "test_list": [(FILES[kind][-1], None)]}
    unchecked = type(original.__name__, (original,), {**lists, "meta": {**original.meta, "md5": None}})
    source = kind(verify=False).load(tmp_path)
    for train, pixels, labels in ((True, source.train, source.train_labels), (False, source.test, source.test_labels)):
        theirs = unchecked(str(tmp_path), train=train)
        assert np.array_equal(pixels.fetch(torch.arange(len(pixels))).numpy(), theirs.data.transpose(0, 3, 1, 2))
        assert labels.tolist() == theirs.targets


@pytest.mark.parametrize("kind", FOLDER)
def test_the_checksums_are_those_of_torchvision(kind, monkeypatch, tmp_path):
    original = getattr(datasets, kind.__name__)
    published = {**dict(original.train_list), **dict(original.test_list), original.meta["filename"]: original.meta["md5"]}
    write(tmp_path, kind)
    asked = {}
    monkeypatch.setattr("sap_core.data.cifar_files.is_published", lambda p, name, data: asked.update({name: p.md5[name]}) or True)
    assert kind().inspect(tmp_path).verified
    assert asked == published


@pytest.mark.parametrize("kind", FOLDER)
def test_another_checksum_is_refused_with_the_remedy(kind, tmp_path):
    folder = write(tmp_path, kind)
    for read in (kind().inspect, kind().load):
        with pytest.raises(UserError, match=r"MD5.*dataset\.verify=false") as caught:
            read(tmp_path)
        assert str(folder / FILES[kind][0]) in str(caught.value)


def test_equal_files_have_equal_digests(tmp_path):
    write(tmp_path / "a", CIFAR10)
    folder = write(tmp_path / "b", CIFAR10)
    first, second = (CIFAR10(verify=False).inspect(tmp_path / which) for which in "ab")
    assert first == second
    (folder / "data_batch_3").write_bytes(python2_pickle(batch_of(CIFAR10, 99)))
    assert CIFAR10(verify=False).inspect(tmp_path / "b").digest != first.digest


@pytest.mark.parametrize("kind", FOLDER)
@pytest.mark.parametrize("verify", [True, False])
def test_a_missing_folder_or_file_is_named(kind, verify, tmp_path):
    with pytest.raises(UserError, match=rf"{FOLDER[kind]}.*paths\.data.*dataset\.download=true"):
        kind(verify=verify).inspect(tmp_path / "nowhere")
    folder = write(tmp_path, kind)
    (folder / FILES[kind][-1]).unlink()
    with pytest.raises(UserError, match=FILES[kind][-1]):
        kind(verify=False).inspect(tmp_path)


class Attack:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_a_pickle_that_runs_a_command_is_refused_and_not_run(protocol, name, tmp_path):
    folder = write(tmp_path, CIFAR10)
    (folder / name).write_bytes(pickle.dumps({"data": Attack(f"touch {tmp_path / 'ran'}")}, protocol))
    for read in (CIFAR10(verify=False).inspect, CIFAR10(verify=False).load):
        with pytest.raises(UserError, match=r"would run '.*system'") as caught:
            read(tmp_path)
        assert str(folder / name) in str(caught.value)
    assert not (tmp_path / "ran").exists()


DAMAGED = {
    "truncated": lambda good: good[:200],
    "cut by one": lambda good: good[:-1],
    "garbage": lambda good: b"garbage" * 50,
    "empty": lambda good: b"",
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_pickle_is_named_before_loading(case, tmp_path):
    path = write(tmp_path, CIFAR10) / "data_batch_4"
    path.write_bytes(DAMAGED[case](path.read_bytes()))
    with pytest.raises(UserError, match="damaged") as caught:
        CIFAR10(verify=False).inspect(tmp_path)
    assert str(path) in str(caught.value)


GOOD = batch_of(CIFAR10, 0)
WRONG = {
    "a list": [1, 2],
    "no data": {"labels": [1]},
    "no labels": {"data": GOOD["data"]},
    "another size": {**GOOD, "data": GOOD["data"][:, :3000]},
    "another type": {**GOOD, "data": GOOD["data"].astype(np.float32)},
    "too few labels": {**GOOD, "labels": [1, 2]},
    "label out of range": {**GOOD, "labels": [1, 2, 3, 10]},
    "negative label": {**GOOD, "labels": [1, 2, 3, -1]},
    "labels of text": {**GOOD, "labels": ["1", "2", "3", "4"]},
    "labels with fractions": {**GOOD, "labels": [1.0, 2.5, 3.0, 4.0]},
    "nothing in it": {**GOOD, "data": GOOD["data"][:0], "labels": []},
}


@pytest.mark.parametrize("case", WRONG)
def test_a_pickle_of_something_else_is_named(case, tmp_path):
    path = write(tmp_path, CIFAR10) / "data_batch_4"
    path.write_bytes(pickle.dumps(WRONG[case], 3))
    with pytest.raises(UserError, match="damaged") as caught:
        CIFAR10(verify=False).load(tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", FOLDER)
def test_the_class_defines_what_planning_needs(kind):
    assert isinstance(kind(), DataSet)
    assert (kind.num_train, kind.num_test, kind.shape) == (50_000, 10_000, (3, 32, 32))
    assert len(kind.classes.superclass) == kind.classes.num


def test_the_superclasses_of_cifar100_are_the_published_groups():
    groups = {
        0: {4, 30, 55, 72, 95}, 1: {1, 32, 67, 73, 91}, 2: {54, 62, 70, 82, 92}, 3: {9, 10, 16, 28, 61}, 4: {0, 51, 53, 57, 83},
        5: {22, 39, 40, 86, 87}, 6: {5, 20, 25, 84, 94}, 7: {6, 7, 14, 18, 24}, 8: {3, 42, 43, 88, 97}, 9: {12, 17, 37, 68, 76},
        10: {23, 33, 49, 60, 71}, 11: {15, 19, 21, 31, 38}, 12: {34, 63, 64, 66, 75}, 13: {26, 45, 77, 79, 99}, 14: {2, 11, 35, 46, 98},
        15: {27, 29, 44, 78, 93}, 16: {36, 50, 65, 74, 80}, 17: {47, 52, 56, 59, 96}, 18: {8, 13, 48, 58, 90}, 19: {41, 69, 81, 85, 89},
    }  # fmt: skip
    superclass = CIFAR100.classes.superclass
    assert {group: {label for label in range(100) if superclass[label] == group} for group in range(20)} == groups

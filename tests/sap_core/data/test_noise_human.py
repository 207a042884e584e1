"""CIFAR-N: files in the format of the release are read without running code, and all others are refused."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sap_core.data import corruption
from sap_core.data.cifar10 import CIFAR10
from sap_core.data.cifar100 import CIFAR100
from sap_core.data.mnist import MNIST
from sap_core.data.noise import Human, human_files
from sap_core.data.noise.human_files import COLUMNS, FOLDERS, Column, fingerprint, read_column
from sap_core.data.samples import TensorPixels
from sap_core.data.source import Classes, DataNoise, Source
from sap_core.errors import UserError
from sap_core.seeding import stream

NUM = 40


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A release in miniature: (folder, true labels, worst labels)."""
    true = np.arange(NUM) % 10
    given = np.where(np.arange(NUM) % 5 == 0, (true + 1) % 10, true)
    folder = tmp_path / FOLDERS[0]
    folder.mkdir()
    torch.save({"clean_label": true, "worse_label": given, "notes": [1, 2]}, folder / "CIFAR-10_human.pt")
    monkeypatch.setattr(human_files, "NUM", NUM)
    mine = Column("CIFAR-10_human.pt", "worse_label", 0.2, fingerprint(torch.from_numpy(given)))
    monkeypatch.setattr(human_files, "COLUMNS", COLUMNS)
    monkeypatch.setitem(COLUMNS, "worst", mine)
    return tmp_path, torch.from_numpy(true), torch.from_numpy(given)


def source(labels):
    return Source(TensorPixels(torch.zeros(len(labels), 3, 2, 2)), labels, TensorPixels(torch.zeros(0)), labels)


def given_by(noise, root, labels, data=None):
    return corruption.corrupt(noise, data or CIFAR10(), source(labels), root, stream(1, "noise")).labels


def test_the_labels_of_the_release_are_given(made):
    root, true, given = made
    noise = Human("worst")
    noise.inspect(CIFAR10(), root)
    assert torch.equal(given_by(noise, root, true), given)
    assert isinstance(noise, DataNoise)
    assert (noise.rate, noise.expected_rate(Classes(10))) == (None, 0.2)


def test_a_clone_of_the_official_repository_is_found(made):
    root, true, given = made
    (root / "cifar-10-100n").mkdir()
    (root / FOLDERS[0]).rename(root / FOLDERS[1])
    assert torch.equal(given_by(Human("worst"), root, true), given)


def test_true_labels_that_differ_are_refused_with_their_number(made):
    root, true, _ = made
    other = true.clone()
    other[[3, 7]] = 0
    with pytest.raises(UserError, match="2 of 40 training labels of this copy of CIFAR10 are not those"):
        given_by(Human("worst"), root, other)
    with pytest.raises(UserError, match="30 of 30"):
        given_by(Human("worst"), root, true[:30])


def test_missing_changed_and_damaged_files_are_refused(made):
    root, _, given = made
    path = root / FOLDERS[0] / "CIFAR-10_human.pt"
    whole = path.read_bytes()
    with pytest.raises(UserError, match="'aggre_label', but clean_label, notes, worse_label"):
        Human("aggregate").inspect(CIFAR10(), root)
    torch.save({"clean_label": given.numpy(), "worse_label": given.numpy()[::-1].copy()}, path)
    with pytest.raises(UserError, match="differs from the published labels"):
        Human("worst").inspect(CIFAR10(), root)
    torch.save({"clean_label": given.numpy(), "worse_label": given.numpy()[:30].copy()}, path)
    with pytest.raises(UserError, match=r"contains int64 of shape \(30,\), not 40 labels"):
        Human("worst").inspect(CIFAR10(), root)
    for content in (whole[: len(whole) // 2], b"", b"no archive"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            Human("worst").inspect(CIFAR10(), root)
    path.unlink()
    with pytest.raises(UserError, match=r"there is no file .*cifar-n.*cifar-10-100n/data.*set paths.data"):
        Human("worst").inspect(CIFAR10(), root)


def test_a_file_that_would_run_code_is_not_opened(made, tmp_path):
    root, _, _ = made
    path = root / FOLDERS[0] / "CIFAR-10_human.pt"
    mark = tmp_path / "ran"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'touch " + str(mark).encode() + b"'\ntR.")
        archive.writestr("archive/version", "3")
    with pytest.raises(UserError, match=r"would run 'os\.system' when loaded"):
        Human("worst").inspect(CIFAR10(), root)
    assert not mark.exists()


def test_other_data_sets_and_other_label_sets_are_refused():
    Human("worst").check(CIFAR10())
    Human("cifar100").check(CIFAR100())
    with pytest.raises(UserError, match=r"exists for CIFAR10 only; choose dataset=cifar10$"):
        corruption.check_noise(Human("worst"), "human_worst", MNIST(), "mnist")
    with pytest.raises(UserError, match=r"for CIFAR10 only; use noise\.labels=cifar100"):
        Human("worst").check(CIFAR100())
    with pytest.raises(UserError, match=r"for CIFAR100 only; use noise\.labels=aggregate, random1"):
        Human("cifar100").check(CIFAR10())
    with pytest.raises(UserError, match=r"noise\.labels='best'; allowed: aggregate"):
        Human("best")


def test_a_rate_is_refused_because_it_is_measured():
    with pytest.raises(UserError, match=r"noise\.rate=0\.2 cannot be set for noise=human.*40\.2 % for worst"):
        Human("worst", 0.2)


@pytest.mark.parametrize("labels", COLUMNS)
def test_the_real_files_contain_the_published_labels(labels):
    root = Path(os.environ.get("SAP_SWEEP_DATA", "data"))
    column = COLUMNS[labels]
    if not any((root / folder / column.file).is_file() for folder in FOLDERS):
        pytest.skip(f"no {column.file} below SAP_SWEEP_DATA")
    true, given = read_column(root, column)
    assert float((true != given).double().mean()) == pytest.approx(column.rate, abs=1e-9)
    assert true.bincount().tolist() == [5_000] * 10 or true.bincount().tolist() == [500] * 100


def test_the_real_labels_fit_the_real_images():
    root = Path(os.environ.get("SAP_SWEEP_DATA", "data"))
    if not (root / "cifar-10-batches-py").is_dir() or not any((root / folder / "CIFAR-10_human.pt").is_file() for folder in FOLDERS):
        pytest.skip("no CIFAR-10 with CIFAR-N below SAP_SWEEP_DATA")
    data = CIFAR10(verify=False)
    loaded = data.load(root)
    given = corruption.corrupt(Human("aggregate"), data, loaded, root, stream(1, "noise")).labels
    assert int((given != loaded.train_labels).sum()) == 4_505

"""Regression data sets and the noise of their targets."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sap_core.data import california_housing
from sap_core.data.california_housing import CaliforniaHousing, features
from sap_core.data.corruption import check_noise, corrupt
from sap_core.data.diabetes import Diabetes
from sap_core.data.digits import Digits
from sap_core.data.noise import LinearTargets, Outliers, SignFlip, Symmetric
from sap_core.data.source import Classes
from sap_core.errors import UserError
from sap_core.seeding import stream

NOISE = stream(1, "noise", "x")


def test_diabetes_are_scikit_learns():
    from sklearn.datasets import load_diabetes

    known = load_diabetes(scaled=False)
    source = Diabetes().load(Path())
    assert (len(source.train_labels), len(source.test_labels)) == (Diabetes.num_train, Diabetes.num_test) == (350, 92)
    targets = torch.cat([source.train_labels, source.test_labels]).double()
    found = torch.cat([source.train.tensor, source.test.tensor]).double()
    assert np.corrcoef(np.sort(targets), np.sort(known.target))[0, 1] == pytest.approx(1)
    for column in range(10):  # standardised: the same numbers but for scale and place, beside the same targets
        together = np.corrcoef(found[:, column], targets)[0, 1]
        assert together == pytest.approx(np.corrcoef(known.data[:, column], known.target)[0, 1], abs=1e-5)
    assert float(source.train_labels.mean()) == pytest.approx(0, abs=1e-6)
    assert float(source.train_labels.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert Diabetes().inspect(Path()).verified


def archive(root, rows):
    """A file like the published one with made-up districts."""
    table = np.random.default_rng(0).uniform(1, 9, (rows, 9))
    text = "\n".join(",".join(f"{value:.4f}" for value in row) for row in table).encode()
    path = root / california_housing.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as file:
        entry = tarfile.TarInfo(california_housing.MEMBER)
        entry.size = len(text)
        file.addfile(entry, io.BytesIO(text))
    return table.round(4), hashlib.sha256(path.read_bytes()).hexdigest()


def test_california_housing_is_read_from_the_archive(tmp_path, monkeypatch):
    table, digest = archive(tmp_path, california_housing.NUM)
    data = CaliforniaHousing(verify=False)
    assert data.inspect(tmp_path).digest == digest
    assert not data.inspect(tmp_path).verified
    source = data.load(tmp_path)
    assert len(source.train_labels) == data.num_train
    together = np.corrcoef(source.train.tensor[:, 2], source.train_labels)[0, 1]  # rooms per household
    assert together == pytest.approx(np.corrcoef(table[:, 3] / table[:, 6], table[:, 8])[0, 1], abs=0.01)
    with pytest.raises(UserError, match=r"differs from the published one.*dataset\.verify=false"):
        CaliforniaHousing().inspect(tmp_path)
    archive(tmp_path, 5)
    with pytest.raises(UserError, match="does not contain 20640 districts"):
        data.load(tmp_path)
    (tmp_path / california_housing.FILE).write_bytes(b"no archive")
    with pytest.raises(UserError, match="is damaged"):
        data.load(tmp_path)
    with pytest.raises(UserError, match=r"there is no readable file .*dataset\.download=true"):
        data.inspect(tmp_path / "elsewhere")
    monkeypatch.setattr(california_housing, "URL", "file:///no/such/file")
    with pytest.raises(UserError, match=r"the download to .* failed"):
        CaliforniaHousing(download=True).inspect(tmp_path / "elsewhere")


def test_the_features_of_california_housing_are_scikit_learns():
    row = torch.tensor([[-122.23, 37.88, 41.0, 880.0, 129.0, 322.0, 126.0, 8.3252, 452600.0]], dtype=torch.float64)  # its first district
    expected = [8.3252, 41.0, 6.98412698, 1.02380952, 322.0, 2.55555556, 37.88, -122.23]
    assert features(row)[0].tolist() == pytest.approx(expected, rel=1e-8)


TARGETS = torch.tensor([1.0, 2.0, 3.0, 4.0, 10.0, 0.0, 5.0, 7.0])


def test_sign_flips_mirror_at_the_mean():
    given = SignFlip(0.5).corrupt(TARGETS, Classes(1), NOISE)
    hit = given != TARGETS
    assert int(hit.sum()) in (3, 4)  # 4 is the mean itself, and its own mirror image
    torch.testing.assert_close(given[hit], 8 - TARGETS[hit])


def test_outliers_lie_far_off_on_both_sides():
    targets = torch.randn(400, generator=torch.Generator().manual_seed(1))
    given = Outliers(0.25, size=6.0).corrupt(targets, Classes(1), NOISE)
    moved = ((given - targets) / targets.std(correction=0))[given != targets]
    assert len(moved) == 100
    torch.testing.assert_close(moved.abs(), torch.full((100,), 6.0))
    assert 30 < int((moved > 0).sum()) < 70
    with pytest.raises(UserError, match="size=0"):
        Outliers(0.2, size=0)


def test_linear_targets_follow_from_the_inputs():
    data = Diabetes()
    source = data.load(Path())
    given = corrupt(LinearTargets(0.3), data, source, Path(), NOISE).labels
    hit = given != source.train_labels
    assert int(hit.sum()) == 105
    inputs = torch.cat([source.train.tensor, torch.ones(350, 1)], 1).double()
    fit = torch.linalg.lstsq(inputs[hit], given[hit].double()).solution
    torch.testing.assert_close(inputs[hit] @ fit, given[hit].double(), rtol=0, atol=1e-4)
    other = corrupt(LinearTargets(0.1), data, source, Path(), NOISE).labels
    assert ((other != source.train_labels) <= hit).all()  # rates are nested, as for classes


@pytest.mark.parametrize("noise", [SignFlip(0.2), Outliers(0.2), LinearTargets(0.2)], ids=lambda noise: type(noise).__name__)
def test_numbers_and_classes_are_not_mixed_up(noise):
    check_noise(noise, "it", Diabetes(), "diabetes")
    with pytest.raises(UserError, match="corrupts regression targets, but this data set has classes"):
        check_noise(noise, "it", Digits(), "digits")
    with pytest.raises(UserError, match="needs class labels"):
        check_noise(Symmetric(0.2), "symmetric", Diabetes(), "diabetes")

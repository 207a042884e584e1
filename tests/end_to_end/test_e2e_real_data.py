"""Sweeps over real images in the folder of the environment variable SAP_SWEEP_DATA."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def data_with(folder):
    root = os.environ.get("SAP_SWEEP_DATA")
    if root is None or not (Path(root) / folder).is_dir():
        pytest.skip(f"set SAP_SWEEP_DATA to a folder that holds {folder} to test on the real set")
    return f"paths.data={root}"


GRID = {"learning_rate": "[1.0e-3]", "epochs": "[1,2]", "msteps": "[1]", "forget_batch": "[32]", "retain_batch": "[128]"}


def test_fashion_runs_from_a_folder(bench):
    data = data_with("FashionMNIST/raw")
    end = bench.run(
        "fashion", "experiment=fashion", data, "seeds=[12484]", "trainer.epochs=2", "methods=[sap,scrub]", "backend.workers=2",
        *(f"method.scrub.spaces.grid_a.{key}.grid={values}" for key, values in GRID.items()),
    )  # fmt: skip
    assert end.code == 0, end.err
    store = bench.store("fashion")
    store.assert_whole()
    rows = store.rows()
    assert {method: sum(row["method"] == method for row in rows) for method in ("vanilla", "sap", "scrub")} == {
        "vanilla": 1,
        "sap": 16,
        "scrub": 2,
    }
    (vanilla,) = [row for row in rows if row["method"] == "vanilla"]
    assert (vanilla["num_train"], vanilla["num_val"], vanilla["num_test"]) == (54_000, 6_000, 10_000)
    assert vanilla["noise_rate_measured"] == pytest.approx(0.25, abs=0.005)
    assert vanilla["test_acc"] > 0.7
    assert all(row["dataset_verified"] is True and row["status"] == "ok" for row in rows)


CIFAR = (
    "name=cifar", "cells=[{dataset: cifar10, noise: symmetric, noise.rate: 0.1, model: lenet5}]", "methods=[sap]", "seeds=[1]",
    "debug=smoke", "trainer.preprocess={normalise: true, augment: flip, padding: 4}",
)  # fmt: skip


def test_an_unpublished_copy_is_refused(bench):
    end = bench.run("refused", *CIFAR, data_with("cifar-10-batches-py"))
    if end.code == 0:
        pytest.skip("this copy of CIFAR-10 is the published one")
    assert (end.code, end.out, end.err.count("\n")) == (2, "", 1)
    assert end.err.startswith("error: ")
    assert "dataset.verify=false" in end.err
    assert not bench.store("refused").files()


def test_an_unpublished_copy_is_accepted_on_request_and_recorded_in_every_row(bench):
    end = bench.run("accepted", *CIFAR, data_with("cifar-10-batches-py"), "dataset.verify=false")
    assert end.code == 0, end.err
    rows = bench.store("accepted").rows()
    assert len(rows) == 4
    published = bench.run("refused", *CIFAR, data_with("cifar-10-batches-py")).code == 0
    assert {row["dataset_verified"] for row in rows} == {published}
    assert {(row["num_train"], row["num_val"], row["num_test"]) for row in rows} == {(450, 50, 500)}

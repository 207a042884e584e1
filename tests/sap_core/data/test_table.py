"""Images listed in a table; wrong options are refused with the right value."""

import csv

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from sap_core.api import Need
from sap_core.data.assemble import assemble_task
from sap_core.data.source import DataSet, can_verify
from sap_core.data.table import Table
from sap_core.errors import UserError

OPTIONS = {"table": "mine/images.csv", "num_classes": 2, "num_train": 8, "num_test": 2, "size": 6, "validation": 2}
HEAD = ["path", "label", "split", "true_label"]


def lines():
    """Six training, two validation and two test images; images 1 and 6 are labelled wrongly."""
    rows = []
    for number in range(10):
        true = number % 2
        given = 1 - true if number in (1, 6) else true
        rows.append([f"pictures/{number}.png", str(given), "train" if number < 6 else "val" if number < 8 else "test", str(true)])
    return rows


def write(folder, rows, head=HEAD):
    with (folder / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([head, *[row[: len(head)] for row in rows]])


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    for number in range(10):
        Image.fromarray(np.full((6, 6, 3), 20 * number, np.uint8)).save(folder / "pictures" / f"{number}.png")
    write(folder, lines())
    return tmp_path


def test_rows_become_samples_in_their_order(root):
    source = Table(**OPTIONS).load(root)
    assert source.train_labels.tolist() == [0, 0, 0, 1, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    assert (source.own_validation, source.true_labels, source.audited) == (2, None, None)
    assert source.train.fetch(torch.tensor([7, 2]))[:, 0, 0, 0].tolist() == [140, 40]
    assert source.test.fetch(torch.tensor([1]))[0, 0, 0, 0] == 180


def test_parquet_and_names_say_the_same_as_csv_and_numbers(root):
    columns = {name: [row[place] for row in lines()] for place, name in enumerate(HEAD)}
    names = {"0": "cat", "1": "dog"}
    columns["label"] = [names[label] for label in columns["label"]]
    columns["true_label"] = [names[label] for label in columns["true_label"]]
    parquet.write_table(pa.table(columns), root / "mine" / "images.parquet")
    ours = Table(**{**OPTIONS, "table": "mine/images.parquet"}, true_labels=True).load(root)
    theirs = Table(**OPTIONS, true_labels=True).load(root)
    assert ours.train_labels.tolist() == theirs.train_labels.tolist()
    assert ours.true_labels.tolist() == theirs.true_labels.tolist()
    assert ours.train.paths == theirs.train.paths


def test_true_labels_beside_wrong_ones_are_measured_and_verify_samples(root):
    settings = {**OPTIONS, "true_labels": True}
    spec = {
        "dataset": {"target": "sap_core.data.table.Table", "settings": settings},
        "noise": {"target": "sap_core.data.noise.NoNoise", "settings": {}},
        "model": {"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 4}},
        "preprocess": {"normalise": True, "augment": "none", "padding": 4}, "seed": 3, "limit": None,
    }  # fmt: skip
    made = assemble_task(spec, root, torch.device("cpu"))
    assert made.train.index.tolist() == [0, 1, 2, 3, 4, 5]
    assert made.val.index.tolist() == [6, 7]
    assert made.noise_rate_measured == pytest.approx(1 / 6)
    assert made.transitions.tolist() == [[3, 0], [1, 2]]
    task = made.task.allow(frozenset(Need))
    assert task.verified(Need.FORGET).index.tolist() == [1]
    assert sorted(task.verified(Need.RETAIN).index.tolist()) == [0, 2, 3, 4, 5]
    assert can_verify(Table(**settings), Need.TRUE_LABELS)


def test_without_validation_rows_they_are_drawn(root):
    write(root / "mine", [row for row in lines() if row[2] != "val"])
    source = Table(**{**OPTIONS, "num_train": 6}).load(root)
    assert (len(source.train), source.own_validation) == (6, 0)


def test_the_digest_depends_on_table_and_images(root):
    first = Table(**OPTIONS).inspect(root)
    write(root / "mine", [[*row[:3], row[1]] for row in lines()])
    second = Table(**OPTIONS).inspect(root)
    Image.fromarray(np.zeros((6, 6, 3), np.uint8)).save(root / "mine" / "pictures" / "3.png")
    assert len({first.digest, second.digest, Table(**OPTIONS).inspect(root).digest}) == 3
    with pytest.raises(UserError, match=r"dataset\.verify=false"):
        Table(**OPTIONS, digest=first.digest, verify=True).inspect(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_train": 9}, r"has 8 rows for dataset\.num_train=9; set dataset\.num_train=8"),
        ({"num_test": 1}, r"has 2 rows for dataset\.num_test=1"),
        ({"validation": 3}, r"has 2 rows for dataset\.validation=3"),
        ({"validation": 0.25}, r"has 2 rows for dataset\.validation=0\.25; set dataset\.validation=2"),
        ({"num_classes": 3}, "no training row for 1 of 3 classes"),
        ({"table": "mine/nothing.csv"}, "nothing.csv' cannot be read"),
        ({"table": "mine/pictures/1.png"}, "cannot be read|lacks the columns"),
    ],
)
def test_what_does_not_fit_the_table_is_refused_with_the_right_value(root, change, words):
    for read in (Table(**{**OPTIONS, **change}).inspect, Table(**{**OPTIONS, **change}).load):
        with pytest.raises(UserError, match=words):
            read(root)


def test_rows_that_say_nothing_sensible_are_counted(root):
    rows = lines()
    rows[0][2], rows[3][1], rows[4][0] = "training", "7", ""
    write(root / "mine", rows)
    with pytest.raises(UserError, match=r"3 of 10 rows of table .* are invalid \(row 1: .*split 'training'.*row 4: .*label '7'"):
        Table(**OPTIONS).load(root)
    write(root / "mine", lines(), HEAD[:2])
    with pytest.raises(UserError, match="lacks the column split; required are path, label, split"):
        Table(**OPTIONS).load(root)
    write(root / "mine", lines(), HEAD[:3])
    with pytest.raises(UserError, match="needs a column true_label"):
        Table(**OPTIONS, true_labels=True).load(root)
    rows = lines()
    rows[0][1] = "cat"
    write(root / "mine", rows)
    with pytest.raises(UserError, match=r"contains 3 different labels, but dataset\.num_classes=2"):
        Table(**OPTIONS).load(root)


def test_missing_images_are_counted(root):
    for number in (0, 9):
        (root / "mine" / "pictures" / f"{number}.png").unlink()
    with pytest.raises(UserError, match=r"2 of 10 image files .*No such file"):
        Table(**OPTIONS).inspect(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"truth_known": True, "true_labels": True}, "set only one of them"),
        ({"true_labels": True, "verified": "a.csv"}, "omit dataset.verified"),
        ({"verify": True}, r"dataset\.digest"),
        ({"mean": (0.5,)}, r"one number per channel \(3\)"),
        ({"size": 0}, r"dataset\.size"),
    ],
)
def test_silly_options_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        Table(**{**OPTIONS, **change})


def test_a_plan_needs_no_files():
    assert isinstance(Table(**OPTIONS), DataSet)

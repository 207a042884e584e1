"""Images that occur more than once: in training and test, with two labels, or again with one label."""

import csv
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data.duplicates import find_copies
from sap_core.data.folder import Folder
from sap_core.data.table import Table
from sap_core.data.tensors import Tensors
from sap_core.errors import UserError


def picture(seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8))


def test_the_rules_of_dropping():
    # Positions: 0 and 1 equal with one label, 2 and 3 with two, 4 is test 6, 5 alone; tests 7 and 8 equal, 9 and 10 equal with two labels.
    contents = [b"a", b"a", b"b", b"b", b"c", b"d", b"c", b"e", b"e", b"f", b"f"]
    found = find_copies(contents, [0, 0, 0, 1, 0, 0, 1, 1, 1, 0, 1], universe=6)
    assert found.groups == ((0, 1), (2, 3), (4, 6), (7, 8), (9, 10))
    assert found.dropped == {1, 2, 3, 4, 8, 9, 10}


def test_a_thrice_repeated_image_with_one_other_label_is_dropped_altogether():
    assert find_copies([b"a"] * 3, [0, 0, 1], universe=3).dropped == {0, 1, 2}
    assert find_copies([b"a"] * 3, [0, 0, 0], universe=3).dropped == {1, 2}


@pytest.fixture
def root(tmp_path):
    """Eight training and four test images, then a leak, a contradiction and a copy (as BMP): eleven training images."""
    base = tmp_path / "pets"
    for part, each in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cat", "dog")):
            (base / part / name).mkdir(parents=True)
            for number in range(each):
                picture(100 * (part == "test") + 10 * label + number).save(base / part / name / f"{number}.png")
    picture(100).save(base / "train" / "dog" / "leak.bmp")
    shutil.copy(base / "train" / "cat" / "1.png", base / "train" / "dog" / "wrong.png")
    picture(2).save(base / "train" / "cat" / "again.bmp")
    return tmp_path


OPTIONS = {"folder": "pets", "num_classes": 2, "num_train": 11, "num_test": 4, "size": 6, "validation": 2}


def test_equal_pixels_are_found_in_any_format(root):
    found = Folder(**OPTIONS).inspect(root).duplicates
    assert found is not None
    assert found.summary == (
        "1 image of training or validation also in the test set, 4 images with equal pixels and different labels, 2 images with equal "
        "pixels and the same label"
    )
    assert list(found.rows("pets")) == [
        ("pets", "1", "contradiction", "train", "train/cat/1.png", "cat", "no"),
        ("pets", "1", "contradiction", "train", "train/dog/wrong.png", "dog", "no"),
        ("pets", "2", "copy", "train", "train/cat/2.png", "cat", "no"),
        ("pets", "2", "copy", "train", "train/cat/again.bmp", "cat", "no"),
        ("pets", "3", "leak and contradiction", "train", "train/dog/leak.bmp", "dog", "no"),
        ("pets", "3", "leak and contradiction", "test", "test/cat/0.png", "cat", "no"),
    ]
    assert found.remaining == (7, 0, 4)
    assert len(found.lines("pets", "duplicates.csv")) == 5


def test_a_set_without_copies_has_no_report(root):
    for name in ("dog/leak.bmp", "dog/wrong.png", "cat/again.bmp"):
        (root / "pets" / "train" / name).unlink()
    found = Folder(**{**OPTIONS, "num_train": 8}).inspect(root).duplicates
    assert found is not None
    assert (found.groups, found.lines("pets", "")) == ((), [])


def test_dropping_leaves_the_data_set_that_deleting_would_leave(root):
    drop = Folder(**{**OPTIONS, "num_train": 7}, duplicates="drop")
    digest, source = drop.inspect(root).digest, drop.load(root)
    names = [f"{path.parent.name}/{path.name}" for path in source.train.paths]
    assert names == ["cat/0.png", "cat/2.png", "cat/3.png", "dog/0.png", "dog/1.png", "dog/2.png", "dog/3.png"]
    assert (source.train_labels.tolist(), len(source.test)) == ([0, 0, 0, 1, 1, 1, 1], 4)
    for name in ("dog/leak.bmp", "dog/wrong.png", "cat/again.bmp", "cat/1.png"):
        (root / "pets" / "train" / name).unlink()
    assert Folder(**{**OPTIONS, "num_train": 7}).inspect(root).digest == digest
    assert drop.inspect(root).digest == digest


def test_numbers_are_those_that_remain(root):
    for read in (Folder(**OPTIONS, duplicates="drop").inspect, Folder(**OPTIONS, duplicates="drop").load):
        with pytest.raises(UserError, match=r"contains 7 images after dataset\.duplicates=drop removed 4 copies.*set dataset\.num_train=7"):
            read(root)
    counted = Folder.read_options({"folder": "pets", "duplicates": "drop"}, root).options
    assert (counted["num_train"].value, counted["num_test"].value) == (7, 4)


def test_a_class_that_dropping_empties_is_refused(root):
    cat, dog = (root / "pets" / "train" / name for name in ("cat", "dog"))
    shutil.rmtree(dog)
    dog.mkdir()
    (cat / "again.bmp").unlink()
    for name in ("0.png", "1.png"):
        shutil.copy(cat / name, dog / name)
    with pytest.raises(UserError, match=r"duplicates=drop leaves 1 of 2 classes .* without an image: dog"):
        Folder(**{**OPTIONS, "num_train": 2, "validation": 0.5}, duplicates="drop").inspect(root)


def test_pixels_that_are_not_read_cannot_be_compared(root):
    found = Folder(**OPTIONS, check="size").inspect(root)
    assert found.duplicates is None
    assert any("not looked for" in note for note in found.notes)
    with pytest.raises(UserError, match=r"duplicates=drop compares pixels.*check=content"):
        Folder(**OPTIONS, check="size", duplicates="drop")


def test_ten_groups_are_shown_and_the_rest_counted(root):
    for number in range(12):
        picture(500 + number).save(root / "pets" / "train" / "cat" / f"x{number}.png")
        picture(500 + number).save(root / "pets" / "test" / "cat" / f"x{number}.png")
    found = Folder(**{**OPTIONS, "num_train": 23, "num_test": 16}).inspect(root).duplicates
    lines = found.lines("pets", "all.csv")
    assert (len(lines), lines[-1]) == (12, "  ... and 5 more; all 15 contents with their copies: all.csv")


def test_an_audit_line_marks_all_copies(root):
    (root / "audit.csv").write_text("path,true_label\ntrain/cat/1.png,dog\n")
    audited = Folder(**OPTIONS, verified="audit.csv").load(root).audited
    paths = Folder(**OPTIONS).load(root).train.paths
    assert {path.name for path, label in zip(paths, audited.tolist(), strict=True) if label == 1} == {"1.png", "wrong.png"}
    (root / "audit.csv").write_text("path,true_label\ntrain/cat/1.png,dog\ntrain/dog/wrong.png,cat\n")
    with pytest.raises(UserError, match="line 3: another true label than that of an earlier line with the same pixels"):
        Folder(**OPTIONS, verified="audit.csv").load(root)
    (root / "audit.csv").write_text("path,true_label\ntrain/cat/0.png,dog\n")
    dropped = Folder(**{**OPTIONS, "num_train": 7}, duplicates="drop", verified="audit.csv").load(root)
    assert dropped.audited.tolist() == [1, -1, -1, -1, -1, -1, -1]
    (root / "audit.csv").write_text("index,true_label\n0,dog\n")
    with pytest.raises(UserError, match="changes their positions; name them by path"):
        Folder(**{**OPTIONS, "num_train": 7}, duplicates="drop", verified="audit.csv").load(root)


def table(root, rows):
    with (root / "pets" / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])


TABLE = {"table": "pets/images.csv", "num_classes": 2, "num_train": 5, "num_test": 1, "size": 6, "validation": 2}
ROWS = [
    ("train/cat/0.png", 0, "train"), ("train/dog/0.png", 1, "train"), ("./train/cat/0.png", 1, "train"), ("train/dog/0.png", 1, "train"),
    ("test/cat/1.png", 0, "train"), ("test/cat/1.png", 0, "test"),
]  # fmt: skip


def test_one_path_in_two_rows_is_found_with_and_without_decoding(root):
    table(root, ROWS)
    for check in ("content", "size"):
        found = Table(**TABLE, check=check).inspect(root).duplicates
        assert [row[2] for row in found.rows("t")] == ["contradiction"] * 2 + ["copy"] * 2 + ["leak"] * 2
    with pytest.raises(
        UserError, match=r"has 1 rows after dataset\.duplicates=drop removed 4 copies .*set dataset\.num_train=1 dataset\.num_test=1"
    ):
        Table(**TABLE, duplicates="drop").inspect(root)


def test_dropped_rows_take_their_true_labels_along(root):
    rows = [
        *ROWS,
        ("train/cat/2.png", 0, "train"),
        ("train/cat/3.png", 0, "train"),
        ("train/dog/1.png", 1, "val"),
        ("train/dog/2.png", 1, "val"),
    ]
    with (root / "pets" / "images.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "true_label"), *[(*row, row[1]) for row in rows]])
    source = Table(**{**TABLE, "num_train": 5, "validation": 2}, true_labels=True, duplicates="drop").load(root)
    assert [path.name for path in source.train.paths] == ["0.png", "2.png", "3.png", "1.png", "2.png"]
    assert (source.train_labels.tolist(), source.true_labels.tolist(), source.own_validation) == ([1, 0, 0, 1, 1], [1, 0, 0, 1, 1], 2)
    assert Table.read_options({"table": "pets/images.csv", "duplicates": "drop"}, root).options["num_train"].value == 5


def test_an_audit_of_a_table_marks_every_row_of_a_path(root):
    table(root, ROWS)
    (root / "audit.csv").write_text("path,true_label\ntrain/cat/0.png,1\n")
    for check in ("content", "size"):
        assert Table(**TABLE, check=check, verified="audit.csv").load(root).audited.tolist() == [1, -1, 1, -1, -1]
    (root / "audit.csv").write_text("index,true_label\n0,1\n2,1\n")
    assert Table(**TABLE, verified="audit.csv").load(root).audited.tolist() == [1, -1, 1, -1, -1]


def tensors(root, split=True):
    images = torch.arange(10 * 4, dtype=torch.uint8).reshape(10, 1, 2, 2)
    images[1], images[3], images[9] = images[0], images[2], images[4]
    arrays = {"images": images.numpy(), "labels": np.array([0, 0, 0, 1, 1, 0, 1, 0, 1, 1])}
    np.savez(root / "a.npz", **arrays, **({"split": np.array([0] * 8 + [1] * 2)} if split else {}))


NUMBERS = {"file": "a.npz", "num_classes": 2, "num_train": 8, "num_test": 2, "shape": (1, 2, 2), "validation": 2}


def test_images_of_a_tensor_file_are_compared(tmp_path):
    tensors(tmp_path)
    plain = Tensors(**NUMBERS).inspect(tmp_path)
    assert [row[2] for row in plain.duplicates.rows("t")] == ["copy"] * 2 + ["contradiction"] * 2 + ["leak"] * 2
    drop = Tensors(**{**NUMBERS, "num_train": 4}, duplicates="drop")
    assert drop.inspect(tmp_path).digest != plain.digest
    assert drop.load(tmp_path).train.tensor[:, 0, 0, 0].tolist() == [0, 20, 24, 28]
    with pytest.raises(
        UserError, match=r"contains 4 train images after .* removed 4 copies, but dataset\.num_train=8; set dataset\.num_train=4"
    ):
        Tensors(**NUMBERS, duplicates="drop").inspect(tmp_path)


def test_without_a_split_being_in_both_parts_is_no_finding(tmp_path):
    tensors(tmp_path, split=False)
    found = Tensors(**{**NUMBERS, "num_train": 10, "num_test": 10}).inspect(tmp_path).duplicates
    assert [row[2] for row in found.rows("t")] == ["copy"] * 2 + ["contradiction"] * 2 + ["copy"] * 2
    assert found.remaining == (6, 0, 6)
    assert len(Tensors(**{**NUMBERS, "num_train": 6, "num_test": 6}, duplicates="drop").load(tmp_path).test) == 6

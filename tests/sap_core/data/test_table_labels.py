"""Labels of tables: numbers, names, and what is neither."""

import csv

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sap_core.data.table import Table
from sap_core.data.table_files import read_table
from sap_core.errors import UserError


def table(root, labels, true=None, suffix="csv"):
    """A table with one training and one test row per label."""
    file = root / f"t.{suffix}"
    columns = {"path": [f"{n}.png" for n in range(2 * len(labels))], "label": [*labels] * 2, "split": ["train", "test"] * len(labels)}
    columns["split"] = ["train"] * len(labels) + ["test"] * len(labels)
    if true is not None:
        columns["true_label"] = [*true] * 2
    if suffix == "parquet":
        pd.DataFrame(columns).to_parquet(file)
    else:
        with file.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows([list(columns), *zip(*columns.values(), strict=True)])
    return file


def labels_of(root, labels, num_classes, order="text", **options):
    """(class names, label of each training row, notes)"""
    classes, rows = read_table(table(root, labels, **options), num_classes, order, root)
    return list(classes.names), rows["train"].labels, classes.notes


WAYS = {
    "plain": "{}", "floats": "{}.0", "signs": "+{}", "padded": "{:03}", "exponents": "{}e0", "spaces": "  {} ", "points": "{}.",
    "many digits": "{}.000000000000",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("order", ["text", "natural"])
def test_numbers_are_classes_by_value_however_they_are_written(tmp_path, way, order):
    names, labels, notes = labels_of(tmp_path, [WAYS[way].format(n) for n in range(12)], 12, order)
    assert (names, labels, notes) == ([str(n) for n in range(12)], list(range(12)), ())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_column_that_once_had_a_gap_is_numeric(tmp_path, suffix):
    column = pd.Series([*range(12), None]).dropna()
    assert column.dtype == float
    _, labels, _ = labels_of(tmp_path, list(column), 12, suffix=suffix)
    assert labels == list(range(12))


def test_one_number_in_several_forms_is_one_class(tmp_path):
    assert labels_of(tmp_path, ["0", "0.0", "1", "01", "1e0"], 2)[1] == [0, 0, 1, 1, 1]
    assert labels_of(tmp_path, ["2", "10", "10.0", "1e1"], 2, "natural")[:2] == (["2", "10"], [0, 1, 1, 1])


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint16, np.float32, "category"])
def test_columns_of_any_type_are_read_from_parquet(tmp_path, kind):
    names, labels, _ = labels_of(tmp_path, pd.Series([0, 1, 1]).astype(kind), 2, suffix="parquet")
    assert labels == [0, 1, 1]
    assert names == (["False", "True"] if kind is bool else ["0", "1"])


MISSING = ["", "  ", "nan", "NaN", "None", "NA", "N/A", "<NA>", "null", "NULL", "\t"]


@pytest.mark.parametrize("text", MISSING)
@pytest.mark.parametrize("others", [["0", "1"], ["cat", "dog"]])
def test_missing_labels_are_refused_as_such_with_the_first_row(tmp_path, text, others):
    with pytest.raises(UserError, match=r"2 of 6 rows of table .*t\.csv' have no label, the first is row 2 .*delete the rows"):
        labels_of(tmp_path, [others[0], text, others[1]], 2)
    with pytest.raises(UserError, match=r"have no true_label, the first is row 3 .*delete the column true_label"):
        labels_of(tmp_path, [*others, others[0]], 2, true=[*others, text])


def test_missing_values_of_parquet_are_refused(tmp_path):
    for column in ([0.0, None, 1.0], ["cat", None, "dog"], pd.array([0, None, 1], dtype="Int64")):
        with pytest.raises(UserError, match="have no label, the first is row 2"):
            labels_of(tmp_path, column, 2, suffix="parquet")


def test_a_class_may_be_named_none_if_it_is_listed(tmp_path):
    (tmp_path / "order.txt").write_text("dog\nNone\n")
    with pytest.raises(UserError, match=r"if 'None' is the name of a class, .*dataset\.class_order=FILE"):
        labels_of(tmp_path, ["None", "dog"], 2)
    assert labels_of(tmp_path, ["None", "dog"], 2, "order.txt")[:2] == (["dog", "None"], [1, 0])


@pytest.mark.parametrize(
    ("labels", "num_classes", "said"),
    [
        (["0", "1", "2"], 2, r"row 3: .*label '2'.*set dataset\.num_classes=3"),
        (["1", "2", "3"], 3, r"row 3: .*label '3'.*set dataset\.class_order=natural"),
        (["10", "20"], 2, r"row 1: .*label '10'.*set dataset\.class_order=natural"),
        (["0", "-1", "1"], 2, r"row 2: .*label '-1'.*; fix the table"),
        (["0", "0.5", "1"], 2, r"row 2: .*label '0.5'.*; fix the table"),
        (["0,0", "1,0", "10,0"], 3, r"numbers with a comma, such as '0,0' \(row 1\)"),
        (["cat", "dog", "cow"], 2, r"contains 3 different labels, but dataset\.num_classes=2; set dataset\.num_classes=3"),
        (["0", "1", "cat"], 2, r"contains 3 different labels.*'cat' \(row 3\) is no number, although '0' \(row 1\) is one"),
        (["cat", "Cat", "dog"], 2, r"contains 3 different labels.*'Cat' \(row 2\) and 'cat' \(row 1\).*only in case"),
        (["cat", "big  cat", "big cat"], 3, r"'big  cat' \(row 2\) and 'big cat' \(row 3\) as two classes"),
        (["cat", "\uff43at"], 2, "as two classes"),
        (["cat", "1", "01"], 3, r"'01' \(row 3\) and '1' \(row 2\) as two classes"),
    ],
)
def test_other_labels_are_refused_with_the_row_and_a_remedy(tmp_path, labels, num_classes, said):
    with pytest.raises(UserError, match=said):
        labels_of(tmp_path, labels, num_classes)


@pytest.mark.parametrize(("labels", "names"), [(["1", "2", "10"], ["1", "2", "10"]), (["30", "-1", "0.5"], ["-1", "0.5", "30"])])
def test_the_remedy_of_other_numbers_works(tmp_path, labels, names):
    assert labels_of(tmp_path, labels, 3, "natural")[0] == names


def test_numbers_among_names_are_names_in_text_order_and_said_so(tmp_path):
    names, labels, notes = labels_of(tmp_path, ["10", "9", "cat"], 3)
    assert (names, labels) == (["10", "9", "cat"], [0, 1, 2])
    assert "numbered in text order, because 'cat' (row 3) is no number, although '10' (row 1) is one" in notes[0]
    assert labels_of(tmp_path, ["10", "9", "cat"], 3, "natural")[0] == ["9", "10", "cat"]


def test_names_that_differ_in_case_only_are_noted(tmp_path):
    assert "only in case" in labels_of(tmp_path, ["cat", "Cat"], 2)[2][0]


def test_text_order_of_numbered_names_is_noted(tmp_path):
    names, _, notes = labels_of(tmp_path, ["class1", "class2", "class10"], 3)
    assert names == ["class1", "class10", "class2"]
    assert "dataset.class_order=natural" in notes[0]


def test_a_file_orders_the_names_and_the_numbers(tmp_path):
    (tmp_path / "order.txt").write_text("dog\ncat\n")
    assert labels_of(tmp_path, ["cat", "dog"], 2, "order.txt")[:2] == (["dog", "cat"], [1, 0])
    (tmp_path / "order.txt").write_text("10.0\n9\n")
    assert labels_of(tmp_path, ["9.0", "10.0"], 2, "order.txt")[:2] == (["10", "9"], [1, 0])


def test_true_labels_share_the_numbering(tmp_path):
    _, rows = read_table(table(tmp_path, ["0.0", "1.0", "2.0"], true=["2", "1", "0"]), 3)
    assert (rows["train"].labels, rows["train"].true) == ([0, 1, 2], [2, 1, 0])


def test_the_data_set_names_its_classes_and_its_digest_holds_their_order(tmp_path):
    table(tmp_path, ["class2", "class10"])
    for number in range(4):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{number}.png")
    options = {"table": "t.csv", "num_classes": 2, "num_train": 2, "num_test": 2, "size": 4, "validation": 0.5}
    text, natural = Table(**options), Table(**options, class_order="natural")
    assert text.class_names(tmp_path).names == ("class10", "class2")
    assert natural.class_names(tmp_path).names == ("class2", "class10")
    assert natural.load(tmp_path).train_labels.tolist() == [0, 1]
    assert text.inspect(tmp_path).digest != natural.inspect(tmp_path).digest
    assert Table(**{**options, "table": "other.csv"}).class_names(tmp_path) is None

"""Tables in any form, and the paths in them."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from sap_core.data.csv_files import csv_bytes
from sap_core.data.table import Table
from sap_core.errors import UserError

OPTIONS = {"table": "mine/images.csv", "num_classes": 2, "num_train": 4, "num_test": 1, "size": 6, "validation": 2}
HEAD = ("path", "label", "split")


def rows(*names):
    paths = [*names, *(f"{number}.png" for number in range(5))][:5]
    return [(path, "01"[number % 2], "train" if number < 4 else "test") for number, path in enumerate(paths)]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "mine").mkdir()
    for number in range(5):
        picture(tmp_path / "mine" / f"{number}.png", number)
    write(tmp_path, rows())
    return tmp_path


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path, format="png")


def write(root, content, name="images.csv"):
    (root / "mine" / name).write_bytes(csv_bytes(HEAD, content))


@pytest.mark.parametrize("name", ["images.csv.gz", "images.CSV", "images.tsv", "images.parquet", "images.PARQUET", "images"])
def test_the_first_bytes_decide_and_not_the_suffix(root, name):
    path, wanted = root / "mine" / name, Table(**OPTIONS).load(root)
    for content in (csv_bytes(HEAD, rows()), gzip.compress(csv_bytes(HEAD, rows()))):
        path.write_bytes(content)
        assert Table(**{**OPTIONS, "table": f"mine/{name}"}).load(root).train.paths == wanted.train.paths
    parquet.write_table(pa.table({key: [row[place] for row in rows()] for place, key in enumerate(HEAD)}), path)
    assert Table(**{**OPTIONS, "table": f"mine/{name}"}).load(root).train.paths == wanted.train.paths


@pytest.mark.parametrize("name", ["a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", " a.png ", "#a.png", "caf\udce9.png", "a\\b.png"])
def test_names_of_any_characters_are_found(root, name):
    picture(root / "mine" / name, 9)
    write(root, rows(name))
    Table(**OPTIONS).inspect(root)
    assert Table(**OPTIONS).load(root).train.paths[0].name == name


def test_other_spellings_of_a_path_are_found(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    picture(root / "mine" / "sub" / "5.png", 5)
    absolute = str(root / "mine" / "sub" / "5.png")
    for spelling in ("./sub/5.png", "sub/../sub/5.png", "sub\\5.png", " sub/5.png", "~/mine/sub/5.png", absolute, "../mine/sub/5.png"):
        write(root, rows(spelling))
        Table(**OPTIONS).inspect(root)
        assert Table(**OPTIONS).load(root).train.paths[0].samefile(root / "mine" / "sub" / "5.png")
    outside = root / "outside.png"
    picture(outside, 6)
    write(root, rows(str(outside)))
    assert Table(**OPTIONS).inspect(root).digest


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gone.png", r"1 of 5 image files of table .* are missing: '.*gone\.png' \(No such file or directory\); restore them"),
        ("C:\\data\\1.png", "paths with drive letters are of another machine"),
        ("sub\\1.png", "paths with backslashes are read with /"),
        ("caf\udce9.png", r"caf\\xe9\.png' .*not UTF-8: save the table as UTF-8"),
        ("sub", r"sub' \(a folder\)"),
    ],
)
def test_missing_files_are_named_with_the_likely_reason(root, name, words):
    (root / "mine" / "sub").mkdir()
    write(root, rows(name))
    with pytest.raises(UserError, match=words):
        Table(**OPTIONS).inspect(root)


def test_ten_missing_files_are_named_and_the_rest_counted(root):
    write(root, [(f"gone{number}.png", "01"[number % 2], "train" if number < 30 else "test") for number in range(40)])
    words = r"40 of 40 .*gone9\.png' .*\.\.\. and 30 more; paths are relative to '.*mine', the folder of the table"
    with pytest.raises(UserError, match=words):
        Table(**{**OPTIONS, "num_train": 30, "num_test": 10}).inspect(root)


def test_missing_files_explain_a_number_of_rows(root):
    write(root, [("gone.png", "0", "train"), *[("0.png", "0", "train"), *rows()[1:]]])
    with pytest.raises(UserError, match=r"has 5 rows .*the files of 1 of them are missing.*the number is then right") as caught:
        Table(**OPTIONS).inspect(root)
    assert "set dataset" not in str(caught.value)


def test_images_in_no_row_are_counted(root):
    picture(root / "mine" / "7.png", 7)
    picture(root / "mine" / "._8.png", 8)
    assert Table(**OPTIONS).inspect(root).notes[-1] == "not read: 1 images beside the listed ones that are in no row (7.png)"


def test_what_is_no_table_is_said(root):
    (root / "mine" / "images.csv").write_text("image,class\n0.png,1\n")
    with pytest.raises(UserError, match=r"lacks the columns path, label, split; .* its first line contains image, class"):
        Table(**OPTIONS).load(root)
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        Table(**{**OPTIONS, "table": "mine"}).load(root)
    (root / "mine" / "images.csv").write_text("path,label,split,Label\n0.png,1,train,0\n")
    with pytest.raises(UserError, match=r"column label 2 times \(columns 2, 4\)"):
        Table(**OPTIONS).load(root)
    parquet.write_table(pa.table({"path": ["a"], "label": ["0"], "split": ["train"], "Path": ["b"]}), root / "mine" / "images.csv")
    with pytest.raises(UserError, match="contains the column path twice"):
        Table(**OPTIONS).load(root)


@pytest.mark.parametrize("written", ["mine/{}", "/nowhere/{}", "file:///{}"])
def test_options_are_not_read_from_missing_files(root, written):
    write(root, [(written.format(path), label, split) for path, label, split in rows()])
    with pytest.raises(UserError, match=r"5 of 5 image files of table .* are missing: .*the folder of the table") as error:
        Table.read_options({"table": "mine/images.csv"}, root)
    assert "replace" not in str(error.value)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_rows_is_said(root, split):
    write(root, [row for row in rows() if row[2] != split])
    with pytest.raises(UserError, match=f"has no row of split {split}; add some"):
        Table.read_options({"table": "mine/images.csv"}, root)


def test_lists_in_cells_are_no_labels(root):
    columns = {key: [row[place] for row in rows()] for place, key in enumerate(HEAD)}
    parquet.write_table(pa.table(columns | {"label": [[label] for label in columns["label"]]}), root / "mine" / "t.parquet")
    with pytest.raises(UserError, match="contains a list or a record instead of one value"):
        Table.read_options({"table": "mine/t.parquet"}, root)

"""CSV files of any separator and encoding, whose cells may contain any character of a file name."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.data.csv_files import csv_bytes, read_csv

NAMES = [
    "a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", "a\r\nb.png", " a.png ", "#a.png", "=a.png", "a\u2028b.png", "a\x1cb.png",
    "caf\udce9.png", "é.png", ";", "\t", "|",
]  # fmt: skip


def test_what_is_written_is_read_back():
    rows = [(name, str(number)) for number, name in enumerate(NAMES)]
    read = read_csv(csv_bytes(("path", "true_label"), rows), ("path", "true_label"))
    assert list(zip(read.cells["path"], read.cells["true_label"], strict=True)) == rows


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1), min_size=1))
def test_any_name_is_read_back(names):
    # A row of spaces alone is an empty line of a spreadsheet, which no file name with a label is.
    assert read_csv(csv_bytes(("path", "label"), [(name, "x") for name in names]), ("path", "label")).cells["path"] == names


TEXT = "path,label,split\na.png,cat,train\nb.png,dog,test\n"


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        gzip.compress(TEXT.encode()),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        (TEXT + "\n\r\n,,\n").encode(),
        ("\n" + TEXT).encode(),
        TEXT.replace(",", ";").encode(),
        TEXT.replace(",", "\t").encode(),
        TEXT.replace(",", "|").encode(),
        ("sep=;\n" + TEXT.replace(",", ";")).encode(),
        TEXT.replace("path,label,split", '"Path"," LABEL ",Split').encode(),
        TEXT.replace("\n", ",\n").encode(),
        b",path,label,split\n0,a.png,cat,train\n1,b.png,dog,test\n",
        b"Unnamed: 0,path,label,split,note,note\n0,a.png,cat,train,,\n1,b.png,dog,test,,\n",
    ],
    ids=range(15),
)
def test_the_form_of_the_file_does_not_matter(content):
    cells = read_csv(content, ("path", "label", "split")).cells
    assert {name: cells[name] for name in ("path", "label", "split")} == {
        "path": ["a.png", "b.png"], "label": ["cat", "dog"], "split": ["train", "test"],
    }  # fmt: skip


def test_lines_are_those_of_the_file():
    assert read_csv(b'path,label\n"a\nb",0\n\nc,1\n', ("path", "label")).lines == [2, 5]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"path,label,path\na,b,c\n", r"the column path 2 times \(columns 1, 3\)"),
        (b"path,label\na,b.png,0\n", r"header has 2 cells \(path, label\), but line 2 has 3; .*',' in double quotes"),
        (b'path,label\n"a.png,0\nb.png,1\n', "line 2 cannot be parsed"),
        (gzip.compress(TEXT.encode())[:-9], "gzip compression is damaged"),
        (b"PK\x03\x04rest", "spreadsheet or a zip archive"),
        (b"path\0", "zero bytes"),
    ],
)
def test_what_is_no_table_is_refused(content, words):
    with pytest.raises(ValueError, match=words):
        read_csv(content, ("path", "label"))

"""Numbers of classes: their order, numbers however they are written, and names that look alike."""

import unicodedata

import pytest
from PIL import Image

from sap_core.data.class_names import canonical, natural_key, number, order_note, shown
from sap_core.data.folder import Folder
from sap_core.data.imagenette import Imagenette
from sap_core.errors import UserError

NUMBERS = [str(each) for each in range(12)]
TEXT_ORDER = sorted(NUMBERS)


@pytest.mark.parametrize("text", ["3", "3.0", "3.", " 3 ", "+3", "003", "3e0", "0.3e1", "30E-1", "\uff13", "3.000000000000000000"])
def test_numbers_are_numbers_however_they_are_written(text):
    assert number(text) == 3
    assert canonical(text) == "3"


@pytest.mark.parametrize("text", ["", "nan", "inf", "Infinity", "1_0", "0x3", "3,0", "1e9999", "three", "3 4", "½", "--3", "1.2.3"])
def test_other_texts_are_no_numbers(text):
    assert number(text) is None
    assert canonical(text) == text


@pytest.mark.parametrize(
    "wanted",
    [
        NUMBERS,
        ["9.0", "10.0", "1e2"],
        ["-2", "-1", "0", "0.5", "1"],
        ["class1", "class2", "class10"],
        ["1_cat", "2_dog", "10_cow"],
        ["v1.2", "v1.10", "v2.1"],
        ["3", "20", "a", "b2", "b10"],
    ],
)
def test_natural_order_is_by_value(wanted):
    given = wanted[::-1]
    assert sorted(given, key=natural_key) == wanted


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (TEXT_ORDER, "class 2 is '10' and not '2'"),
        (["class1", "class10", "class2"], "class 1 is 'class10' and not 'class2'"),
        (["10_cow", "1_cat", "2_dog"], "class 0 is '10_cow' and not '1_cat'"),
        (["-1", "-2", "0"], "class 0 is '-1' and not '-2'"),
        (["0", "1", "2"], ""),
        (["n01440764", "n02102040"], ""),
        (["Boeing 737", "Boeing 747", "DC-10", "DC-3", "cat"], ""),
        (["cat", "dog"], ""),
    ],
)
def test_text_order_of_numbers_is_noted(names, said):
    note = " ".join(order_note(names, "text", "pets"))
    assert said in note
    assert bool(note) == bool(said)
    assert ("dataset.class_order=natural" in note) == bool(said)
    assert order_note(names, "natural", "pets") == ()


def test_names_that_are_not_what_they_look_like_are_escaped():
    assert shown("café") == "'café'"
    assert shown(unicodedata.normalize("NFD", "café")) == r"'cafe\u0301'"
    assert shown("cat ") == "'cat '"
    assert shown("cat\u200b") == r"'cat\u200b'"
    assert shown("caf\udce9") == r"'caf\xe9'"


def pets(root, names, parts=("train", "test")):
    """A folder with one image per part and class, and its data set."""
    for part in parts:
        for name in names:
            (root / "pets" / part / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(root / "pets" / part / name / "0.png")

    def folder(**options):
        count = len(names)
        return Folder(
            **{"folder": "pets", "num_classes": count, "num_train": count, "num_test": count, "size": 4, "validation": 0.5, **options}
        )

    return folder


def test_folders_are_numbered_in_text_order_unless_told_otherwise(tmp_path):
    folder = pets(tmp_path, NUMBERS)
    found = folder().class_names(tmp_path)
    assert found.names == tuple(TEXT_ORDER)
    assert "dataset.class_order=natural" in found.notes[0]
    natural = folder(class_order="natural").class_names(tmp_path)
    assert (natural.names, natural.notes) == (tuple(NUMBERS), ())
    paths = [path.parent.name for path in folder(class_order="natural").load(tmp_path).train.paths]
    assert paths == NUMBERS


def test_text_order_changes_neither_digest_nor_numbers_and_others_do(tmp_path):
    folder = pets(tmp_path, ["b", "a"])
    (tmp_path / "order.txt").write_text("b\na\n")
    (tmp_path / "other.txt").write_text("a\nb\n")
    digests = {order: folder(class_order=order).inspect(tmp_path).digest for order in ("text", "order.txt", "other.txt")}
    assert len(set(digests.values())) == 3
    assert folder().inspect(tmp_path).digest == digests["text"]


@pytest.mark.parametrize("content", ["cow\ncat\ndog\n", "cow\r\ncat\r\ndog", "\ufeffcow\n\ncat\n  \ndog\n\n", " cow \ncat\t\ndog"])
def test_a_file_orders_the_classes(tmp_path, content):
    folder = pets(tmp_path, ["cat", "cow", "dog"])
    (tmp_path / "order.txt").write_bytes(content.encode())
    data = folder(class_order="order.txt")
    assert data.class_names(tmp_path).names == ("cow", "cat", "dog")
    assert [path.parent.name for path in data.load(tmp_path).test.paths] == ["cow", "cat", "dog"]
    assert "order.txt" in data.files_read()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("cow\ncat\n", r"lacks 'dog' \(1\)"),
        ("cow\ncat\ndog\nbird\n", r"names unknown classes 'bird' \(1\)"),
        ("cow\ncat\ndog\ncat\n", r"names more than once 'cat' \(1\)"),
        ("0 cow\n1 cat\n2 dog\n", r"lacks 'cat', 'cow', 'dog' \(3\); it names unknown classes"),
        ("", r"lacks 'cat', 'cow', 'dog' \(3\)"),
    ],
)
def test_a_file_of_other_classes_is_refused_with_their_names(tmp_path, content, said):
    folder = pets(tmp_path, ["cat", "cow", "dog"])
    (tmp_path / "order.txt").write_text(content)
    for read in (folder(class_order="order.txt").class_names, folder(class_order="order.txt").inspect):
        with pytest.raises(UserError, match=said):
            read(tmp_path)


def test_a_missing_file_and_an_unknown_order_are_refused(tmp_path):
    folder = pets(tmp_path, ["cat", "cow"])
    with pytest.raises(UserError, match=r"dataset.class_order=Natural is neither text nor natural, and file .* cannot be read"):
        folder(class_order="Natural").class_names(tmp_path)
    for bad in ("", " ", None):
        with pytest.raises(UserError, match="text, natural, or a file"):
            folder(class_order=bad)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["cat", "cat "], r"'cat' and 'cat '"),
        (["\uff23at", "Cat"], r"'Cat' and '\\uff23at'"),
        ([unicodedata.normalize(form, "café") for form in ("NFC", "NFD")], r"'cafe\\u0301' and 'café'"),
        (["cat", "cat\u200b"], r"'cat' and 'cat\\u200b'"),
        (["big cat", "big  cat"], "two classes"),
        (["1", "01"], "two classes"),
        (["1", "1.0"], "two classes"),
    ],
)
def test_folders_that_look_alike_are_refused_unless_they_are_listed(tmp_path, names, said):
    folder = pets(tmp_path, names)
    for read in (folder().class_names, folder().inspect):
        with pytest.raises(UserError, match=said):
            read(tmp_path)
    (tmp_path / "order.txt").write_text("\n".join(names))
    assert folder(class_order="order.txt").class_names(tmp_path).names == tuple(names)


def test_folders_that_differ_in_case_only_are_noted(tmp_path):
    folder = pets(tmp_path, ["Cat", "cat"])
    (note,) = folder().class_names(tmp_path).notes
    assert "'Cat' and 'cat'" in note
    (tmp_path / "order.txt").write_text("cat\nCat")
    assert folder(class_order="order.txt").class_names(tmp_path).notes == ()


def test_another_spelling_in_another_part_is_named(tmp_path):
    folder = pets(tmp_path, ["cat", "dog"])
    (tmp_path / "pets" / "test" / "cat").rename(tmp_path / "pets" / "test" / "Cat")
    with pytest.raises(UserError, match=r"lacks 1 of 2 class folders: cat \('cat' may be 'Cat'"):
        folder().load(tmp_path)


def test_published_folders_name_their_classes(tmp_path):
    assert Imagenette().class_names(tmp_path) is None
    for each in range(10):
        (tmp_path / "imagenette" / "train" / f"n0{each}").mkdir(parents=True)
    assert Imagenette().class_names(tmp_path).names == tuple(f"n0{each}" for each in range(10))


def test_classes_are_unknown_until_the_folder_exists(tmp_path):
    assert pets(tmp_path, ["a", "b"], parts=())().class_names(tmp_path) is None

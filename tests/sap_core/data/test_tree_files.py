"""Files and folders of an image tree that are no images or classes, and advice about what is there."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data.folder import Folder
from sap_core.errors import UserError

OPTIONS = {"folder": "pets", "num_classes": 2, "num_train": 6, "num_test": 2, "size": 6, "validation": 2}


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def root(tmp_path):
    for part, each in (("train", 3), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            for number in range(each):
                picture(tmp_path / "pets" / part / name / f"{number}.png", 100 * (part == "test") + 10 * label + number)
    return tmp_path


def refusal(root, **change):
    with pytest.raises(UserError) as caught:
        Folder(**{**OPTIONS, **change}).inspect(root)
    return str(caught.value)


def test_hidden_names_are_neither_classes_nor_images(root):
    before = Folder(**OPTIONS).inspect(root)
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "lost+found"):
        picture(root / "pets" / "train" / name / "0.png")
    for name in ("._0.png", ".hidden.png"):
        (root / "pets" / "train" / "cat" / name).write_bytes(b"no image")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store"):
        (root / "pets" / "test" / "dog" / name).write_bytes(b"")
    found = Folder(**OPTIONS).inspect(root)
    assert found.digest == before.digest
    assert [note for note in found.notes if "hidden" in note] == [
        "not read: 9 hidden files and folders (train/.ipynb_checkpoints, train/@eaDir, train/__MACOSX, ... and 6 more)"
    ]
    # A number that counts the hidden ones is refused with the right one.
    assert "set dataset.num_train=6" in refusal(root, num_train=8)


@pytest.mark.parametrize("name", ["3.PNG", "3.JPEG", "3.jpg", "3.webp", "3.tif", "3.TIFF", "3.bmp", "3.gif", "3.jfif"])
def test_every_usual_format_is_read(root, name):
    picture(root / "pets" / "train" / "cat" / name, 50)
    data = Folder(**{**OPTIONS, "num_train": 7})
    data.inspect(root)
    assert data.load(root).train.fetch(torch.tensor([3])).shape == (1, 3, 6, 6)


@pytest.mark.parametrize(
    "name", ["a,b.png", 'a"b.png', "a\nb.png", "a\rb.png", " a.png", "#a.png", "=a.png", "caf\udce9.png", "a\u2028b.png"]
)
def test_names_of_any_characters_are_read_and_audited(root, name):
    picture(root / "pets" / "train" / "cat" / name, 50)
    from sap_core.data.csv_files import csv_bytes

    (root / "audit.csv").write_bytes(csv_bytes(("path", "true_label"), [(f"train/cat/{name}", "dog")]))
    data = Folder(**{**OPTIONS, "num_train": 7}, verified="audit.csv")
    data.inspect(root)
    source = data.load(root)
    assert [path.name for path, label in zip(source.train.paths, source.audited.tolist(), strict=True) if label == 1] == [name]


def test_nested_images_and_images_beside_the_classes_are_counted(root):
    picture(root / "pets" / "train" / "cat" / "more" / "x.png", 51)
    picture(root / "pets" / "train" / "loose.png", 52)
    (root / "pets" / "train" / "dog" / "notes.txt").write_text("no image")
    notes = Folder(**OPTIONS).inspect(root).notes
    assert [note for note in notes if note.startswith("not read")] == [
        "not read: 1 image in a folder below a class folder (train/cat/more/x.png)",
        "not read: 1 image beside the class folders (train/loose.png)",
        "not read: 1 file without the suffix of an image (train/dog/notes.txt)",
    ]
    assert "1 more are in folders below class folders, which are not read (train/cat/more/x.png); move them" in refusal(root, num_train=7)


def test_damaged_files_explain_a_number_and_none_is_advised_that_counts_them(root):
    (root / "pets" / "train" / "cat" / "3.png").write_bytes(b"")
    (root / "pets" / "train" / "dog" / "3.png").write_bytes(b"no image")
    said = refusal(root)
    assert "2 of them are damaged or not images" in said
    assert "the number is then right" in said
    assert "set dataset" not in said
    assert "set dataset.num_train=6" in refusal(root, num_train=9)


def test_links_that_lead_nowhere_are_named(root):
    cat = root / "pets" / "train" / "cat"
    (cat / "3.png").symlink_to(cat / "nothing.png")
    (cat / "4.png").symlink_to(cat / "4.png")
    said = refusal(root, num_train=8)
    assert "2 of 10 image files" in said
    assert "a link to a missing file" in said
    (cat / "3.png").unlink()
    (cat / "4.png").unlink()
    (cat / "3.png").symlink_to(picture(root / "elsewhere.png", 60))
    assert Folder(**{**OPTIONS, "num_train": 7}).inspect(root).digest


def test_advice_names_what_would_be_counted_in(root):
    assert "(counted in: cat 3, dog 3)" in refusal(root, num_train=9)
    picture(root / "pets" / "train" / "test" / "0.png")
    said = refusal(root)
    assert "contains 3 class folders, but dataset.num_classes=2" in said
    assert "test, which look like parts of the data set" in said


def test_empty_class_folders_explain_a_number_of_classes(root):
    (root / "pets" / "train" / "New Folder").mkdir()
    said = refusal(root)
    assert "1 of them contain no image (New Folder): delete or fill these" in said
    assert "set dataset" not in said


def test_one_class_alone_is_refused_without_a_number(root):
    shutil.rmtree(root / "pets" / "train" / "dog")
    assert "contains 1 class folder (cat); a classifier needs at least two" in refusal(root)
    shutil.rmtree(root / "pets" / "train" / "cat")
    picture(root / "pets" / "train" / "0.png")
    assert "no class folder, and 1 images that are in no class folder" in refusal(root)


def test_class_folders_that_differ_are_named_both_ways(root):
    (root / "pets" / "test" / "dog").rename(root / "pets" / "test" / "Dog")
    said = refusal(root)
    assert "lacks 1 of 2 class folders: dog ('dog' may be 'Dog' of the other part), and has class folders that" in said
    assert "the training part lacks: 1: Dog" in said


def test_class_folders_without_a_training_folder(root):
    for name in ("cat", "dog"):
        (root / "pets" / "train" / name).rename(root / "pets" / name)
    (root / "pets" / "train").rmdir()
    said = refusal(root)
    assert "itself contains folders of images (cat, dog)" in said
    assert "set dataset.train_folder=." in said
    source = Folder(**OPTIONS, train_folder=".").load(root)
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    shutil.rmtree(root / "pets" / "test")
    assert "move them into a folder train, and test images into a folder test" in refusal(root)


def test_other_folders_are_named(root):
    (root / "pets" / "train").rename(root / "pets" / "training")
    assert "has the folders test, training; put images into train/CLASS/, or name the folder" in refusal(root)
    assert "contains the folders pets" in refusal(root, folder="birds")
    (root / "pets.zip").write_bytes(b"")
    assert "pets.zip' is a file" in refusal(root, folder="pets.zip")


def test_the_home_folder_is_found(root, monkeypatch):
    monkeypatch.setenv("HOME", str(root))
    assert len(Folder(**{**OPTIONS, "folder": "~/pets"}).load(root / "nowhere").train) == 6


def test_ten_damaged_files_are_named_and_the_rest_counted(root):
    for number in range(3, 18):
        (root / "pets" / "train" / "cat" / f"{number:02}.png").write_bytes(b"")
    said = refusal(root, num_train=21)
    assert "15 of 23 image files" in said
    assert said.count(".png") == 10
    assert "... and 5 more" in said

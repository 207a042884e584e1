"""The large published data sets, with miniature releases."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data import clothing1m, prepare
from sap_core.data.audit import read_audit
from sap_core.data.clothing1m import Clothing1M
from sap_core.data.imagenet import ImageNet
from sap_core.data.imagenette import Imagenette
from sap_core.data.mini_webvision import MiniWebVision
from sap_core.data.source import Classes, DataSet
from sap_core.data.webvision import WebVision
from sap_core.errors import UserError
from sap_core.files import load_json

SETS = (Imagenette, ImageNet, WebVision, MiniWebVision, Clothing1M)


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 10, 3), shade, np.uint8)).save(path)


def run(name, tmp_path, capsys):
    assert prepare.main([name, "--from", str(tmp_path / "release"), "--to", str(tmp_path / "data")]) == 0
    return capsys.readouterr().out


def small(kind, monkeypatch, classes, **defaults):
    """The set with fewer classes and images."""
    monkeypatch.setattr(kind, "classes", Classes(classes))
    return kind(**defaults)


@pytest.mark.parametrize("kind", SETS)
def test_a_plan_knows_the_published_counts_without_files(kind):
    data = kind()
    assert isinstance(data, DataSet)
    assert data.shape == (3, 224, 224)
    assert [item.name for item in fields(data)][-1] == "verified"
    assert (data.own_validation is not None) == (kind is Clothing1M)


def test_what_is_published_of_each():
    counts = {kind.__name__: (kind().classes.num, kind().num_train, kind().num_test, kind().truth_known) for kind in SETS}
    assert counts == {
        "Imagenette": (10, 9_469, 3_925, True), "ImageNet": (1000, 1_281_167, 50_000, True), "WebVision": (1000, 2_439_574, 50_000, False),
        "MiniWebVision": (50, 65_944, 2_500, False), "Clothing1M": (14, 1_014_313, 10_526, False),
    }  # fmt: skip


def test_imagenette_is_taken_from_its_archives_folder(tmp_path, monkeypatch, capsys):
    for part, each in (("train", 3), ("val", 1)):
        for synset in ("n01440764", "n02102040"):
            for number in range(each):
                picture(tmp_path / "release" / "imagenette2" / part / synset / f"{synset}_{number}.JPEG", 20 * number)
    said = run("imagenette", tmp_path, capsys)
    assert "imagenette/train: 6 images (published: 9469)" in said
    assert "dataset.num_train=6 dataset.num_test=2" in said
    data = small(Imagenette, monkeypatch, 2, num_train=6, num_test=2, size=8, validation=2)
    source = data.load(tmp_path / "data")
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.train.fetch(torch.tensor([0])).shape == (1, 3, 8, 8)
    assert not data.inspect(tmp_path / "data").verified
    with pytest.raises(UserError, match=r"contains 6 images, but dataset\.num_train=9469; set dataset\.num_train=6"):
        small(Imagenette, monkeypatch, 2).inspect(tmp_path / "data")


def webvision(tmp_path):
    release = tmp_path / "release"
    (release / "info").mkdir(parents=True)
    synsets = [f"n{number:08d}" for number in range(60)]
    (release / "info" / "synsets.txt").write_text("".join(f"{synset} a thing, another name\n" for synset in synsets))
    (release / "info" / "queries_synsets_map.txt").write_text("q0001 1\nq0002 1\nq0003 2\nq0004 60\n")
    (release / "info" / "val_filelist.txt").write_text("val0.jpg 0\nval1.jpg 1\nval2.jpg 59\nval3.jpg 1\n")
    for number in range(3):
        picture(release / "val_images_256" / f"val{number}.jpg", number)  # val3 is listed and missing
    for engine in ("google", "flickr"):
        for query in (1, 2, 3, 4):
            picture(release / f"{engine}_resized_256" / f"q{query:04d}" / "a.jpg", query)
    return synsets


def test_webvision_is_sorted_by_its_lists(tmp_path, capsys):
    synsets = webvision(tmp_path)
    said = run("webvision", tmp_path, capsys)
    assert "webvision/train: 8 images" in said
    assert "webvision/val: 3 images" in said
    base = tmp_path / "data" / "webvision"
    found = {path.relative_to(base).as_posix() for path in (base / "train").rglob("*.jpg")}
    assert found == {
        f"train/{synsets[label]}/{engine}_q{query:04d}_a.jpg"
        for engine in ("google", "flickr") for query, label in ((1, 0), (2, 0), (3, 1), (4, 59))
    }  # fmt: skip
    kept = load_json(base / "prepared.json")
    assert kept == {"images": {"train": 8, "val": 3}, "published": {"train": 2_439_574, "val": 50_000}, "listed_but_missing": 1}


def test_mini_webvision_is_googles_part_of_the_first_classes(tmp_path, monkeypatch, capsys):
    synsets = webvision(tmp_path)
    said = run("mini_webvision", tmp_path, capsys)
    assert "dataset.num_train=3 dataset.num_test=2" in said
    data = small(MiniWebVision, monkeypatch, 2, num_train=3, num_test=2, size=8, validation=2)
    source = data.load(tmp_path / "data")
    assert [path.parent.name for path in source.train.paths] == [synsets[0], synsets[0], synsets[1]]
    assert source.test_labels.tolist() == [0, 1]


def test_clothing_drops_checked_images_and_writes_the_audit(tmp_path, monkeypatch, capsys):
    release = tmp_path / "release"
    noisy = {f"images/0/{number}.jpg": number % 2 for number in range(6)}
    clean = {"images/0/0.jpg": 0, "images/0/1.jpg": 0, "images/0/5.jpg": 1} | {f"images/1/{number}.jpg": number % 2 for number in range(5)}
    lists = {
        "noisy_train": list(noisy), "clean_train": ["images/0/0.jpg", "images/0/1.jpg"],
        "clean_val": ["images/1/0.jpg", "images/1/1.jpg"], "clean_test": ["images/0/5.jpg", "images/1/2.jpg", "images/1/3.jpg"],
    }  # fmt: skip
    for key in {**noisy, **clean}:
        picture(release / key, 3)
    for name, labels in (("noisy", noisy), ("clean", clean)):
        (release / f"{name}_label_kv.txt").write_text("".join(f"{key} {label}\n" for key, label in labels.items()))
    for name, keys in lists.items():
        (release / f"{name}_key_list.txt").write_text("\n".join(keys) + "\n")
    said = run("clothing1m", tmp_path, capsys)
    assert "clothing1m/noisy_train: 5 images (published: 1000000)" in said
    assert "dataset.num_train=7 dataset.num_test=3 dataset.validation=2" in said
    data = small(Clothing1M, monkeypatch, 2, num_train=7, num_test=3, validation=2, size=8, verified="clothing1m/verified.csv")
    source = data.load(tmp_path / "data")
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 0, 1]
    assert source.own_validation == 2
    assert source.test_labels.tolist() == [0, 1, 1]
    audited = {source.train.paths[place].name: label for place, label in enumerate(source.audited.tolist()) if label >= 0}
    assert audited == {"0_0.jpg": 0, "0_1.jpg": 0}
    assert data.inspect(tmp_path / "data").digest != small(
        Clothing1M, monkeypatch, 2, num_train=7, num_test=3, validation=2, size=8
    ).inspect(tmp_path / "data").digest  # fmt: skip


def test_a_second_preparation_changes_nothing(tmp_path, capsys):
    webvision(tmp_path)
    first = run("mini_webvision", tmp_path, capsys)
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.jpg")}
    assert run("mini_webvision", tmp_path, capsys) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*.jpg")} == files


@pytest.mark.parametrize("name", sorted(prepare.SETS))
def test_a_folder_without_a_release_is_a_user_error(name, tmp_path, capsys):
    (tmp_path / "release").mkdir()
    assert prepare.main([name, "--from", str(tmp_path / "release"), "--to", str(tmp_path / "data")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert str(tmp_path / "release") in said


def test_lists_that_do_not_fit_are_refused(tmp_path, capsys):
    webvision(tmp_path)
    (tmp_path / "release" / "info" / "val_filelist.txt").write_text("val0.jpg\n")
    assert prepare.main(["webvision", "--from", str(tmp_path / "release"), "--to", str(tmp_path / "data")]) == 2
    assert "line 1 of list" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        (ImageNet, {"verified": "audit.csv"}, "are taken as true"),
        (Clothing1M, {"validation": 0.1}, "must be their number"),
        (WebVision, {"validation": 0}, r"dataset\.validation"),
        (WebVision, {"verify": True}, r"dataset\.digest"),
        (Imagenette, {"size": 0}, r"dataset\.size"),
    ],
)
def test_silly_options_are_refused(kind, change, words):
    with pytest.raises(UserError, match=words):
        kind(**change)


def test_imagenet_confuses_pairs_inside_blocks_of_ten():
    pairs = ImageNet.classes.swapped
    assert len(pairs) == 500
    assert (10, 12) in pairs
    assert sorted(label for pair in pairs for label in pair) == list(range(1000))
    assert clothing1m.NAMES[13] == "Underwear"


def test_the_audit_of_a_release_is_read_back_whatever_its_names_contain(tmp_path, capsys):
    release = tmp_path / "release"
    keys = ["images/0/a b.jpg", 'images/0/a,"b.jpg', "images/0/caf\udce9.jpg"]
    for key in (*keys, "images/1/v.jpg", "images/1/t.jpg"):
        picture(release / key, 3)
    lists = {"noisy_train": keys, "clean_val": ["images/1/v.jpg"], "clean_test": ["images/1/t.jpg"]}
    for name, labels in (("noisy", dict.fromkeys(keys, 0)), ("clean", dict.fromkeys((*keys, "images/1/v.jpg", "images/1/t.jpg"), 1))):
        text = "".join(f"{key} {label}\n" for key, label in labels.items())
        (release / f"{name}_label_kv.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    for name, listed in lists.items():
        (release / f"{name}_key_list.txt").write_bytes("\n".join(listed).encode("utf-8", "surrogateescape"))
    run("clothing1m", tmp_path, capsys)
    paths = [f"noisy_train/q0000/{key.removeprefix('images/').replace('/', '_')}" for key in keys]
    labels, _ = read_audit(tmp_path / "data", "clothing1m/verified.csv", paths, ["q0000", "q0001"])
    assert labels.tolist() == [1, 1, 1]

"""Options that are read from the user's images and checkpoint when a sweep is planned; nothing runs."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.errors import UserError
from sap_core.models.small_cnn import SmallCNN
from sweeper.__main__ import main
from sweeper.config.compose import compose_all
from sweeper.plan.auto_options import fill_in
from sweeper.plan.build import check_cells, compose, inspect_and_plan, plan_key, sweep_paths
from sweeper.plan.cell import check_cell

CLASSES = ("cat", "dog", "emu")


def write_images(folder, each, size=(8, 8), mode="RGB", classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    for name in classes:
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / name / f"{number}.png")


def save_network(path, outputs=3, channels=3):
    torch.manual_seed(0)
    torch.save(SmallCNN(outputs, (channels, 8, 8)).state_dict(), path)
    return path


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "mine" / "train", 10)
    write_images(tmp_path / "mine" / "test", 2, seed=1)
    save_network(tmp_path / "mine.pt")
    return tmp_path


def places(root):
    return [f"paths.data={root}", f"paths.results={root / 'results'}", f"paths.artifacts={root / 'artifacts'}", "backend=local"]


@pytest.fixture
def words(root):
    """The command line of a user, with a small network."""
    return ["experiment=own", "model=small_cnn", "dataset.folder=mine", f"trainer.checkpoint={root / 'mine.pt'}", *places(root)]


@cache
def composed(*given):
    return compose_all(["experiment=own", "model=small_cnn", "trainer.checkpoint=none", *given])


FOLDER = ("dataset.folder=mine",)


def filled(root, checkpoint=None, values=None, given=FOLDER):
    """The configuration with its options read; composed once for all tests, `values` being typed on the command line."""
    found = composed(*given)
    (cell,) = found.cells
    trainer = {**cell["trainer"], "checkpoint": str(checkpoint or root / "mine.pt")}
    values = values or {}
    cell = {**cell, "trainer": trainer, "dataset": {**cell["dataset"], **values}}
    return fill_in(replace(found, cells=(cell,), given=frozenset(f"dataset.{key}" for key in values)), root)


def dataset_of(root, **more):
    return filled(root, **more)[0].cells[0]["dataset"]


def plan(words):
    composed = compose([*words, "dry_run=true"])
    return inspect_and_plan(composed, check_cells(composed), sweep_paths(composed.config))


TYPED = [
    "dataset.num_classes=3", "dataset.num_train=30", "dataset.num_test=6", "dataset.size=8", "dataset.channels=3", "dataset.validation=0.2",
    "method.sap.corrector.num_trusted=4", "method.sap.corrector.batch_size=4",
]  # fmt: skip


def test_a_run_with_auto_and_one_with_the_numbers_typed_have_the_same_ids(words):
    found, typed = plan(words), plan([*words, *TYPED])
    assert found == typed
    assert plan_key(compose(words)) == plan_key(compose([*words, *TYPED]))


def test_a_table_says_each_value_and_where_it_was_read(words, capsys):
    assert main([*words, "dry_run=true"]) == 0
    said = capsys.readouterr().err
    for key, value, source in (
        ("dataset.num_classes", "3", "folders below train/: 0 cat, 1 dog, 2 emu; the checkpoint's head has 3 outputs"),
        ("dataset.num_train", "30", "images below train/"),
        ("dataset.num_test", "6", "images below test/"),
        ("dataset.channels", "3", "the first convolution in the checkpoint; images have as many"),
        ("dataset.size", "8", "all images have 8 x 8 pixels"),
        (
            "dataset.validation",
            "0.2",
            "configuration: 6 of the training images; better: images that the network has not seen, in val/CLASS/",
        ),
        ("method.sap.corrector.num_trusted", "4", "17% of 24 training images"),
        ("trainer.preprocess.mean", "null", "not given"),
    ):
        assert re.search(rf"^  {re.escape(key)} +{re.escape(value)} +(KEY=VALUE|the files) +{re.escape(source)}", said, re.M), key


def test_a_validation_folder_is_used_without_a_further_key(root):
    write_images(root / "mine" / "val", 3, seed=2)
    found = dataset_of(root)
    assert (found["num_train"], found["validation"]) == (39, 9)
    assert dataset_of(root, values={"val_folder": "none"})["validation"] == 0.2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"num_classes": 5}, r"dataset\.num_classes=5, but there are 3: folders below train/: 0 cat, 1 dog, 2 emu"),
        ({"num_train": 31}, r"dataset\.num_train=31, but there are 39: images below train/ \(30\) and val/ \(9\)"),
        ({"num_test": 5}, r"dataset\.num_test=5, but there are 6: images below test/"),
        ({"validation": 4}, r"dataset\.validation=4, but there are 9: images below val/ .* or dataset\.val_folder=none"),
        ({"validation": 0.1}, r"dataset\.validation=0\.1, but there are 9: images below val/"),
        ({"channels": 1}, r"dataset\.channels=1, but the first convolution in the checkpoint has 3 input channels"),
    ],
)
def test_what_is_typed_and_contradicts_the_files_is_refused_with_both_numbers(root, values, said):
    write_images(root / "mine" / "val", 3, seed=2)
    with pytest.raises(UserError, match=said):
        filled(root, values=values)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (1000, r"has 1000 outputs .* but the data set has 3 classes .*1000 outputs are those of ImageNet"),
        (5, r"has 5 outputs .* 3 classes .*does the data set lack 2 classes of its training"),
        (2, r"has 2 outputs .* 3 classes .*does the data set have 1 class too many \(cat, dog, emu\)"),
        (1, r"has 1 output .* 3 classes .*one output \(a sigmoid\) is not supported"),
    ],
)
def test_a_head_of_another_number_of_classes_is_one_sentence_with_both_numbers(root, outputs, said):
    with pytest.raises(UserError, match=said) as error:
        filled(root, save_network(root / "other.pt", outputs))
    assert "\n" not in str(error.value)


def test_grey_images_are_converted_for_a_colour_network_and_kept_for_a_grey_one(root):
    for part, each in (("train", 10), ("test", 2)):
        write_images(root / "mine" / part, each, mode="L")
    assert dataset_of(root)["channels"] == 3
    assert dataset_of(root, checkpoint=save_network(root / "grey.pt", channels=1))["channels"] == 1
    with pytest.raises(UserError, match="has 4 input channels, but image files are read as 1"):
        filled(root, save_network(root / "four.pt", channels=4))


def test_sizes_may_differ_and_be_typed(root):
    write_images(root / "mine" / "test", 2, size=(12, 10))
    assert dataset_of(root)["size"] == 8
    assert dataset_of(root, values={"size": 16})["size"] == 16


def test_the_warning_offers_constants_that_can_be_copied(words, root):
    for name in CLASSES:
        for number in range(10):
            Image.fromarray(np.full((8, 8, 3), (51, 102, 255 * (number % 2)), np.uint8)).save(root / f"mine/train/{name}/{number}.png")
    _, _, (warning,) = filled(root)
    assert warning.startswith("no preprocessing is given: pixels are divided by 255 and not normalised")
    offers = re.findall(r"^    (trainer\.preprocess\.\S+(?: trainer\.preprocess\.\S+)?)", warning, re.M)
    assert offers == [
        "trainer.preprocess.mean=[0.485,0.456,0.406] trainer.preprocess.std=[0.229,0.224,0.225]",
        "trainer.preprocess.mean=[0.200,0.400,0.500] trainer.preprocess.std=[0.001,0.001,0.500]",
        "trainer.preprocess.normalise=false",
    ]
    for offer in offers:
        found, _, warnings = filled(root, given=(*FOLDER, *offer.split()))
        assert warnings == []
        check_cell(found.cells[0], found.config)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda root: (root / "mine/train/cat/0.png").write_bytes(b"no image"), "1 of 36 image files .* damaged or not images"),
        (lambda root: (root / "mine/test").rename(root / "mine/testing"), "no readable folder '.*mine/test'.*test_folder=NAME"),
        (lambda root: save_narrow(root / "mine.pt"), "contains weights of another network than SmallCNN"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses_in_the_same_words(words, root, capsys, break_it, said):
    break_it(root)
    assert main([*words, "dry_run=true"]) == 2
    dry = capsys.readouterr().err
    assert re.search(said, dry)
    assert main(words) == 2
    assert capsys.readouterr().err == dry
    assert not (root / "results").exists()


def save_narrow(path):
    torch.save(SmallCNN(3, (3, 8, 8), width=8).state_dict(), path)


def test_tensors_are_read_likewise(root):
    split = np.repeat([0, 2, 1], [20, 5, 5])
    np.savez(root / "mine.npz", images=np.zeros((30, 3, 8, 8), np.uint8), labels=np.arange(30) % 3, split=split)
    tensors = ("dataset=tensors", "dataset.file=mine.npz")
    found = dataset_of(root, given=tensors)
    assert {key: found[key] for key in ("num_classes", "num_train", "num_test", "shape", "validation")} == {
        "num_classes": 3, "num_train": 25, "num_test": 5, "shape": [3, 8, 8], "validation": 5
    }  # fmt: skip
    assert "channels" not in found
    with pytest.raises(UserError, match=r"has 2 outputs .* the data set has 3 classes \(labels up to 2"):
        filled(root, save_network(root / "fewer.pt", 2), given=tensors)
    with pytest.raises(UserError, match="images with 3 channels, but the first convolution in the checkpoint has 1"):
        filled(root, save_network(root / "grey.pt", channels=1), given=tensors)


def save_tensors(root, images=None, labels=None):
    images = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8) if images is None else images
    labels = np.arange(60) % 3 if labels is None else labels
    np.savez(root / "mine.npz", images=images, labels=labels, split=np.repeat([0, 1], [40, 20]))


TENSORS = ("dataset=tensors", "dataset.file=mine.npz", "cells=[{dataset: tensors, noise: none, model: small_cnn, trainer: given}]")


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((60, 8, 8, 3), np.uint8), None, r"channels last; save numpy\.moveaxis\(images, -1, 1\)"),
        (np.zeros((60, 8, 4, 3), np.uint8), None, r"channels are last, but the first convolution.*numpy\.moveaxis\(images, -1, 1\)"),
        (np.zeros((60, 8, 8), np.uint8), None, r"without an axis of channels.*save numpy\.repeat\(images\[:, None\], 3, axis=1\)"),
        (np.zeros((60, 1, 8, 8), np.uint8), None, r"images with 1 channel, .*save numpy\.repeat\(images, 3, axis=1\)"),
        (np.zeros((60, 4, 8, 8), np.uint8), None, r"images with 4 channels, .*save images with 3"),
        (np.zeros((60, 3, 8, 8), np.int64), None, r"type int64; save images\.astype\('uint8'\)"),
        (np.full((60, 3, 8, 8), np.nan, np.float32), None, "image 0 of .* contains NaN"),
        (None, np.where(np.arange(60) == 4, np.nan, np.arange(60) % 3), "label 4 of .* is nan"),
        (None, np.arange(60) % 3 + 0.5, "label 0 of .* is 0.5, which is not a whole number"),
        (None, np.arange(60) % 3 + 1, r"no training image for 1 of 4 classes \(0\); if classes are numbered from 1, save labels - 1"),
        (None, np.arange(60) % 3 - 1, "label 0 is -1"),
    ],
)
def test_arrays_are_checked_before_they_are_compared_with_the_checkpoint(root, images, labels, said):
    save_tensors(root, images, labels)
    with pytest.raises(UserError, match=said):
        filled(root, given=TENSORS)


def with_preprocess(root, **preprocess):
    found = composed(*TENSORS)
    (cell,) = found.cells
    trainer = {**cell["trainer"], "checkpoint": str(root / "mine.pt"), "preprocess": {**cell["trainer"]["preprocess"], **preprocess}}
    return fill_in(replace(found, cells=({**cell, "trainer": trainer},)), root)[2]


@pytest.mark.parametrize(("factor", "shift"), [(4.0, -2.0), (255.0, 0.0)])
def test_floats_outside_0_to_1_are_not_normalised_again(root, factor, shift):
    unit = np.random.default_rng(0).random((60, 3, 8, 8), np.float32)
    save_tensors(root, unit * factor + shift)
    with pytest.raises(UserError, match=r"are floats from .* trainer\.preprocess\.normalise=false .*astype\('uint8'\)"):
        with_preprocess(root, mean=[0.5] * 3, std=[0.2] * 3)
    # An offer of constants would lead to the same mistake.
    assert with_preprocess(root) == []
    save_tensors(root, unit)
    assert with_preprocess(root, mean=[0.5] * 3, std=[0.2] * 3) == []
    (warning,) = with_preprocess(root)
    assert "pixels are used as they are and not normalised" in warning


@pytest.mark.parametrize(
    ("mean", "std", "said"),
    [
        (
            [123.675, 116.28, 103.53],
            [58.395, 57.12, 57.375],
            r"set trainer\.preprocess\.mean=\[0\.485,0\.456,0\.406\] trainer\.preprocess\.std=\[",
        ),
        ([0.0] * 3, [255.0] * 3, r"set trainer\.preprocess\.mean=\[0.*\] trainer\.preprocess\.std=\[1"),
        ([-0.5] * 3, [0.5] * 3, "divided by the highest value"),
    ],
)
def test_constants_of_another_scale_are_refused(root, mean, std, said):
    save_tensors(root)
    with pytest.raises(UserError, match=said):
        with_preprocess(root, mean=mean, std=std)
    assert with_preprocess(root, mean=[0.5] * 3, std=[1.0] * 3) == []


def test_tables_are_read_likewise(root):
    files = sorted(path.relative_to(root) for path in (root / "mine").rglob("*.png"))
    lines = [f"{file},{file.parts[2]},{'test' if file.parts[1] == 'test' else 'val' if file.stem < '2' else 'train'}" for file in files]
    (root / "mine.csv").write_text("\n".join(["path,label,split", *lines]))
    found = dataset_of(root, given=("dataset=table", "dataset.table=mine.csv"))
    assert {key: found[key] for key in ("num_classes", "num_train", "num_test", "size", "channels", "validation")} == {
        "num_classes": 3, "num_train": 30, "num_test": 6, "size": 8, "channels": 3, "validation": 6
    }  # fmt: skip


def test_own_is_a_synonym_of_the_experiment(words, capsys):
    assert main([*words, "dry_run=true"]) == 0
    said = capsys.readouterr().err
    assert main(["own", *words[1:], "dry_run=true"]) == 0
    assert capsys.readouterr().err == said
    assert main(["own"]) == 2
    assert "needs trainer.checkpoint and dataset.folder" in capsys.readouterr().err


def test_a_network_that_is_trained_in_the_sweep_needs_no_numbers_either(root):
    found = compose_all(["experiment=demo", "methods=[]", "dataset=folder", "noise=none", "dataset.folder=mine"])
    filled_in, _, warnings = fill_in(found, root)
    dataset = filled_in.cells[0]["dataset"]
    assert (dataset["num_classes"], dataset["num_train"], dataset["size"], dataset["channels"]) == (3, 30, 8, 3)
    assert warnings == []

"""Options that are read from the user's images and checkpoint when a sweep is planned; nothing runs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.errors import UserError
from sap_core.models.small_cnn import SmallCNN
from sweeper.__main__ import main
from sweeper.plan.build import check_cells, compose, inspect_and_plan, plan_key, sweep_paths

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
    return f"trainer.checkpoint={path}"


@pytest.fixture
def root(tmp_path):
    write_images(tmp_path / "mine" / "train", 10)
    write_images(tmp_path / "mine" / "test", 2, seed=1)
    save_network(tmp_path / "mine.pt")
    return tmp_path


@pytest.fixture
def words(root):
    """The command line of a user, with a small network."""
    return ["experiment=own", "model=small_cnn", "dataset.folder=mine", f"trainer.checkpoint={root / 'mine.pt'}", *places(root)]


def places(root):
    return [f"paths.data={root}", f"paths.results={root / 'results'}", f"paths.artifacts={root / 'artifacts'}", "backend=local"]


def dataset_of(words):
    return compose(words).cells[0]["dataset"]


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
        assert re.search(rf"^  {re.escape(key)} +{re.escape(value)} +(typing it|the files) +{re.escape(source)}", said, re.M), key


def test_a_validation_folder_is_used_without_a_further_key(words, root):
    write_images(root / "mine" / "val", 3, seed=2)
    found = dataset_of(words)
    assert (found["num_train"], found["validation"]) == (39, 9)
    assert len(plan(words).rows) == 17
    assert dataset_of([*words, "dataset.val_folder=none"])["validation"] == 0.2


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("dataset.num_classes=5", r"dataset\.num_classes=5, but there are 3: folders below train/: 0 cat, 1 dog, 2 emu"),
        ("dataset.num_train=31", r"dataset\.num_train=31, but there are 39: images below train/ \(30\) and val/ \(9\)"),
        ("dataset.num_test=5", r"dataset\.num_test=5, but there are 6: images below test/"),
        ("dataset.validation=4", r"dataset\.validation=4, but there are 9: images below val/ .* or dataset\.val_folder=none"),
        ("dataset.validation=0.1", r"dataset\.validation=0\.1, but there are 9: images below val/"),
        ("dataset.channels=1", r"dataset\.channels=1, but the first convolution in the checkpoint has 3 input channels"),
    ],
)
def test_what_is_typed_and_contradicts_the_files_is_refused_with_both_numbers(words, root, override, said):
    write_images(root / "mine" / "val", 3, seed=2)
    with pytest.raises(UserError, match=said):
        compose([*words, override])


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (1000, "has 1000 outputs .* but the data set has 3 classes .*1000 outputs are those of ImageNet"),
        (5, "has 5 outputs .* 3 classes .*are 2 classes of its training missing"),
        (2, r"has 2 outputs .* 3 classes .*do 1 of these classes not belong to its training \(cat, dog, emu\)"),
        (1, r"has 1 outputs .* 3 classes .*one output \(a sigmoid\) is not supported"),
    ],
)
def test_a_head_of_another_number_of_classes_is_one_sentence_with_both_numbers(words, root, outputs, said):
    with pytest.raises(UserError, match=said) as error:
        compose([*words, save_network(root / "other.pt", outputs)])
    assert "\n" not in str(error.value)


def test_grey_images_are_converted_for_a_colour_network_and_kept_for_a_grey_one(words, root):
    for part, each in (("train", 10), ("test", 2)):
        write_images(root / "mine" / part, each, mode="L")
    assert dataset_of(words)["channels"] == 3
    assert dataset_of([*words, save_network(root / "grey.pt", channels=1)])["channels"] == 1
    with pytest.raises(UserError, match="has 4 input channels, but image files are read as 1"):
        compose([*words, save_network(root / "four.pt", channels=4)])


def test_sizes_may_differ_and_be_typed(words, root):
    write_images(root / "mine" / "test", 2, size=(12, 10))
    assert dataset_of(words)["size"] == 8
    assert dataset_of([*words, "dataset.size=16"])["size"] == 16


def test_the_warning_offers_constants_that_can_be_copied(words, capsys):
    compose(words)
    said = capsys.readouterr().err
    assert "warning: no preprocessing is given: pixels are divided by 255 and not normalised" in said
    offers = re.findall(r"^    (trainer\.preprocess\.\S+(?: trainer\.preprocess\.\S+)?)", said, re.M)
    assert offers[0] == "trainer.preprocess.mean=[0.485,0.456,0.406] trainer.preprocess.std=[0.229,0.224,0.225]"
    assert len(offers) == 3
    for offer in offers:
        check_cells(compose([*words, *offer.split()]))
        assert "warning" not in capsys.readouterr().err


def test_the_offered_constants_are_those_of_the_training_images(words, root, capsys):
    for name in CLASSES:
        for number in range(10):
            Image.fromarray(np.full((8, 8, 3), (51, 102, 255 * (number % 2)), np.uint8)).save(root / f"mine/train/{name}/{number}.png")
    compose(words)
    assert "mean=[0.200,0.400,0.500] trainer.preprocess.std=[0.001,0.001,0.500]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda root: (root / "mine/train/cat/0.png").write_bytes(b"no image"), "1 of 36 image files .* damaged or not images"),
        (lambda root: (root / "mine.pt").write_bytes(b"no weights"), "mine.pt cannot be read"),
        (lambda root: (root / "mine.pt").unlink(), r"trainer\.checkpoint=.*mine.pt is not a file"),
        (lambda root: (root / "mine").rename(root / "yours"), "there is no folder '.*mine' .*paths.data="),
        (lambda root: (root / "mine/test").rename(root / "mine/testing"), r"has no folder 'test' \(it has testing, train\)"),
        (lambda root: (root / "mine/test/dog").rename(root / "mine/test/dogs"), "test' lacks 1 of 3 class folders: dog"),
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


def test_a_checkpoint_of_another_network_is_refused_in_a_dry_run(words, root, capsys):
    state = SmallCNN(3, (3, 8, 8), width=8).state_dict()
    torch.save(state, root / "mine.pt")
    assert main([*words, "dry_run=true"]) == 2
    assert "contains weights of another network than SmallCNN" in capsys.readouterr().err


def test_tensors_are_read_likewise(root):
    split = np.repeat([0, 2, 1], [20, 5, 5])
    images, labels = np.zeros((30, 3, 8, 8), np.uint8), np.arange(30) % 3
    np.savez(root / "mine.npz", images=images, labels=labels, split=split)
    words = ["experiment=own", "model=small_cnn", "dataset=tensors", "dataset.file=mine.npz", *places(root)]
    found = dataset_of([*words, f"trainer.checkpoint={root / 'mine.pt'}"])
    assert {key: found[key] for key in ("num_classes", "num_train", "num_test", "shape", "validation")} == {
        "num_classes": 3, "num_train": 25, "num_test": 5, "shape": [3, 8, 8], "validation": 5
    }  # fmt: skip
    assert "channels" not in found
    assert dataset_of([*words, save_network(root / "more.pt", 4)])["num_classes"] == 4, "the last class may have no label"
    with pytest.raises(UserError, match="has 2 outputs .* the data set has 3 classes"):
        compose([*words, save_network(root / "fewer.pt", 2)])
    with pytest.raises(UserError, match="images with 3 channels, but the first convolution in the checkpoint has 1"):
        compose([*words, save_network(root / "grey.pt", channels=1)])
    split[7] = 3
    np.savez(root / "mine.npz", images=images, labels=labels, split=split)
    with pytest.raises(UserError, match=r"1 values of split other than 0 .* the first is 3 at index 7"):
        compose([*words, f"trainer.checkpoint={root / 'mine.pt'}"])


def test_tables_are_read_likewise(root):
    files = sorted(path.relative_to(root) for path in (root / "mine").rglob("*.png"))
    lines = [f"{file},{file.parts[2]},{'test' if file.parts[1] == 'test' else 'val' if file.stem < '2' else 'train'}" for file in files]
    (root / "mine.csv").write_text("\n".join(["path,label,split", *lines]))
    words = ["experiment=own", "model=small_cnn", "dataset=table", "dataset.table=mine.csv", f"trainer.checkpoint={root / 'mine.pt'}"]
    found = dataset_of([*words, *places(root)])
    assert {key: found[key] for key in ("num_classes", "num_train", "num_test", "size", "channels", "validation")} == {
        "num_classes": 3, "num_train": 30, "num_test": 6, "size": 8, "channels": 3, "validation": 6
    }  # fmt: skip


def test_own_is_a_synonym_of_the_experiment(words, capsys):
    assert main([*words, "dry_run=true"]) == 0
    said = capsys.readouterr()
    assert main(["own", *words[1:], "dry_run=true"]) == 0
    assert capsys.readouterr() == said
    assert main(["own"]) == 2
    assert "needs trainer.checkpoint and dataset.folder" in capsys.readouterr().err


def test_a_data_set_that_is_trained_on_in_the_sweep_is_read_too(root):
    found = dataset_of(["experiment=demo", "methods=[]", "dataset=folder", "noise=none", "dataset.folder=mine", *places(root)])
    assert (found["num_classes"], found["num_train"], found["size"], found["channels"]) == (3, 30, 8, 3)

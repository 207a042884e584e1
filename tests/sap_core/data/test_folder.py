"""Image folders of the user."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data.assemble import assemble_task
from sap_core.data.folder import Folder
from sap_core.data.image_files import FilePixels
from sap_core.data.samples import Preprocess, SampleView
from sap_core.data.source import DataSet
from sap_core.errors import UserError
from sap_core.seeding import stream

OPTIONS = {"folder": "pets", "num_classes": 2, "num_train": 6, "num_test": 2, "size": 6, "validation": 2}


def picture(seed, side=6):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    for part, each in (("train", 3), ("test", 1)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for number in range(each):
                Image.fromarray(picture(10 * label + number + (100 if part == "test" else 0))).save(folder / f"{number}.png")
    (tmp_path / "pets" / "train" / "cat" / "notes.txt").write_text("no image")
    return tmp_path


def test_images_and_labels_come_in_the_order_of_names(root):
    source = Folder(**OPTIONS).load(root)
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 1]
    images = source.train.fetch(torch.tensor([4, 0]))
    assert images.dtype == torch.uint8
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), np.stack([picture(11), picture(0)]))
    assert np.array_equal(source.test.fetch(torch.tensor([1]))[0].permute(1, 2, 0).numpy(), picture(110))


def test_only_the_files_asked_for_are_decoded(root, monkeypatch):
    opened = []
    monkeypatch.setattr(FilePixels, "_decode", lambda self, path: opened.append(path.parent.name + path.stem) or torch.zeros(3, 6, 6))
    source = Folder(**OPTIONS).load(root)
    assert opened == []
    view = SampleView(source.train, torch.tensor([5, 1]), torch.tensor([1, 0]), Preprocess(), torch.device("cpu"))
    assert [len(batch.labels) for batch in view.batches(2)] == [2]
    assert opened == ["dog2", "cat1"]


def test_batches_are_those_of_the_set_in_memory(root):
    source = Folder(**OPTIONS, channels=1).load(root)
    everything = source.train.fetch(torch.arange(6))

    class InMemory:
        def __len__(self):
            return 6

        def fetch(self, index):
            return everything[index]

    recipe = Preprocess(mean=(0.5,), std=(0.2,), augment="crop_flip", padding=2)
    view = SampleView(source.train, torch.arange(6), source.train_labels, recipe, torch.device("cpu"))
    memory = SampleView(InMemory(), torch.arange(6), source.train_labels, recipe, torch.device("cpu"))
    rng = stream(1, "train", 3)
    for ours, theirs in zip(view.batches(4, rng, ("plain", "augmented")), memory.batches(4, rng, ("plain", "augmented")), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours.views, theirs.views, strict=True))
        assert ours.inputs.shape[1:] == (1, 6, 6)


def test_batches_are_moved_to_the_device_of_the_view(root):
    source = Folder(**OPTIONS).load(root)
    view = SampleView(source.train, torch.arange(6), source.train_labels, Preprocess(), torch.device("meta"))
    assert all(batch.inputs.device.type == "meta" for batch in view.batches(3))


def test_images_are_resized_and_made_grey(root):
    Image.fromarray(picture(0, 12)).save(root / "pets" / "train" / "cat" / "0.png")
    assert Folder(**OPTIONS).load(root).train.fetch(torch.tensor([0])).shape == (1, 3, 6, 6)
    grey = Folder(**{**OPTIONS, "channels": 1}).load(root).train.fetch(torch.tensor([1, 2]))
    assert grey.shape == (2, 1, 6, 6)
    weights = np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[0, 0].numpy() - picture(1) @ weights).max() < 1


def test_the_digest_depends_on_names_and_contents(root):
    first = Folder(**OPTIONS).inspect(root)
    assert not first.verified
    assert Folder(**OPTIONS).inspect(root) == first
    assert Folder(**OPTIONS, digest=first.digest, verify=True).inspect(root).verified
    path = root / "pets" / "train" / "dog" / "1.png"
    path.rename(path.with_name("9.png"))
    renamed = Folder(**OPTIONS).inspect(root)
    Image.fromarray(picture(77)).save(path.with_name("9.png"))
    changed = Folder(**OPTIONS).inspect(root)
    assert len({first.digest, renamed.digest, changed.digest}) == 3
    with pytest.raises(UserError, match=rf"{changed.digest}.*dataset\.verify=false"):
        Folder(**OPTIONS, digest=first.digest, verify=True).inspect(root)


def test_a_damaged_image_is_named(root):
    path = root / "pets" / "train" / "cat" / "1.png"
    good = path.read_bytes()
    for bad in (b"", b"garbage", good[:60]):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=str(path)):
            Folder(**OPTIONS).load(root).train.fetch(torch.tensor([1]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folder": "birds"}, r"no readable folder '.*birds/train'.*paths\.data"),
        ({"num_classes": 3}, r"contains 2 class folders.*set dataset\.num_classes=2"),
        ({"num_train": 7}, r"contains 6 images.*set dataset\.num_train=6"),
        ({"num_test": 1}, r"contains 2 images.*set dataset\.num_test=2"),
    ],
)
def test_what_does_not_fit_the_folder_is_refused_with_the_right_value(root, change, words):
    for read in (Folder(**{**OPTIONS, **change}).inspect, Folder(**{**OPTIONS, **change}).load):
        with pytest.raises(UserError, match=words):
            read(root)


def test_absent_and_unknown_classes_are_counted_and_named(root):
    (root / "pets" / "test" / "dog").rename(root / "pets" / "test" / "cow")
    with pytest.raises(UserError, match=r"test' lacks 1 of 2 class folders: dog"):
        Folder(**OPTIONS).load(root)
    (root / "pets" / "test" / "dog").mkdir()
    with pytest.raises(UserError, match=r"test' has class folders that the training part lacks: 1: cow"):
        Folder(**OPTIONS).load(root)
    (root / "pets" / "test" / "cow" / "0.png").rename(root / "pets" / "test" / "cat" / "1.png")
    (root / "pets" / "test" / "cow").rmdir()
    with pytest.raises(UserError, match=r"test' has 1 of 2 class folders without an image: dog"):
        Folder(**OPTIONS).load(root)


def test_a_missing_test_folder_is_refused_and_another_name_is_taken(root):
    (root / "pets" / "test").rename(root / "pets" / "val")
    with pytest.raises(UserError, match=r"no readable folder '.*pets/test'"):
        Folder(**OPTIONS, val_folder="none").inspect(root)
    with pytest.raises(UserError, match=r"has the folders train, val; put images into test/CLASS/, .*dataset\.test_folder=NAME"):
        Folder.read_options({"folder": "pets"}, root)
    assert len(Folder(**OPTIONS, test_folder="val").load(root).test) == 2


def test_a_validation_folder_of_its_own_follows_the_training_images(root):
    for label, name in enumerate(("cat", "dog")):
        (root / "pets" / "val" / name).mkdir(parents=True)
        Image.fromarray(picture(50 + label)).save(root / "pets" / "val" / name / "0.png")
    data = Folder(**{**OPTIONS, "num_train": 8})
    source = data.load(root)
    assert source.own_validation == 2
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 1]
    assert (source.train.fetch(torch.tensor([7])).numpy()[0] == picture(51).transpose(2, 0, 1)).all()
    with pytest.raises(
        UserError, match=r"contains 6 images, but dataset\.num_train=9; set dataset\.num_train=8.* and 2 in the validation part"
    ):
        Folder(**{**OPTIONS, "num_train": 9}).load(root)
    with pytest.raises(UserError, match=r"val' contains 2 images, but dataset\.validation=3; set dataset\.validation=2"):
        Folder(**{**OPTIONS, "num_train": 8, "validation": 3}).load(root)
    with pytest.raises(UserError, match=r"val' contains the validation images, but dataset\.validation=0\.25 would draw them"):
        Folder(**{**OPTIONS, "num_train": 8, "validation": 0.25}).load(root)


def test_a_validation_folder_is_ignored_on_request_or_if_it_holds_the_test_images(root):
    (root / "pets" / "val").mkdir()
    assert Folder(**OPTIONS, val_folder="none").load(root).own_validation == 0
    (root / "pets" / "val").rmdir()
    (root / "pets" / "test").rename(root / "pets" / "val")
    assert Folder(**OPTIONS, test_folder="val").load(root).own_validation == 0
    with pytest.raises(UserError, match=r"no folder '.*pets/held_out' of validation images; fix dataset\.val_folder"):
        Folder(**OPTIONS, test_folder="val", val_folder="held_out").load(root)


def test_damaged_images_are_counted_before_a_run(root):
    cat = root / "pets" / "train" / "cat"
    (cat / "0.png").write_bytes(b"")
    (cat / "2.png").write_bytes((cat / "2.png").read_bytes()[:-40])
    with pytest.raises(UserError, match=r"2 of 8 image files below '.*pets' are damaged or not images: .*cat/0\.png.*cat/2\.png"):
        Folder(**OPTIONS).inspect(root)
    with pytest.raises(UserError, match=r"1 of 8 image files .*cat/0\.png' \(empty\)"):
        Folder(**OPTIONS, check="size").inspect(root)


def test_the_digest_may_depend_on_names_and_sizes_only(root):
    data = Folder(**OPTIONS, check="size")
    first = data.inspect(root)
    path = root / "pets" / "train" / "dog" / "1.png"
    path.write_bytes(path.read_bytes() + b"\0")
    assert len({first.digest, data.inspect(root).digest, Folder(**OPTIONS).inspect(root).digest}) == 3


def test_synthetic_noise_acts_on_a_folder(root):
    """The reference's noise left folders untouched, because it changed a list that nothing reads."""
    spec = {
        "dataset": {"target": "sap_core.data.folder.Folder", "settings": {**OPTIONS, "truth_known": True}},
        "noise": {"target": "sap_core.data.noise.Symmetric", "settings": {"rate": 0.5}},
        "model": {"target": "sap_core.models.small_cnn.SmallCNN", "settings": {"width": 4}},
        "preprocess": {"normalise": True, "augment": "none", "padding": 4}, "seed": 3, "limit": None,
    }  # fmt: skip
    made = assemble_task(spec, root, torch.device("cpu"))
    served = [label for part in (made.train, made.val) for batch in part.batches(2) for label in batch.labels.tolist()]
    true = [made.truth.of(batch.index)[place].item() for part in (made.train, made.val) for batch in part.batches(2) for place in range(2)]
    assert sum(a != b for a, b in zip(served, true, strict=True)) == 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channels": 2}, r"dataset\.channels=2"),
        ({"size": 0}, r"dataset\.size"),
        ({"num_classes": 1}, r"dataset\.num_classes"),
        ({"mean": (0.5,)}, r"one number per channel \(3\)"),
        ({"mean": (0.5, 0.5, 0.5)}, r"one number per channel \(3\)"),
        ({"verify": True}, r"dataset\.digest"),
        ({"validation": 6}, r"dataset\.validation"),
    ],
)
def test_silly_options_are_refused(change, words):
    with pytest.raises(UserError, match=words):
        Folder(**{**OPTIONS, **change})


def test_a_plan_needs_no_files():
    data = Folder(**OPTIONS)
    assert isinstance(data, DataSet)
    assert (data.shape, data.classes.num, data.num_train, data.truth_known) == ((3, 6, 6), 2, 6, False)


@pytest.mark.parametrize("leave", ["nothing", "empty classes", ".gitkeep"])
def test_a_validation_folder_without_images_is_said_with_the_way_to_do_without(root, leave):
    val = root / "pets" / "val"
    val.mkdir()
    if leave == ".gitkeep":
        (val / ".gitkeep").touch()
    if leave == "empty classes":
        (val / "cat").mkdir()
        (val / "dog").mkdir()
    with pytest.raises(
        UserError, match=r"val' contains no image in a class folder; put images into val/CLASS/, or set dataset\.val_folder=none"
    ):
        Folder.read_options({"folder": "pets"}, root)
    assert len(Folder(**OPTIONS, val_folder="none").load(root).test) == 2


@pytest.mark.parametrize("name", ["validation", "valid", "Val"])
def test_a_part_of_another_name_is_not_passed_over_in_silence(root, name):
    assert not any("class folders of" in note for note in Folder(**OPTIONS).inspect(root).notes)
    shutil.copytree(root / "pets" / "test", root / "pets" / name)
    (note,) = (note for note in Folder(**OPTIONS).inspect(root).notes if "class folders of" in note)
    assert f"1 folder with the class folders of 'train' ({name})" in note
    assert note.endswith(f"dataset.val_folder={name}")
    # Whoever wants no validation folder gets no advice to use one.
    assert not any("val_folder" in note for note in Folder(**OPTIONS, val_folder="none").inspect(root).notes)

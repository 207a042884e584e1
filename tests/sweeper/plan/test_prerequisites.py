"""Prerequisites of an experiment: found, created or missing with the remedy; and the check before submission."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sap_core.data.torchvision_files import Published
from sweeper.__main__ import main
from sweeper.config.compose import compose_all
from sweeper.plan import prerequisites as prepare
from sweeper.plan.build import check_cells, inspect_and_plan, sweep_paths

CELL = "cells=[{{dataset: {0}, noise: none, model: lenet5}}]"


def words_of(tmp_path, dataset, *more):
    places = [f"paths.data={tmp_path}/data", f"paths.results={tmp_path}/results/x", f"paths.artifacts={tmp_path}/artifacts"]
    return ["experiment=demo", "methods=[sap]", CELL.format(dataset), *places, *more]


def run(capsys, *words):
    code = main(["prepare", *words])
    said = capsys.readouterr()
    return code, said.out.splitlines(), said.err


def images(folder, count, size=8):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((size, size, 3), number, np.uint8)).save(folder / f"{number}.png")


@pytest.fixture
def folder(tmp_path):
    """A set of the user's own, two classes; the words that name it."""
    for part, count in (("train", 30), ("test", 5)):
        for name in ("a", "b"):
            images(tmp_path / "data/mine" / part / name, count)
    fields = ["folder=mine", "num_classes=2", "num_train=60", "num_test=10", "size=16"]
    return words_of(tmp_path, "folder", *(f"dataset.{field}" for field in fields))


def test_digits_need_nothing_and_folders_are_made(capsys, tmp_path):
    words = words_of(tmp_path, "digits")
    code, lines, err = run(capsys, *words)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in lines] == [
        "ok       data set digits",
        "created  results folder",
        "created  artifacts folder",
        "demo",
    ]
    assert lines[-1] == "demo: all 3 things are there"
    assert [line.split()[0] for line in run(capsys, *words)[1][1:3]] == ["ok", "ok"]
    assert prepare.find_missing(compose_all(words)) == []


def test_what_is_missing_is_named_with_the_cure_and_exit_code_1(capsys, tmp_path):
    words = words_of(tmp_path, "cifar10")
    code, lines, _ = run(capsys, *words)
    assert code == 1
    assert lines[0].startswith("missing  data set cifar10: CIFAR10: there is no file")
    assert "dataset.download=true" in lines[0]
    assert lines[-1] == "demo: 1 of 3 things are missing"
    (said,) = prepare.find_missing(compose_all(words))
    assert said == lines[0].removeprefix("missing  ")


def test_only_narrows_what_is_demanded(capsys, tmp_path):
    cells = "cells=[{dataset: digits, noise: none}, {dataset: fashion_mnist, noise: none, model: lenet5}]"
    words = [*(word for word in words_of(tmp_path, "digits") if not word.startswith("cells=")), cells, "seeds=[1]", "trainer.epochs=1"]
    assert run(capsys, *words)[0] == 1
    code, lines, _ = run(capsys, *words, "only=dataset=digits method=sap")
    assert (code, lines[0].split(":")[0]) == (0, "ok       data set digits")
    assert not any("fashion" in line for line in lines)
    composed = compose_all([*words, "only=dataset=digits"])
    plan = inspect_and_plan(composed, check_cells(composed), sweep_paths(composed.config))
    assert {job.labels["dataset"] for job in plan.jobs} == {"digits", "fashion_mnist"}, "the whole sweep is planned"


def test_missing_never_downloads(monkeypatch, tmp_path):
    def fetch(*_):
        raise AssertionError("it downloads")

    monkeypatch.setattr("sap_core.data.cifar_files.fetch", fetch)
    composed = compose_all(words_of(tmp_path, "cifar10", "dataset.download=true"))
    assert len(prepare.find_missing(composed)) == 1
    assert not (tmp_path / "artifacts").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--download", "dataset.download=true"])
def test_allowed_downloads_are_made_and_verified(capsys, monkeypatch, tmp_path, how):
    """The published files are small ones of this test's own; the download itself is torchvision's."""
    from sap_core.data.cifar10 import CIFAR10

    contents = {name: np.random.default_rng(number).bytes(50) for number, name in enumerate(CIFAR10.published.published.md5)}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in contents.items()}
    whole = SimpleNamespace(**vars(CIFAR10.published))

    def fetch(published, root):
        (root / published.folder).mkdir(parents=True)
        for name, content in contents.items():
            (root / published.folder / name).write_bytes(content)

    monkeypatch.setattr("sap_core.data.cifar_files.fetch", fetch)
    monkeypatch.setattr("sap_core.data.cifar_files.load_arrays", lambda data: None)
    published = type(CIFAR10.published)(Published("CIFAR10", "cifar-10-batches-py", sums), whole.train, whole.test, whole.labels, 10)
    monkeypatch.setattr(CIFAR10, "published", published)
    words = words_of(tmp_path, "cifar10")
    code, lines, _ = run(capsys, *words, how)
    assert (code, lines[0]) == (0, "created  data set cifar10: its checksums are the published ones")
    assert run(capsys, *words)[1][0].startswith("ok       data set cifar10")
    (tmp_path / "data/cifar-10-batches-py/data_batch_1").write_bytes(b"damaged")
    assert "differs from the published set" in prepare.find_missing(compose_all(words))[0]


@pytest.mark.slow
def test_what_was_verified_is_not_read_again_until_it_changes(capsys, monkeypatch, tmp_path, folder):
    composed = compose_all(folder)
    assert prepare.find_missing(composed) == []
    assert run(capsys, *folder)[0] == 0
    monkeypatch.setattr("sap_core.data.folder.Folder.inspect", lambda *_: pytest.fail("it reads the images again"))
    assert prepare.find_missing(composed) == []
    monkeypatch.undo()
    (tmp_path / "data/mine/train/a/7.png").unlink()
    assert "contains 59 images" in prepare.find_missing(composed)[0]


@pytest.mark.slow
def test_folders_are_built_from_a_release(capsys, tmp_path):
    for part, count in (("train", 12), ("val", 5)):
        for synset in range(10):
            images(tmp_path / "release" / part / f"n{synset}", count)
    words = words_of(tmp_path, "imagenette", "dataset.num_train=120", "dataset.num_test=50", "dataset.size=16", "dataset.verify=false")
    code, lines, _ = run(capsys, *words, f"--from=imagenette={tmp_path}/release")
    assert (code, lines[0]) == (0, "created  folders of imagenette: images: train 120 (published: 9469), val 50 (published: 3925)")
    code, lines, _ = run(capsys, *words, "--from", f"imagenette={tmp_path}/none")
    assert code == 1
    assert lines[0].startswith("missing  folders of imagenette: there is no readable folder")


@pytest.mark.slow
def test_weights_are_looked_for_verified_and_fetched(capsys, monkeypatch, tmp_path):
    from torchvision.models import resnet18

    state, plain = resnet18().state_dict(), tmp_path / "resnet18.pth"
    torch.save(state, plain)
    named = tmp_path / f"resnet18-{hashlib.sha256(plain.read_bytes()).hexdigest()[:8]}.pth"
    words = [word for word in words_of(tmp_path, "digits") if not word.startswith("cells")]

    def cell(path):
        return [*words, f"cells=[{{dataset: digits, noise: none, model: resnet18_imagenet, model.weights: {path}}}]"]

    code, lines, _ = run(capsys, *cell(named))
    assert code == 1
    assert "is not a file" in lines[1]
    assert "--download" in lines[1]
    assert len(prepare.find_missing(compose_all(cell(named)))) == 1
    plain.rename(named)
    code, lines, _ = run(capsys, *cell(named))
    assert (code, lines[1]) == (0, f"ok       weights {named} (model.weights): they fit the network")
    named.rename(tmp_path / "resnet18-00000000.pth")
    assert "is damaged: its SHA-256 begins with" in run(capsys, *cell(tmp_path / "resnet18-00000000.pth"))[1][1]
    published = tmp_path / "hub" / "resnet18-f37072fd.pth"
    asked = []
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda url, model_dir, **_: (asked.append(url), torch.save(state, published)))
    monkeypatch.setattr(prepare, "_check_name_hash", lambda file: None)
    code, lines, _ = run(capsys, *cell(published), "--download")
    assert (code, lines[1].split()[0]) == (0, "created")
    assert asked[0].endswith(published.name)
    assert "torchvision publishes no weights of that name" in run(capsys, *cell(tmp_path / "other.pth"), "--download")[1][1]


def test_human_labels_are_a_thing_of_their_own(capsys, tmp_path):
    words = [word for word in words_of(tmp_path, "cifar10") if not word.startswith("cells")]
    code, lines, _ = run(capsys, *words, "cells=[{dataset: cifar10, noise: [human_worst, human_random1], model: lenet5}]")
    assert code == 1
    assert [line.split(":")[0] for line in lines[:3]] == [
        "missing  data set cifar10",
        "missing  noise human_worst of cifar10",
        "missing  noise human_random1 of cifar10",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fetch"], "unknown option '--fetch' in sap-sweep prepare"),
        (["--from", "webvison=/x"], "unknown data set 'webvison' in --from NAME=DIR (did you mean 'webvision'?)"),
        (["--from", "imagenet"], "--from imagenet has no folder"),
        ([], "no experiment is chosen"),
        (["experiment=dmo"], "unknown experiment 'dmo'"),
    ],
)
def test_mistakes(capsys, words, said):
    code, lines, err = run(capsys, *words)
    assert (code, lines, err.count("\n")) == (2, [], 1)
    assert said in err

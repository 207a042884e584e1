"""The numbers of classes are printed before a run and stored."""

from types import SimpleNamespace

import pytest
from PIL import Image

from sap_core.data.folder import Folder
from sap_core.data.spiral import Spiral
from sap_core.files import load_json
from sweeper.__main__ import main
from sweeper.plan.class_numbers import describe_classes, read_class_names, warn_of_classes, write_classes

COUNT = 12


@pytest.fixture
def root(tmp_path):
    for part in ("train", "test"):
        for number in range(COUNT):
            (tmp_path / "pets" / part / str(number)).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "pets" / part / str(number) / "0.png")
    return tmp_path


def component(name, dataset):
    return SimpleNamespace(name=name, instance=dataset)


def folder(**options):
    counts = {"num_classes": COUNT, "num_train": COUNT, "num_test": COUNT}
    return Folder(**{"folder": "pets", **counts, "size": 4, "validation": 2, **options})


def test_each_data_set_that_names_classes_is_described_and_stored_once(root, capsys):
    sets = [
        component("pets", folder()),
        component("pets", folder()),
        component("spiral", Spiral()),
        component("absent", folder(folder="birds")),
    ]
    found = read_class_names(sets, root)
    assert list(found) == ["pets", "absent"]
    first, second = describe_classes(found, "all in FILE")
    assert first == "classes of pets: 0 = '0', 1 = '1', 2 = '10', 3 = '11', 4 = '2', 5 = '3', ... (12 classes; all in FILE)"
    assert second == "classes of absent: unknown until its files exist"
    warn_of_classes(found)
    assert "set dataset.class_order=natural" in capsys.readouterr().err
    write_classes(root / "store", found)
    assert load_json(root / "store" / "classes.json") == {"pets": sorted(map(str, range(COUNT)))}


def test_nothing_is_stored_where_no_files_name_classes(root):
    write_classes(root / "store", read_class_names([component("spiral", Spiral())], root))
    assert not (root / "store").exists()


def test_the_command_prints_number_and_name(root, capsys):
    words = [f"dataset.{key}={COUNT}" for key in ("num_classes", "num_train", "num_test")]
    cells = "cells=[{dataset: folder, noise: none, model: small_cnn, trainer: sgd}]"
    more = ["dataset.folder=pets", "dataset.size=32", "dataset.validation=2", "dataset.class_order=natural", f"paths.data={root}"]
    assert main(["classes", "experiment=demo", "name=pets", cells, *words, *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == COUNT
    assert lines[2] == "2\t2"

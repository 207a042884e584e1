"""The YAML files of data sets, noise and networks: they name real classes, list every option, and explain each key."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml

from sap_core.data.source import DataSet, NoiseKind

CONF = Path(__file__).parents[3] / "conf"
FILES = sorted(path for group in ("dataset", "noise", "model") for path in (CONF / group).glob("*.yaml"))
MANDATORY = {
    "folder": "pets", "table": "pets.csv", "file": "pets.npz", "shape": [3, 8, 8],
    "num_classes": 2, "num_train": 6, "num_test": 2, "size": 8,
}  # fmt: skip


def read(path):
    values = yaml.safe_load(path.read_text())
    module, _, name = values["_target_"].rpartition(".")
    return values, getattr(import_module(module), name)


def options(path):
    values, kind = read(path)
    return {key: value for key, value in values.items() if key not in ("name", "_target_")}, kind


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_option_is_listed_with_its_default_and_a_comment(path):
    values, kind = read(path)
    given, _ = options(path)
    parameters = {name: p for name, p in inspect.signature(kind).parameters.items() if name not in ("num_outputs", "input_shape")}
    assert values["name"] == path.stem
    assert list(given) == list(parameters)
    for name, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
            assert given[name] == default
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert all("  # " in line for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_the_class_can_be_made_from_the_file(path):
    given, kind = options(path)
    if path.parent.name == "model":
        if path.stem == "inception_resnet_v2":
            pytest.importorskip("timm")
        with torch.device("meta"):  # some are large
            assert isinstance(kind(10, (1, 32, 32), **given), torch.nn.Module)
    else:
        filled = {key: MANDATORY[key] if value == "???" else value for key, value in given.items()}
        made = kind(**({**filled, "validation": 2} if path.stem in ("folder", "table", "tensors") else filled))
        assert isinstance(made, DataSet if path.parent.name == "dataset" else NoiseKind)


def test_there_are_files_to_test():
    assert len(FILES) >= 23

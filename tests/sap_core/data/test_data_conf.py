"""YAML files of data sets, noise and networks: they name existing classes, list every option, and explain each key."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest
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


def mistakes(path):
    """Differences between a file and the signature of its class."""
    values, kind = read(path)
    given, _ = options(path)
    parameters = {name: p for name, p in inspect.signature(kind).parameters.items() if name not in ("num_outputs", "input_shape")}
    if values["name"] != path.stem:
        yield f"name: {values['name']}"
    if list(given) != list(parameters):
        yield f"its keys are {list(given)}, the parameters {list(parameters)}"
    for name, parameter in parameters.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        if default is not inspect.Parameter.empty and given.get(name) != default:
            yield f"{name}: {given.get(name)}, where the default is {default}"
    lines = path.read_text().splitlines()
    yield from (f"no comment: {line}" for line in lines if line and not line.startswith("#") and "  # " not in line)
    if not lines[0].startswith("# "):
        yield f"it begins with {lines[0]}"


def test_every_option_is_listed_with_its_default_and_a_comment():
    wrong = [f"{path.parent.name}/{path.name}: {mistake}" for path in FILES for mistake in mistakes(path)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("group", ["dataset", "noise"])
def test_data_and_noise_are_made_from_their_files(group):
    for path in (path for path in FILES if path.parent.name == group):
        given, kind = options(path)
        filled = {key: MANDATORY[key] if value in ("???", "auto") else value for key, value in given.items()}
        made = kind(**({**filled, "validation": 2} if path.stem in ("folder", "table", "tensors") else filled))
        assert isinstance(made, DataSet if group == "dataset" else NoiseKind), path


def test_there_are_files_to_test():
    assert len(FILES) >= 23

"""Roles of components are declared: no check by the name of an attribute, and every optional protocol is in the table of docs/adding.md."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

from sap_core import api, roles
from sap_core.data import source
from trainers import speed

HOME = Path(__file__).parents[1]
PACKAGES = ("sap_core", "trainers", "baselines", "sweeper", "analysis", "slurm")

ALLOWED = {
    ("sap_core/sap/variants.py", "bias"): "layers of torch",
    ("trainers/learner.py", "track_running_stats"): "norm layers of torch",
    ("sap_core/components.py", "__name__"): "classes and functions",
    ("sap_core/components.py", "__module__"): "classes and functions",
    ("sweeper/config/target.py", "__module__"): "the package of a function that a plug-in names",
    ("sap_core/components.py", "__dict__"): "classes and functions",
    ("sap_core/records.py", "__args__"): "type hints",
    ("sweeper/config/component.py", "__name__"): "type hints",
    ("sweeper/contracts/common.py", "__dataclass_params__"): "dataclasses",
    ("sweeper/config/hydra_errors.py", "full_key"): "errors of OmegaConf",
    ("analysis/__main__.py", "text_file"): "options that argparse parsed",
    ("sweeper/commands/override_completion.py", "config_dir"): "options that argparse parsed",
    ("sweeper/commands/override_completion.py", "overrides"): "options that argparse parsed",
    ("slurm/submission.py", "strerror"): "OSError beside UnicodeError",
    ("sweeper/store/store.py", "strerror"): "errors of pyarrow",
    ("analysis/reports/lint.py", "strerror"): "OSError beside UnicodeError",
    ("sap_core/data/audit.py", "strerror"): "OSError beside UnicodeError",
    ("sap_core/data/table_files.py", "strerror"): "OSError beside UnicodeError",
    ("sap_core/location.py", "strerror"): "OSError beside RuntimeError and ValueError",
    ("sap_core/command_line.py", "write_through"): "text streams",
    ("sap_core/machine.py", "sched_getaffinity"): "functions of the operating system",
    ("sap_core/machine.py", "SIGHUP"): "signals of the operating system",
    ("sweeper/backends/ray_driver.py", "SIGHUP"): "signals of the operating system",
    ("sweeper/backends/ray_start.py", "SIGHUP"): "signals of the operating system",
    ("sweeper/backends/ray_start.py", "setitimer"): "signals of the operating system",
    ("sap_core/yaml_files.py", "CSafeLoader"): "PyYAML with or without libyaml",
    ("sweeper/store/config_file.py", "CSafeLoader"): "PyYAML with or without libyaml",
    ("sap_core/data/image_modes.py", "is_animated"): "images of Pillow",
    ("sap_core/models/outputs.py", "__dict__"): "outputs of foreign networks",
    ("sap_core/models/outputs.py", "logits"): "outputs of foreign networks",
    ("sap_core/models/unwrap.py", "__wrapped__"): "functions wrapped by torch.compile",
    ("sap_core/models/unwrap.py", "_torchdynamo_orig_callable"): "functions wrapped by torch.compile",
    ("sap_core/sap/labelled.py", "__array__"): "items of the caller's data sets",
    ("sap_core/sap/labelled.py", "dtype"): "items of the caller's data sets",
    ("sap_core/sap/labelled.py", "kind"): "dtypes of numpy",
    ("sap_core/sap/library.py", "__array__"): "arguments of the caller",
    ("sap_core/sap/loaders.py", "__array__"): "arguments of the caller",
    ("sap_core/sap/loaders.py", "__getitem__"): "data sets of the caller",
    ("sap_core/sap/loaders.py", "__len__"): "data sets of the caller",
    ("sweeper/plan/auto_options.py", "__dataclass_fields__"): "fields of any dataclass",
}
"""(file, attribute) -> whose attribute it is: none of a component's."""

REQUIRED = {"DataSet", "NoiseKind", "Noise", "DataNoise", "InputNoise"}
"""Protocols of `sap_core.data.source` that are not optional."""


def literal_checks(package):
    """(file, attribute) of every hasattr and getattr by a literal name."""
    for path in sorted((HOME / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr"):
                name = node.args[1]
                if isinstance(name, ast.Constant):
                    yield path.relative_to(HOME).as_posix(), name.value


def optional_protocols():
    """name -> protocol"""
    found = {}
    for module in (roles, source, speed):
        for name, cls in vars(module).items():
            if inspect.isclass(cls) and cls.__module__ == module.__name__ and getattr(cls, "_is_protocol", False) and name not in REQUIRED:
                found[name] = cls
    return found


def members(protocol):
    return {name for name in {**vars(protocol), **inspect.get_annotations(protocol)} if not name.startswith("_")}


def table():
    """protocol -> its members, as docs/adding.md lists them."""
    section = re.search(r"## Optional protocols\n(.*?)\n## ", (HOME / "docs/adding.md").read_text(), re.S).group(1)
    rows = re.findall(r"^\| `([A-Z][a-z]\w+)` \| (.*?) \|", section, re.M)
    return {name: set(re.findall(r"`(\w+)", offered)) for name, offered in rows}


def test_no_role_is_inferred_from_the_name_of_an_attribute():
    found = {place for package in PACKAGES for place in literal_checks(package)}
    assert found == set(ALLOWED), "declare an optional protocol (sap_core/roles.py) and use isinstance"


def test_the_page_lists_every_optional_protocol_with_its_members():
    assert table() == {name: members(protocol) for name, protocol in optional_protocols().items()}


@pytest.mark.parametrize("name", [name for name, cls in vars(roles).items() if inspect.isclass(cls) and cls.__module__ == roles.__name__])
def test_the_interface_exports_the_optional_protocols_of_methods(name):
    assert getattr(api, name) is getattr(roles, name)

"""Plug-ins by name and by path, from any folder and without PYTHONPATH."""

from __future__ import annotations

import os
import sys

import pytest

from sap_core.errors import UserError
from sap_core.guard import check_start
from sap_core.location import PLUGINS_VARIABLE
from sweeper.config.packages import find_plugins, parse_plugins, plugin_argument, plugins_as_override


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder with a package and a module of names that nothing else has, and an empty working folder beside it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv(PLUGINS_VARIABLE, "")
    for name in ("code/plugged_in", "empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "code/plugged_in/__init__.py").touch()
    (tmp_path / "code/plugged_module.py").touch()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "code" / "plugged_in"


@pytest.mark.parametrize("form", ["{0}", "{0}/", "../code/plugged_in", "[{0}]", "[ ../code/plugged_in , torch]"])
def test_a_path_makes_the_package_importable_here_and_in_other_processes(package, form, monkeypatch):
    assert parse_plugins(form.format(package))[0] == "plugged_in"
    assert sys.path[-1] == str(package.parent)
    assert plugin_argument("plugged_in") == str(package)
    assert os.environ[PLUGINS_VARIABLE] == str(package.parent)
    monkeypatch.setattr(sys, "path", sys.path[:-1])
    check_start()
    assert str(package.parent) in sys.path


def test_a_module_is_named_by_its_file_and_a_package_of_the_current_folder_by_its_name(package, monkeypatch):
    assert find_plugins([str(package.parent / "plugged_module.py")]) == ("plugged_module",)
    monkeypatch.chdir(package.parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(package.parent))])
    assert find_plugins(["plugged_in", "torch"]) == ("plugged_in", "torch")
    assert plugin_argument("plugged_in") == str(package)
    assert plugin_argument("torch") == "torch"


def test_the_file_of_a_package_stands_for_its_folder(package):
    assert find_plugins([str(package / "__init__.py")]) == ("plugged_in",)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("../code/pluged_in", "does not exist; give the folder of a package"),
        ("plugged_in.methods", "name its top-level package, plugins=[plugged_in]"),
        ("../code/plug-in", "is no package; give a folder or a .py file whose name consists of letters, digits and _"),
        ("../code/trainers", "the name 'trainers' of"),
    ],
)
def test_mistakes_are_one_sentence(package, entry, said):
    for name in ("plug-in", "trainers"):
        (package.parent / name).mkdir()
    with pytest.raises(UserError) as error:
        parse_plugins(entry)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_option_is_the_override():
    words = ["experiment=demo", "--plugins", "a,../b", "seeds=[1]", "--plugins=[c]"]
    assert plugins_as_override(words) == ["experiment=demo", "seeds=[1]", "plugins=[a,../b,c]"]
    assert plugins_as_override(["plugins=[a]"]) == ["plugins=[a]"]


def test_both_forms_together_are_refused_with_a_plus_as_well():
    for key in ("plugins", "+plugins", "++plugins"):
        with pytest.raises(UserError, match="--plugins and plugins= are the same"):
            plugins_as_override(["--plugins", "torch", f"{key}=[examples]"])

"""The folder to which relative paths refer, and the environment of other processes."""

from __future__ import annotations

import os
import site
import subprocess
import sys

import pytest

from sap_core import location
from sap_core.errors import UserError

PROGRAMS = ("sweeper", "analysis", "slurm", "sweeper.execute")


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(location, "IN_CHECKOUT", False)


def test_a_checkout_works_in_its_root_and_an_installed_copy_in_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert location.find_home("") == location.CODE
    monkeypatch.setattr(location, "IN_CHECKOUT", False)
    assert location.find_home("") == tmp_path


@pytest.mark.parametrize("value", ["study", "./study/", "{}/study", "~/study", "link"])
def test_the_variable_names_a_folder_for_both(monkeypatch, tmp_path, value):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "study").mkdir()
    (tmp_path / "link").symlink_to("study")
    assert location.find_home(value.format(tmp_path)) == tmp_path / "study"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nowhere", "does not exist"), ("file", "is not a folder"), ("file/below", "does not exist"), ("~no-such-user/x", "cannot be read"),
        ("x" * 300, "cannot be read (File name too long)"), ("loop", "does not exist"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_folder_is_refused_with_one_sentence(monkeypatch, tmp_path, value, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError) as error:
        location.find_home(value)
    assert str(error.value).startswith(f"SAP_SWEEP_HOME={value} {reason}")
    assert str(error.value).endswith("; set it to an existing folder, or unset SAP_SWEEP_HOME")


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("option", [["--help"], ["--version"]])
def test_a_deleted_folder_is_one_sentence_of_every_program(tmp_path, program, option):
    command = f'cd "{tmp_path}/gone" && rmdir "{tmp_path}/gone" && exec "$@"'
    (tmp_path / "gone").mkdir()
    words = [sys.executable, "-m", program, *option]
    environment = os.environ | {"PYTHONPATH": str(location.CODE)}
    done = subprocess.run(["bash", "-c", command, "bash", *words], capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the current folder cannot be read (No such file or directory)")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_names_its_version_and_place(program):
    done = subprocess.run(
        [sys.executable, "-m", program, "--version"], cwd=location.CODE, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == f"sap-sweep {location.version()} in {location.CODE}\n"


def test_site_packages_are_not_put_before_the_standard_library(monkeypatch, installed):
    assert location.package_path() == [str(location.CODE)]  # as with pip install --target
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(location.CODE)])
    assert location.package_path() == []


def test_other_processes_use_the_same_folder_and_packages(monkeypatch, tmp_path):
    monkeypatch.setattr(location, "HOME", tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/mine")
    environment = location.child_environment()
    assert environment["PYTHONPATH"] == f"{location.CODE}{os.pathsep}/mine"
    code = "from sap_core.location import CODE, HOME; print(CODE, HOME)"
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd="/", env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{location.CODE} {tmp_path}\n"


def test_a_copy_in_the_folder_of_another_project_is_no_checkout(tmp_path):
    (tmp_path / "sap_core").mkdir()
    for name in ("location.py", "errors.py", "__init__.py"):
        text = "" if name == "__init__.py" else (location.CODE / "sap_core" / name).read_text(encoding="utf-8")
        (tmp_path / "sap_core" / name).write_text(text, encoding="utf-8")
    code = "from sap_core.location import HOME, version; print(HOME, version())"

    def run():
        command = [sys.executable, "-P", "-c", code]
        return subprocess.run(command, cwd="/", env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True).stdout

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "study"\nversion = "7"\n', encoding="utf-8")
    assert run() == "/ unknown\n"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "sap-sweep"\nversion = "7"\n', encoding="utf-8")
    assert run() == f"{tmp_path} 7\n"

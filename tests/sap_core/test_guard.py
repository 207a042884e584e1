"""Foreign packages with one of our names are refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from analysis.__main__ import main as report_main
from sap_core import guard
from sap_core.errors import UserError
from sap_core.guard import check_origins, check_start
from slurm.__main__ import main as slurm_main
from sweeper.__main__ import main as sweeper_main
from sweeper.execute import main as execute_main

HOME = Path(__file__).parents[2]
CHECK = """
import sys
sys.path[:0] = sys.argv[1:]
from sap_core.errors import UserError
from sap_core.guard import check_origins
try:
    check_origins()
except UserError as error:
    print(error)
else:
    print("fine")
"""


def check(*path: Path) -> str:
    return subprocess.run([sys.executable, "-c", CHECK, *map(str, path)], cwd=HOME, capture_output=True, text=True, check=True).stdout


def test_this_checkout_passes():
    check_origins()


@pytest.mark.parametrize("name", ["analysis", "slurm", "conf"])
def test_a_package_that_comes_first_is_named_with_both_places_and_the_cure(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").touch()
    said = check(tmp_path, HOME)
    assert said.count("\n") == 1
    assert f"'{name}' would be imported from {tmp_path / name}" in said
    assert f"is in {HOME}" in said
    assert f"run the command from {HOME}" in said


def test_a_package_that_comes_last_is_harmless(tmp_path):
    (tmp_path / "slurm").mkdir()
    (tmp_path / "slurm" / "__init__.py").touch()
    assert check(HOME, tmp_path) == "fine\n"


def test_plug_ins_beside_the_results_are_found_after_everything_else(monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "HOME", tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("random", "my_own_part"):
        (tmp_path / f"{name}.py").touch()
    check_start()
    check_start()
    assert sys.path.count(str(tmp_path)) == 1
    assert find_spec("my_own_part").origin == f"{tmp_path}/my_own_part.py"
    assert find_spec("random").origin != f"{tmp_path}/random.py"


def test_a_home_that_is_no_folder_ends_every_program(monkeypatch):
    monkeypatch.setattr(guard, "HOME_ERROR", UserError("SAP_SWEEP_HOME=x does not exist"))
    for main in (sweeper_main, report_main, slurm_main, execute_main):
        assert main(["--help"]) == 2

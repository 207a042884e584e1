"""Foreign packages with one of our names are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sap_core.guard import check_origins

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

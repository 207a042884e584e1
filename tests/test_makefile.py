"""The Makefile's own checks; nothing is installed here."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=HOME, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("target", ["test", "test-all"])
@pytest.mark.parametrize(("package", "folder"), [("", "tests"), ("sweeper", "tests/sweeper")])
def test_one_package_is_tested_alone(target, package, folder):
    (line,) = [line for line in make("-n", target, f"PKG={package}").stdout.splitlines() if "-m pytest" in line]
    assert line.split()[-1] == folder


@pytest.mark.parametrize("target", ["test", "test-all"])
def test_an_unknown_package_ends_with_one_sentence_and_code_2(target):
    done = make(target, "PKG=sweper")
    assert done.returncode == 2
    assert "error: there are no tests of a package 'sweper'; allowed: analysis baselines" in done.stderr
    assert f"make {target} PKG=sweeper" in done.stderr

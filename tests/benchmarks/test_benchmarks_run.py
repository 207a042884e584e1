"""Runs every benchmark at tiny sizes. Speed is measured by running them at full size and not asserted here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py") if "def main(" in path.read_text())


def test_there_are_benchmarks():
    assert {"gram", "projector", "selection", "nested", "sap_end_to_end"} <= set(BENCHMARKS)


QUICK = {"gram", "selection"}  # each starts a Python process


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in BENCHMARKS])
def test_runs_at_tiny_sizes(name):
    command = [sys.executable, "-m", f"benchmarks.{name}", "--quick"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") >= 1
    assert "DIFFERENT" not in done.stdout


@pytest.mark.slow
def test_trivial_jobs_go_through_ray_exactly_once():
    """The benchmark itself checks that every row is stored exactly once."""
    command = [sys.executable, "-m", "benchmarks.ray_jobs", "--jobs", "60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("60 jobs, 2 workers: start ")
    assert done.stdout.endswith("all rows stored once\n")


def test_the_list_has_one_line_on_each():
    done = subprocess.run([sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True)
    listed = dict(line.split(maxsplit=1) for line in done.stdout.splitlines() if line.startswith("  "))
    assert sorted(listed) == BENCHMARKS


def test_the_table_names_every_benchmark():
    readme = (ROOT / "benchmarks" / "README.md").read_text()
    assert all(f"benchmarks.{name}" in readme for name in BENCHMARKS)

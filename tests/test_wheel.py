"""A wheel holds every file of the packages, and an installed copy works from an empty folder without a checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

HOME = Path(__file__).parents[1]
SUFFIXES = {".py", ".yaml", ".csv", ".bib", ".html", ".css", ".js", ".md"}
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text())
PACKAGES = [pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]

pytestmark = pytest.mark.slow


def run(*words, cwd, **environment):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, words)], cwd=cwd, env=os.environ | environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the packages, because the build writes beside its sources."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(HOME / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(HOME / name, source)
    run("pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", built, source, cwd=built)
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of an installation that comes before the checkout on the path."""
    folder = tmp_path_factory.mktemp("site")
    run("pip", "install", "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    with zipfile.ZipFile(wheel) as archive:
        found = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    files = (path for name in PACKAGES for path in (HOME / name).rglob("*") if path.suffix in SUFFIXES)
    assert found == {path.relative_to(HOME).as_posix() for path in files}


def test_a_plan_and_the_help_need_no_checkout(installed, tmp_path):
    planned = run("sweeper", "experiment=demo", "dry_run=true", cwd=tmp_path, PYTHONPATH=str(installed))
    assert "dry run" in planned.stdout
    assert "sap-report STORE" in run("analysis", "--help", cwd=tmp_path, PYTHONPATH=str(installed)).stdout
    assert not list(tmp_path.iterdir()), "a dry run writes nothing"


def test_a_sweep_runs_and_is_reported_in_the_working_directory(installed, tmp_path):
    words = ("experiment=demo", "debug=smoke", "backend=local", "methods=[sap]", "seeds=[1]")
    run("sweeper", *words, cwd=tmp_path, PYTHONPATH=str(installed))
    store = tmp_path / "results" / "demo-smoke"
    run("analysis", store, "status", cwd=tmp_path, PYTHONPATH=str(installed))
    commits = {row["commit"] for path in (store / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()}
    assert commits == {f"version {PROJECT['project']['version']}"}

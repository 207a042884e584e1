"""The source distribution, the wheel built from it, and a sweep with an own method of the installed copy, without a checkout.

`make release-check` does the same with a fresh download of all requirements and the whole demo.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import yaml
from packaging.metadata import Metadata

HOME = Path(__file__).parents[1]
PROJECT = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = {pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
OWN = """
from dataclasses import dataclass
from typing import ClassVar

from examples.refit_head import RefitHead


@dataclass(frozen=True)
class Refit(RefitHead):
    name: ClassVar[str] = "own_refit"
"""

pytestmark = pytest.mark.slow


def run(*words, cwd, code=0):
    # Neither the checkout nor the folder of the tests is on the path of these processes.
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "SAP_SWEEP_HOME", "SAP_SWEEP_DATA")}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def tracked():
    """Every file of the checkout."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=HOME, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout: the files of a release cannot be listed")
    return {name for name in listed.stdout.splitlines() if (HOME / name).is_file()}


@pytest.fixture(scope="module")
def built(tracked, tmp_path_factory):
    """The two files of a release, built from a copy, because the build writes beside its sources."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(HOME / name, source / name)
    run(sys.executable, "-c", f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})", cwd=source)
    (sdist,) = folder.glob("*.tar.gz")
    # From the source distribution, which shows that it is complete.
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", folder, sdist, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return SimpleNamespace(sdist=sdist, wheel=wheel)


@pytest.fixture(scope="module")
def program(built, tmp_path_factory):
    """The path of a program in a new environment that has the wheel; requirements are those of the running environment."""
    root = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", root, cwd=root)
    python = root / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])", cwd=root).stdout.strip())
    # A folder that is named in a .pth file is put on the path without reading its own .pth files, such as those of editable packages.
    (site / "requirements.pth").write_text(sysconfig.get_paths()["purelib"])
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", built.wheel, cwd=root)
    return lambda name: root / "bin" / name


def test_the_source_distribution_has_every_file_of_the_checkout(built, tracked):
    with tarfile.open(built.sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked <= packed


def test_the_wheel_has_every_file_of_the_packages_and_nothing_else(built, tracked):
    with zipfile.ZipFile(built.wheel) as archive:
        found = {name for name in archive.namelist() if not name.split("/")[0].endswith(".dist-info")}
    assert found == {name for name in tracked if name.split("/")[0] in PACKAGES}
    assert {"conf/config.yaml", "analysis/references.bib", "analysis/reference/table1.csv", "sap_core/py.typed"} <= found


def test_the_metadata_are_valid_and_the_version_is_the_citations(built):
    with zipfile.ZipFile(built.wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith("/METADATA")]
        found = Metadata.from_email(archive.read(name), validate=True)
    assert str(found.version) == yaml.safe_load((HOME / "CITATION.cff").read_text(encoding="utf-8"))["version"]
    assert (found.name, found.license_expression, str(found.requires_python)) == ("sap-sweep", "Apache-2.0", ">=3.11")
    assert found.description == (HOME / "README.md").read_text(encoding="utf-8")
    assert found.description_content_type == "text/markdown"


def test_an_own_method_is_tuned_reported_and_rerun_in_an_otherwise_empty_folder(program, tmp_path):
    work = tmp_path / "a b"
    # Names that would hide ours and Python's, were the folder first on the path.
    for name in ("mine", "examples", "analysis", "trainers"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").touch()
    (work / "random.py").write_text("raise SystemExit('hidden')")
    shutil.copy(HOME / "examples" / "refit_head.py", work / "examples")
    (work / "mine" / "refit.py").write_text(OWN)
    (work / "conf" / "method").mkdir(parents=True)
    text = (HOME / "examples" / "conf" / "method" / "refit_head.yaml").read_text(encoding="utf-8")
    (work / "conf" / "method" / "own_refit.yaml").write_text(
        text.replace("examples.refit_head.RefitHead", "mine.refit.Refit").replace("name: refit_head", "name: own_refit")
    )
    (work / "conf" / "cluster").mkdir()
    (work / "conf" / "cluster" / "near.yaml").write_text("cpus: 3\n")
    before = {*work.iterdir()}
    site = program("..").resolve()
    files = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    words = ("experiment=demo", "name=own", "methods=[own_refit]", "seeds=[1]", "debug=smoke", "backend=local", "plugins=[mine]")
    run(program("sap-sweep"), *words, "--config-dir", "conf", cwd=work)
    store = work / "results" / "own-smoke"
    rows = [row for path in (store / "rows").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["method"] for row in rows} == {"vanilla", "own_refit"}
    (commit,) = {row["commit"] for row in rows}
    assert re.fullmatch(rf"version {re.escape(PROJECT['project']['version'])}, code [0-9a-f]{{12}}", commit)
    run_id = next(row["run_id"] for row in rows if row["job_type"] == "tune")
    rerun = run(program("sap-sweep"), "rerun", store, run_id, "plugins=[mine]", cwd=work).stdout
    assert f"run {run_id}, own_refit (ridge5), seed 1: equal" in rerun
    script = run(program("sap-slurm"), "script", "results/own-smoke", "cluster=near", "plugins=[mine]", cwd=work).stdout
    assert "#SBATCH --cpus-per-task=3\n" in script
    assert "4 of 4 planned rows done" in run(program("sap-report"), "results/own-smoke", "status", cwd=work).stdout
    assert {*work.iterdir()} - before == {work / "results"}
    assert files == {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


def test_reports_and_scripts_need_neither_a_checkout_nor_a_file_of_the_folder(program, tmp_path):
    for name in ("sap-sweep", "sap-report", "sap-slurm"):
        assert run(program(name), "--version", cwd=tmp_path).stdout.startswith(
            f"sap-sweep {PROJECT['project']['version']} in {program('..').resolve()}"
        )
    assert "the example is part of a checkout" in run(program("sap-report"), cwd=tmp_path).stdout
    assert "sap-report" in run(program("sap-sweep"), "completion", "bash", cwd=tmp_path).stdout
    assert "dry run" in run(program("sap-sweep"), "experiment=demo", "dry_run=true", cwd=tmp_path).stdout
    assert "published tables" in run(program("sap-report"), "lint", "published", cwd=tmp_path).stdout
    script = run(program("sap-slurm"), "script", "experiment=demo", cwd=tmp_path).stdout
    assert str(HOME) not in script
    assert f"cd {tmp_path}\n" in script
    assert (
        "tabular" in run(program("sap-report"), HOME / "examples" / "demo", "table", "comparison", "--format", "latex", cwd=tmp_path).stdout
    )
    assert "@" in run(program("sap-report"), HOME / "examples" / "demo", "cite", cwd=tmp_path).stdout
    assert "SCRUB" in run(program("sap-report"), "published", "table", "table1", cwd=tmp_path).stdout
    assert not [*tmp_path.iterdir()]

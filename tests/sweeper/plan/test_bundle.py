"""Bundles: exporting jobs, running them on machines with four packages only, importing rows and checkpoints."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sap_core.errors import UserError
from sap_core.records import TIMING_COLUMNS
from sweeper.__main__ import main
from sweeper.execute import main as execute_main
from sweeper.jobs.job import read_jobs, write_jobs
from sweeper.plan.bundle import is_bundle, read_bundle, write_bundle
from sweeper.store.store import Store

pytestmark = pytest.mark.slow  # each command starts interpreters

CELL = "cells=[{dataset: tensors, noise: symmetric, noise.rate: 0.25, model: small_cnn}]"
ARGUMENTS = (
    "experiment=demo", "name=bundled", CELL, "dataset.file=toy.safetensors", "dataset.num_classes=4", "dataset.num_train=120",
    "dataset.num_test=20", "dataset.shape=[1,8,8]", "dataset.truth_known=true", "methods=[sap@few,retrain]", "seeds=[1,2]",
    "trainer.epochs=3", "+method.sap.spaces.few={alpha: {grid: [30000.0, 3000.0]}}", "method.sap.corrector.num_trusted=40",
)  # fmt: skip

ALLOWED = (
    "torch", "torchgen", "functorch", "numpy", "safetensors", "pyarrow",  # and what torch itself needs
    "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec", "triton", "cuda", "nvidia",
    "sap_core", "trainers", "baselines", "sweeper", "analysis",  # of the checkout; the last for the names of files alone
)  # fmt: skip

BARE = """
import sys, runpy
allowed = {*sys.stdlib_module_names, *sys.argv[1].split(",")}
finders = list(sys.meta_path)
class Only:  # in the place of all finders: other packages are not there, for those who ask politely, too
    def find_spec(self, name, path=None, target=None):
        top = name.split(".")[0]
        if top not in allowed and not top.startswith("_"):
            return None
        found = (finder.find_spec(name, path, target) for finder in finders)
        return next((spec for spec in found if spec is not None), None)
sys.meta_path[:] = [Only()]
module, sys.argv = sys.argv[2], sys.argv[2:]
if module == "-":
    import importlib
    for name in sys.argv[1:]:
        importlib.import_module(name)
else:
    runpy.run_module(module, run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory, shell):
    """A folder with data and a bundle."""
    root = tmp_path_factory.mktemp("bundle")
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(140) % 4
    images = torch.rand(140, 1, 8, 8, generator=generator) * 0.6
    images[torch.arange(140), 0, labels * 2] += 0.4
    (root / "data").mkdir()
    save_file({"images": images, "labels": labels, "split": (torch.arange(140) >= 120).long()}, root / "data" / "toy.safetensors")
    done = shell("-m", "sweeper", *ARGUMENTS, f"paths.data={root}/data", f"export={root}/bundle.jsonl")
    assert done.returncode == 0, done.stderr
    assert "6 jobs, 8 rows" in done.stdout
    return root


@pytest.fixture(scope="module")
def executed(place, shell):
    """The bundle run where nothing but torch, numpy, safetensors and pyarrow can be imported."""
    words = (str(place / "bundle.jsonl"), "--data", str(place / "data"), "--store", str(place / "there"))
    done = shell("-c", BARE, ",".join(ALLOWED), "sweeper.execute", *words)
    assert done.returncode == 0, done.stderr
    return place / "there"


def test_a_bundle_is_plain_json_and_read_as_it_was_written(place, tmp_path):
    path = place / "bundle.jsonl"
    bundle = read_bundle(path)
    assert is_bundle(path)
    assert (bundle.name, bundle.results, bundle.order) == ("bundled", "results/bundled", "longest")
    assert [job.job_id for job in bundle.jobs] == [job.job_id for job in read_jobs(path, ())]
    assert {row.run_id for row in bundle.rows} == {run.run_id for job in bundle.jobs for run in job.runs}
    assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())
    write_bundle(tmp_path / "again.jsonl", bundle)
    assert (tmp_path / "again.jsonl").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("lines", [0, 1, 3, 9])
def test_a_cut_bundle_is_refused(place, tmp_path, lines):
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join((place / "bundle.jsonl").read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(UserError, match=r"copy it again, or write it again with sap-sweep export experiment=NAME --output FILE"):
        read_bundle(cut)


def test_it_runs_where_only_four_packages_are(executed):
    store = Store(executed)
    bundle = read_bundle(next((executed / "bundles").glob("*.jsonl")))
    rows = [row for job in bundle.jobs for row in store.read_rows(job.job_id)]
    assert len(rows) == len(bundle.rows)
    assert all(row.status == "ok" for row in rows)
    assert {row.precision for row in rows} == {"float32"}
    assert {(row.compile, row.channels_last, row.fused) for row in rows} == {("none", False, False)}
    assert all((executed / "artifacts" / job.job_id / "meta.json").exists() for job in bundle.jobs if job.job_type == "train")


def test_libraries_import_where_only_four_packages_are(shell):
    home = Path(__file__).parents[3]
    names = [
        ".".join(path.relative_to(home).with_suffix("").parts)
        for package in ("sap_core", "trainers", "baselines")
        for path in sorted((home / package).rglob("*.py"))
        # Workers read no YAML.
        if path.name not in ("__init__.py", "yaml_files.py")
    ]
    done = shell("-c", BARE, ",".join(ALLOWED), "-", *names, "sweeper.execute", "sweeper.execute", "sweeper.jobs.job_types")
    assert done.returncode == 0, done.stderr


PUBLISHED = """
from pathlib import Path
from sap_core.data import cifar10, cifar100, fashion_mnist, mnist
for kind in (cifar10.CIFAR10, cifar100.CIFAR100, fashion_mnist.FashionMNIST, mnist.MNIST):
    print(kind.__name__, len(kind(verify=False).load(Path(PLACE)).train_labels))
"""


def test_published_sets_are_read_where_only_four_packages_are(tmp_path, shell):
    for name, count, labels in (
        ("data_batch_%d", 5, "labels"),
        ("test_batch", 1, "labels"),
        ("train", 1, "fine_labels"),
        ("test", 1, "fine_labels"),
    ):
        folder = tmp_path / ("cifar-10-batches-py" if labels == "labels" else "cifar-100-python")
        folder.mkdir(exist_ok=True)
        for number in range(count):
            batch = {"data": np.zeros((3, 3072), np.uint8), labels: [0, 1, 2]}
            (folder / (name % (number + 1) if "%" in name else name)).write_bytes(pickle.dumps(batch, 2))
        (folder / ("batches.meta" if labels == "labels" else "meta")).write_bytes(pickle.dumps({}, 2))
    for name in ("MNIST", "FashionMNIST"):
        (tmp_path / name / "raw").mkdir(parents=True)
        for part in ("train", "t10k"):
            (tmp_path / name / "raw" / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, 3, 28, 28) + bytes(3 * 784))
            (tmp_path / name / "raw" / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, 3) + bytes(3))
    (tmp_path / "loads_published.py").write_text(PUBLISHED.replace("PLACE", repr(str(tmp_path))))
    bare = BARE.replace("import sys, runpy", f"import sys, runpy; sys.path.append({str(tmp_path)!r})")
    done = shell("-c", bare, ",".join([*ALLOWED, "loads_published"]), "-", "loads_published")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["CIFAR10", "15", "CIFAR100", "3", "FashionMNIST", "3", "MNIST", "3"]


def words(place, target):
    return [str(place), f"paths.results={target}/store", f"paths.artifacts={target}/artifacts"]


def content(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def stamps(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_rows_and_checkpoints_come_back_and_a_second_import_does_nothing(executed, tmp_path, capsys):
    assert main(["import", *words(executed, tmp_path)]) == 0
    bundle = read_bundle(next((executed / "bundles").glob("*.jsonl")))
    said = capsys.readouterr().out
    assert f"{len(bundle.jobs)} jobs imported ({len(bundle.rows)} rows" in said
    assert "checkpoints: 2 imported" in said
    store, source = Store(tmp_path / "store"), Store(executed)
    for job in bundle.jobs:
        assert store.read_rows(job.job_id) == source.read_rows(job.job_id)
        assert store.read_series(job.job_id) == source.read_series(job.job_id)
    for name in ("config.yaml", "plan.parquet", "plan.json", "jobs.jsonl"):
        assert (store.root / name).exists()
    model = next((executed / "artifacts").glob("*/model.safetensors"))
    assert (tmp_path / "artifacts" / model.parent.name / model.name).read_bytes() == model.read_bytes()
    before = stamps(tmp_path)
    assert main(["import", *words(executed, tmp_path)]) == 0
    assert stamps(tmp_path) == before
    assert "0 jobs imported" in capsys.readouterr().out


def test_an_imported_store_is_what_the_sweep_itself_fills(place, executed, tmp_path, shell):
    """Sweeping on it runs nothing, and a report can be made of it."""
    main(["import", *words(executed, tmp_path)])
    folders = (f"paths.results={tmp_path}/store", f"paths.artifacts={tmp_path}/artifacts", f"paths.data={place}/data")
    before = content(tmp_path / "store" / "rows")
    done = shell("-m", "sweeper", *ARGUMENTS, "backend=local", *folders)
    assert done.returncode == 0, done.stderr
    assert content(tmp_path / "store" / "rows") == before
    assert "8 rows stored" in done.stderr


def test_rows_equal_those_of_the_sweep_itself(place, executed, tmp_path, shell):
    folders = (f"paths.results={tmp_path}/store", f"paths.artifacts={tmp_path}/artifacts", f"paths.data={place}/data")
    done = shell("-m", "sweeper", *ARGUMENTS, "seeds=[1]", "backend=local", "backend.workers=1", *folders)
    assert done.returncode == 0, done.stderr
    here, there = Store(tmp_path / "store"), Store(executed)

    def comparable(row):
        return {name: value for name, value in vars(row).items() if name not in TIMING_COLUMNS}

    assert here.statuses().keys() < there.statuses().keys()
    for job_id in here.statuses():
        assert [comparable(row) for row in here.read_rows(job_id)] == [comparable(row) for row in there.read_rows(job_id)]


@pytest.fixture
def copied(executed, tmp_path):
    shutil.copytree(executed, tmp_path / "copy")
    return tmp_path / "copy"


def tuned(store):
    return next(path for path in sorted((store / "rows").glob("*.ok.parquet")) if len(Store(store).read_rows(path.name[:16])) == 2)


def test_damaged_and_foreign_files_are_refused_and_the_rest_is_taken(copied, tmp_path, capsys):
    damaged = tuned(copied)
    damaged.write_bytes(damaged.read_bytes()[:-20])
    model = next((copied / "artifacts").glob("*/model.safetensors"))
    model.write_bytes(model.read_bytes()[:-8])
    others = [path for path in sorted((copied / "rows").glob("*.ok.parquet")) if path != damaged]
    shutil.copyfile(others[0], others[1])  # another job's rows under this job's name
    assert main(["import", *words(copied, tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "3 files refused" in out
    assert err.count(".ok.parquet cannot be read: ") == 2
    assert "model.safetensors or its meta.json is damaged" in err
    store = Store(tmp_path / "store")
    assert not store.is_done(damaged.name[:16])
    assert not (tmp_path / "artifacts" / model.parent.name / "model.safetensors").exists()
    assert len(store.statuses()) == len(others) - 1


def test_complete_rows_are_never_replaced(executed, copied, tmp_path):
    main(["import", *words(executed, tmp_path)])
    path = tuned(copied)
    failed = path.with_name(path.name.replace(".ok.", ".failed."))
    path.rename(failed)
    held = (tmp_path / "store" / "rows" / path.name).read_bytes()
    assert main(["import", *words(copied, tmp_path)]) == 0
    assert (tmp_path / "store" / "rows" / path.name).read_bytes() == held
    assert not (tmp_path / "store" / "rows" / failed.name).exists()


def test_complete_rows_replace_failed_ones(executed, tmp_path):
    main(["import", *words(executed, tmp_path)])
    rows = tmp_path / "store" / "rows"
    path = tuned(executed)
    (rows / path.name).rename(rows / path.name.replace(".ok.", ".failed."))
    assert main(["import", *words(executed, tmp_path)]) == 0
    assert {each.name for each in rows.glob("[!.]*.parquet")} == {each.name for each in (executed / "rows").glob("[!.]*.parquet")}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "needs the --store folder"),
        (["nowhere"], "'nowhere' is not a folder"),
        (["."], "contains no bundles/*.jsonl"),
        ([".", "paths.result=x"], "unknown key 'paths.result' in sap-sweep import (did you mean 'paths.results'"),
    ],
)
def test_mistakes_are_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["import", *arguments]) == 2
    assert sentence in capsys.readouterr().err


def test_a_store_of_another_experiment_is_unchanged(executed, tmp_path, capsys):
    main(["import", *words(executed, tmp_path)])
    jobs = tmp_path / "store" / "jobs.jsonl"
    write_jobs(jobs, [replace(job, labels=job.labels | {"experiment": "mine"}) for job in read_jobs(jobs, ())])
    assert main(["import", *words(executed, tmp_path)]) == 2
    assert "contains the experiment mine, but the bundle belongs to bundled" in capsys.readouterr().err


def test_it_stops_before_its_time_and_goes_on(place, tmp_path, capsys, monkeypatch):
    """A time that is over after one epoch: every start goes an epoch further, and nothing is lost."""
    monkeypatch.setattr("sweeper.scheduling.deadline.Deadline.__call__", lambda self: True)
    command = [
        str(place / "bundle.jsonl"),
        "--data",
        str(place / "data"),
        "--store",
        str(tmp_path / "store"),
        "--shard",
        "1/2",
        "--no-steal",
    ]
    assert execute_main([*command, "--seconds", "1000"]) == 0
    assert "stopped with 3 jobs remaining; the same command resumes" in capsys.readouterr().out
    logs = tmp_path / "store" / "logs"
    assert execute_main([*command, "--seconds", "1000"]) == 0
    (log,) = logs.glob("*.log")
    assert "resumes at epoch 2" in log.read_text()
    assert not list((tmp_path / "store").glob("rows/*.parquet"))
    monkeypatch.undo()
    assert execute_main(command) == 0
    assert len(list((tmp_path / "store").glob("rows/*.ok.parquet"))) == 3


def test_errors_are_reported_on_the_machine_that_runs_the_bundle(place, tmp_path, capsys):
    command = [
        str(place / "bundle.jsonl"),
        "--data",
        str(tmp_path / "nowhere"),
        "--store",
        str(tmp_path / "store"),
        "--shard",
        "1/2",
        "--no-steal",
    ]
    assert execute_main(command) == 1
    out, err = capsys.readouterr()
    assert f"--data {tmp_path}/nowhere is not a folder" in err
    (line,) = out.splitlines()
    assert line.startswith("[3/3] ")
    assert "vanilla seed 1: failed, 1 row, " in line
    assert "nowhere/toy.safetensors" in line
    assert "paths.data; ETA 0:00" in line


@pytest.mark.parametrize("word", ["export=", "export=' '"])
def test_an_export_without_a_file_runs_nothing(word, tmp_path, shell):
    done = shell("-m", "sweeper", "experiment=demo", word, f"paths.results={tmp_path}/store")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no path (an unset variable of the shell is empty); write one, or leave export out" in done.stderr
    assert not (tmp_path / "store").exists()


def test_a_device_that_is_not_there_is_one_sentence(place, tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [str(place / "bundle.jsonl"), "--data", str(place / "data"), "--store", str(tmp_path / "store")]
    assert execute_main([*command, "--device", "cuda"]) == 2
    assert "finds 0 CUDA devices" in capsys.readouterr().err
    assert execute_main([*command, "--device", "gpu"]) == 2

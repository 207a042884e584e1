"""Any damage to any file of a store: no traceback, exit codes 0 to 2, and no other value is reported without a warning that names the file.

Commands run in this process. `make test-all` draws many more examples.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from damage import KINDS, damaged, small_store, without_checksums
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis.__main__ import main as sap_report
from sap_core.checksum import Checksum, checksum
from sap_core.files import load_json, save_json
from slurm.__main__ import main as sap_slurm
from sweeper.__main__ import main as sap_sweep
from sweeper.jobs.job import write_jobs
from sweeper.jobs.run_job import execute
from sweeper.jobs.stored_artifacts import damage, is_complete
from sweeper.store.plan_index import exchanged_files, read_plan_index
from sweeper.store.store import Store

KINDS_OF_FILES = (
    "store/rows/*.parquet", "store/series/*.parquet", "store/plan.parquet", "store/plan.json", "store/jobs.jsonl", "store/config.yaml",
    "store/classes.json", "artifacts/*/meta.json", "artifacts/*/model.safetensors",
)  # fmt: skip

EXAMPLES = settings().max_examples // 3
"""An example runs six commands."""


@pytest.fixture(scope="module")
def stores(tmp_path_factory, plan_of):
    """The folders of a small sweep: `new`, and `old` as an earlier version wrote them."""
    root = tmp_path_factory.mktemp("stores")
    planned = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap]", "seeds=[1]")
    folders = small_store(planned, root / "new")
    shutil.copytree(root / "new", root / "old")
    without_checksums(root / "old")
    assert sap_report([str(folders.store), "export", str(root / "intact.csv")]) == 0
    return SimpleNamespace(root=root, folders=folders, jobs=planned.plan.jobs, intact=exported(root / "intact.csv"))


def copy_of(stores, which):
    copy = stores.root / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(stores.root / which, copy)


def commands(root):
    store = str(root / "store")
    return (
        lambda: sap_report([store, "export", str(root / "rows.csv")]),
        lambda: sap_report([store, "status"]),
        lambda: sap_sweep(["verify", store, f"paths.artifacts={root / 'artifacts'}"]),
        lambda: sap_slurm(["status", store]),
        lambda: sap_sweep(["compact", store]),
        lambda: sap_report([store, "export", str(root / "again.csv")]),
    )


VALUES = ("status", "method", "settings", "seed", "val_noisy_acc", "test_acc", "tuning_seconds")


def exported(path):
    with path.open() as file:
        return {line["run_id"]: [line[name] for name in VALUES] for line in csv.DictReader(file)}


def damage_one(root, pattern, kind, seed):
    generator = random.Random(seed)
    path = generator.choice(sorted(root.glob(pattern)))
    before = path.read_bytes()
    after = damaged(before, kind, generator)
    path.write_bytes(after)
    return path, before != after


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS_OF_FILES), st.sampled_from(KINDS), st.integers(0, 1 << 32))
def test_no_value_changes_without_a_warning_that_names_the_file(stores, capsys, pattern, kind, seed):
    root = copy_of(stores, "new")
    path, changed = damage_one(root, pattern, kind, seed)
    capsys.readouterr()
    for number, command in enumerate(commands(root)):
        code = command()
        said = capsys.readouterr()
        assert code in (0, 1, 2), (number, code)
        assert "Traceback" not in said.err
        if number == 2:
            assert (code == 1) == changed, said
            assert not changed or path.name in said.out
        if number in (0, 5) and code != 2:
            found = exported(root / ("rows.csv" if number == 0 else "again.csv"))
            assert all(found[run_id] == stores.intact[run_id] for run_id in found)
            assert len(found) == len(stores.intact) or (code == 1 and path.name in said.err), said.err


@settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(KINDS_OF_FILES), st.sampled_from(KINDS), st.integers(0, 1 << 32))
def test_files_without_checksums_lead_to_no_traceback(stores, capsys, pattern, kind, seed):
    root = copy_of(stores, "old")
    damage_one(root, pattern, kind, seed)
    for command in commands(root):
        assert command() in (0, 1, 2)
    capsys.readouterr()


def test_a_store_without_checksums_is_read_and_not_called_intact(stores, capsys):
    root = copy_of(stores, "old")
    assert sap_report([str(root / "store"), "status"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert sap_sweep(["verify", str(root / "store"), f"paths.artifacts={root / 'artifacts'}"]) == 0
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()[2:]}
    assert lines["rows"] == ["2", "0", "0", "2"]
    assert lines["checkpoints"] == ["1", "0", "0", "1"]
    assert is_complete(root / "artifacts", stores.jobs[0].job_id)


def test_verify_names_what_is_damaged_and_what_runs_again(stores, capsys):
    root = copy_of(stores, "new")
    train, tune = stores.jobs
    words = ["verify", str(root / "store"), f"paths.artifacts={root / 'artifacts'}"]
    assert sap_sweep(words) == 0
    assert "nothing is damaged" in capsys.readouterr().out
    for path in (root / "store" / "rows" / f"{tune.job_id}.ok.parquet", root / "artifacts" / train.job_id / "model.safetensors"):
        path.write_bytes(damaged(path.read_bytes(), "flip", random.Random(1)))
    assert sap_sweep(["rerun", str(root / "store"), tune.runs[0].run_id]) == 2
    assert f"{tune.job_id}.ok.parquet, which contains run" in capsys.readouterr().err
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert sap_sweep(words) == 1
    out = capsys.readouterr().out
    assert f"{tune.job_id} tune sap@alpha16 seed 1" in out
    assert f"{train.job_id} train vanilla seed 1, because its checkpoint is damaged and remaining jobs read it" in out
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before, "it writes nothing"


@pytest.mark.parametrize("words", [[], ["nowhere"]])
def test_verify_needs_a_store(words, capsys):
    assert sap_sweep(["verify", *words]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_exchanged_files_are_noticed(stores, capsys):
    root = copy_of(stores, "new")
    train, tune = stores.jobs
    rows = root / "store" / "rows"
    shutil.copy(rows / f"{train.job_id}.ok.parquet", rows / f"{tune.job_id}.ok.parquet")
    assert checksum(rows / f"{tune.job_id}.ok.parquet") is Checksum.DAMAGED
    shutil.copytree(root / "artifacts" / train.job_id, root / "artifacts" / "0123456789abcdef")
    assert "belongs to" in damage(root / "artifacts", "0123456789abcdef")
    capsys.readouterr()


def test_files_of_another_plan_or_an_earlier_start_are_noticed(stores, capsys):
    root = copy_of(stores, "new")
    store, words = root / "store", ["verify", str(root / "store"), f"paths.artifacts={root / 'artifacts'}"]
    assert exchanged_files(store, read_plan_index(store)) == []
    before = (store / "jobs.jsonl").read_bytes()
    # Intact files, whose jobs have the same ids.
    write_jobs(store / "jobs.jsonl", [replace(job, threads=job.threads + 1) for job in stores.jobs])
    (store / "plan.parquet").unlink()
    assert exchanged_files(store, read_plan_index(store)) == [store / "jobs.jsonl", store / "plan.parquet"]
    assert sap_sweep(words) == 1
    out = capsys.readouterr().out
    assert f"{store / 'jobs.jsonl'} is not the file that was written with {store / 'plan.json'}" in out
    assert f"{store / 'plan.parquet'} is missing" in out
    (store / "jobs.jsonl").write_bytes(before)
    assert exchanged_files(store, read_plan_index(store)) == [store / "plan.parquet"]


def test_what_is_no_file_is_reported_and_not_waited_for(stores, capsys):
    root = copy_of(stores, "new")
    for path in (*root.glob("store/rows/*"), *root.glob("store/series/*"), root / "store" / "config.yaml"):
        path.unlink()
        os.mkfifo(path)
    for command in commands(root):
        assert command() in (1, 2, 0)
    assert "it is no regular file" in capsys.readouterr().err


def flip_exponent(path):
    """Multiplies one weight by a power of two, in a file that has the checksum of the former weights."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 0x40  # the exponent of the last float32
    path.write_bytes(content)


def test_a_baseline_with_other_weights_is_trained_again_and_its_descendants_use_the_new_one(stores):
    root = copy_of(stores, "new")
    folders = type(stores.folders)(root / "data", root / "store", root / "artifacts")
    train, tune = stores.jobs
    model = folders.artifacts / train.job_id / "model.safetensors"
    weights, row = model.read_bytes(), Store(folders.store).read_rows(tune.job_id)
    flip_exponent(model)
    (folders.store / "rows" / f"{tune.job_id}.ok.parquet").unlink()
    refused = execute(tune, folders)
    assert (refused.status, refused.error_type) == ("failed", "parent")
    assert "differs from its checksum" in refused.error
    assert Store(folders.store).attempts(tune.job_id) == 0, "not an attempt of its own"
    again = execute(train, folders)
    assert (again.status, again.note) == ("ok", None)
    assert model.read_bytes() == weights
    assert execute(tune, folders).status == "ok"
    assert [one.test_acc for one in Store(folders.store).read_rows(tune.job_id)] == [one.test_acc for one in row]


def test_another_network_than_before_is_reported(stores):
    root = copy_of(stores, "new")
    folders = type(stores.folders)(root / "data", root / "store", root / "artifacts")
    train = stores.jobs[0]
    marker = folders.artifacts / train.job_id / "meta.json"
    # As if the stored network had been trained by other code.
    save_json(marker, {**load_json(marker), "files": {"model.safetensors": "0" * 32}})
    again = execute(train, folders)
    assert again.status == "ok"
    assert f"{train.job_id} was computed again and is not what it was (its bits differ" in again.note
    assert "paths.results=DIR" in again.note
    assert execute(train, folders).note is None


def test_an_exponent_is_noticed_whichever_weight_it_is(stores):
    root = copy_of(stores, "new")
    path: Path = next(root.glob("artifacts/*/model.safetensors"))
    intact = path.read_bytes()
    for offset in range(0, 400, 4):
        path.write_bytes(intact[: -1 - offset] + bytes([intact[-1 - offset] ^ 0x40]) + intact[len(intact) - offset :])
        assert checksum(path) is Checksum.DAMAGED

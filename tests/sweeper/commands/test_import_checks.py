"""`sap-sweep import` of a folder that comes from elsewhere: what contradicts its plan, or reaches outside, is refused in one sentence."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace

import pytest
import torch

from sap_core.checkpoint import save_state
from sap_core.checksum import ZEROS, seal
from sap_core.files import CHECKSUM_KEY, save_json
from sap_core.records import Point, Row
from sweeper.__main__ import main
from sweeper.execute import main as execute_main
from sweeper.jobs.forms import record_problem
from sweeper.plan.bundle import Bundle, write_bundle
from sweeper.store.provenance import HOME
from sweeper.store.store import Store, write_records


@pytest.fixture(scope="module")
def bundle(plan_of):
    plan = plan_of("experiment=demo", "seeds=[1]", "methods=[sap]").plan
    return Bundle("demo", "results/demo", "longest", "", "name: demo\n", "", plan.jobs, plan.rows)


@pytest.fixture
def folder(bundle, tmp_path):
    """A folder as `python -m sweeper.execute` leaves it, with made-up rows of all jobs."""
    place = tmp_path / "back"
    write_bundle(place / "bundles" / "one.jsonl", bundle)
    for job in bundle.jobs:
        Store(place).write_rows([job.row(run, val_noisy_acc=0.5, test_acc=0.5) for run in job.runs])
    return place


def run_import(folder, *words):
    here = folder.parent
    return main(["import", str(folder), f"paths.results={here}/store", f"paths.artifacts={here}/artifacts", *words])


def edit(path, change):
    """Change the lines of a bundle, as plain data. Its checksum is right again, which anybody can compute: it is no signature."""
    values = [json.loads(line) for line in path.read_text().splitlines()]
    change(values)
    values[0][CHECKSUM_KEY] = ZEROS
    path.write_text("".join(json.dumps(value, sort_keys=True) + "\n" for value in values))
    seal(path, path)


def test_what_belongs_together_is_taken(folder, capsys):
    assert run_import(folder) == 0
    assert "0 not run yet" in capsys.readouterr().out


def set_target(values):
    values[1]["spec"]["dataset"] = {"target": "os.system", "settings": {"command": "touch owned"}}


def set_id(values):
    values[1]["job_id"] = values[1]["runs"][0]["run_id"] = "../../../escape"


def set_results(values):
    values[0]["results"] = "../../elsewhere"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (set_target, "line 2, names 'os.system', which is in none of the packages"),
        (set_id, "job_id='../../../escape' is not an id of 16 hexadecimal digits"),
        (lambda values: values[0].update(name="../x"), "name='../x'"),
        (lambda values: values[0].update(order="$(id)"), "order='$(id)'"),
        (lambda values: values[0].update(config=3), "config is no text"),
        (lambda values: values[0].update(more=3), "unexpected keyword argument 'more'"),
        (lambda values: values[-1]["planned"].update(space="other"), "has space='other' where its job has"),
        (lambda values: values[-1]["planned"].update(run_id="0" * 16), "its planned rows are not those of its jobs"),
        (lambda values: values[-1]["planned"].update(seed="1"), "seed='1' is not a whole number"),
        (lambda values: values[1]["labels"].update(experiment="other"), "it has jobs of the experiment 'other'"),
        (lambda values: values.insert(2, values[1]) or values[0].update(num_jobs=values[0]["num_jobs"] + 1), "a job occurs twice"),
    ],
)
def test_a_bundle_that_contradicts_itself_imports_and_runs_nothing(folder, capsys, change, sentence):
    edit(folder / "bundles" / "one.jsonl", change)
    assert run_import(folder) == 2
    assert sentence in capsys.readouterr().err
    words = ["--data", str(folder), "--store", str(folder.parent / "run")]
    assert execute_main([str(folder / "bundles" / "one.jsonl"), *words]) == 2
    assert sentence in capsys.readouterr().err
    assert {path.name for path in folder.parent.iterdir()} == {"back"}


def test_the_bundle_chooses_no_folder_outside_of_the_checkout(folder, capsys):
    for results in ("../../elsewhere", "/tmp/elsewhere", ".", f"{HOME}/../x"):
        edit(folder / "bundles" / "one.jsonl", lambda values, results=results: values[0].update(results=results))
        assert main(["import", str(folder)]) == 2
        assert "choose the store with paths.results=DIR" in capsys.readouterr().err
    assert run_import(folder) == 0


def rewrite(folder, job, change):
    """Write the rows of a job again, with changes of the first one."""
    path = folder / "rows" / f"{job.job_id}.ok.parquet"
    rows = Store(folder).read_rows(job.job_id)
    write_records(path, [replace(rows[0], **change), *rows[1:]], Row)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test_acc": 1.7}, "test_acc=1.7 is not between 0 and 1"),
        ({"space": "grid_b"}, "has space='grid_b' where the plan has"),
        ({"baseline_id": "0" * 16}, "has baseline_id="),
        ({"schema_version": 1}, "cannot be read: it has schema_version 1 and this program reads 2"),
        ({"run_id": "f" * 16}, "does not contain exactly the rows of its job"),
        ({"device": "\x1b[2J"}, "control characters"),
        ({"status": "failed"}, "contradicts error_type=None"),
        ({"flops": float("-inf")}, "is below 0"),
    ],
)
def test_rows_that_the_plan_does_not_have_are_refused_and_the_rest_is_taken(folder, bundle, capsys, change, sentence):
    job = bundle.jobs[-1]
    rewrite(folder, job, change)
    assert run_import(folder) == 1
    out, err = capsys.readouterr()
    assert sentence in err
    assert err.count("refused:") == 1
    assert "1 files refused" in out
    assert not Store(folder.parent / "store").is_done(job.job_id)


def test_doubled_and_unplanned_rows_are_named(folder, bundle, capsys):
    job, rows = bundle.jobs[-1], folder / "rows"
    stored = Store(folder).read_rows(job.job_id)
    write_records(rows / f"{job.job_id}.ok.parquet", [*stored, stored[0]], Row)
    (rows / "../rows/0000000000000000.ok.parquet").write_bytes(b"x")
    write_records(folder / "series" / f"{bundle.jobs[0].job_id}.parquet", [Point(bundle.jobs[0].job_id, "0" * 16, "loss", 1, 0.5)], Point)
    assert run_import(folder) == 1
    err = capsys.readouterr().err
    assert "does not contain exactly the rows of its job" in err
    assert "contains '0000000000000000.ok.parquet', of jobs that no bundle" in err
    assert "which is not of its job" in err


def test_links_and_pipes_are_not_followed(folder, bundle, tmp_path, capsys):
    rows, first, last = folder / "rows", bundle.jobs[0], bundle.jobs[-1]
    outside = tmp_path / "secret.parquet"
    (rows / f"{last.job_id}.ok.parquet").rename(outside)
    (rows / f"{last.job_id}.ok.parquet").symlink_to(outside)
    model = folder / "artifacts" / first.job_id
    model.mkdir(parents=True)
    os.mkfifo(model / "model.safetensors")
    save_json(model / "meta.json", {"columns": {}, "curve": []})
    assert run_import(folder) == 1
    err = capsys.readouterr().err
    assert err.count("is a link to another folder, or no regular file") == 2


@pytest.mark.parametrize("columns", [{"test_acc": 3.0}, {"method": "other"}, {"colour": 1}, {"num_train": "many"}])
def test_an_artifact_adds_only_columns_of_a_row(folder, bundle, columns, capsys):
    job = next(job for job in bundle.jobs if job.job_type == "train")
    place = folder / "artifacts" / job.job_id
    save_state(place / "model.safetensors", {"weight": torch.zeros(2)})
    save_json(place / "meta.json", {"columns": columns, "curve": []})
    assert run_import(folder) == 1
    assert "or its meta.json is damaged" in capsys.readouterr().err


def test_rows_of_this_program_pass(bundle):
    assert all(record_problem(asdict(row), type(row)) == "" for row in bundle.rows)

"""`sap-sweep rerun`: rows are reproduced, and edited or missing rows are detected."""

from dataclasses import replace

import pytest

from sap_core.errors import UserError
from sweeper.__main__ import main
from sweeper.commands.rerun import differences, find
from sweeper.jobs.job import SweepPaths, write_jobs
from sweeper.jobs.run_job import execute
from sweeper.store.store import Store


@pytest.fixture(scope="module")
def place(tmp_path_factory, plan_of):
    """A store of one baseline and a search on it, with its jobs and artifacts."""
    home = tmp_path_factory.mktemp("rerun")
    folders = SweepPaths(home, home / "store", home / "artifacts")
    plan = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap]", "seeds=[1]").plan
    for job in plan.jobs:
        assert execute(job, folders).status == "ok"
    write_jobs(folders.store / "jobs.jsonl", plan.jobs)
    return folders, {job.labels["method"]: job for job in plan.jobs}


def said(capsys, *words):
    code = main(["rerun", *map(str, words)])
    return code, capsys.readouterr()


def test_every_type_of_row_is_reproduced(place, capsys):
    folders, jobs = place
    run_id = jobs["sap"].runs[3].run_id
    code, printed = said(capsys, folders.store, run_id)
    assert code == 0
    assert printed.out.startswith(f"run {run_id}, sap (alpha16), seed 1: equal\n  val_noisy_acc 0.")
    assert "the other 15 rows of its job: equal" in printed.out
    code, printed = said(capsys, folders.store, jobs["vanilla"].job_id[:6])
    assert code == 0
    assert "the network's weights: equal" in printed.out
    assert (folders.store / "jobs.jsonl").exists()
    assert Store(folders.store).read_rows(jobs["sap"].job_id)[3].attempt == 1


def test_a_missing_network_is_retrained(place, capsys, tmp_path):
    folders, jobs = place
    code, printed = said(capsys, folders.store, jobs["sap"].runs[0].run_id, f"paths.artifacts={tmp_path}")
    assert code == 0
    assert f"the artifact of job {jobs['vanilla'].job_id} is missing from {tmp_path} and is recomputed first" in printed.err
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_edited_rows_are_detected(place, capsys, tmp_path):
    folders, jobs = place
    rows = Store(folders.store).read_rows(jobs["sap"].job_id)
    store = Store(tmp_path / "store")
    store.write_rows([replace(rows[0], test_acc=0.125, correct_seconds=99.0), *rows[1:7], replace(rows[7], settings="{}"), *rows[8:]])
    write_jobs(store.root / "jobs.jsonl", [jobs["vanilla"], jobs["sap"]])
    code, printed = said(capsys, store.root, rows[0].run_id, f"paths.artifacts={folders.artifacts}")
    assert code == 1
    lines = printed.out.splitlines()
    assert lines[0].endswith("DIFFERENT")
    assert lines[1:3] == [f"  test_acc: stored 0.125, now {rows[0].test_acc}", "  the other 15 rows of its job: 1 DIFFERENT"]


def test_columns_that_count_as_different(place):
    folders, jobs = place
    rows = Store(folders.store).read_rows(jobs["sap"].job_id)[:2]
    stored = {row.run_id: row for row in rows}
    circumstances = {"commit": "x", "attempt": 2, "cores": 7, "tuning_seconds": 1e9, "started_at": "", "peak_memory_bytes": 1}
    assert differences(stored, [replace(row, **circumstances) for row in rows]) == []
    (one,) = differences(stored, [replace(rows[0], flops=1.0), rows[1]])
    assert (one.run_id, one.column, one.now) == (rows[0].run_id, "flops", 1.0)
    assert [(one.run_id, one.now) for one in differences(stored, rows[:1])] == [(rows[1].run_id, "no row")]
    lost = {rows[0].run_id: replace(rows[0], test_acc=float("nan"))}
    assert differences(lost, [replace(rows[0], test_acc=float("nan"))]) == []


def test_finding_a_run(make_job, tmp_path):
    jobs = {name: make_job(name, runs=2) for name in ("abcdef", "abcxyz")}
    assert find(jobs, "abcdef-1", tmp_path)[1] == "abcdef-1"
    with pytest.raises(UserError, match=r"4 runs of .* begin with 'abc'; give more characters of the id"):
        find(jobs, "abc", tmp_path)
    with pytest.raises(UserError, match="has no run 'zz'"):
        find(jobs, "zz", tmp_path)
    jobs = {"abcdef": make_job("abcdef", runs=1)}
    assert find(jobs, "abcd", tmp_path)[1] == "abcdef-0"
    with pytest.raises(UserError, match="at least 4"):
        find(jobs, "abc", tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: STORE, RUN_ID"),
        (["STORE"], "the following arguments are required: RUN_ID"),
        (["nowhere", "x"], "'nowhere' is not a store: it has no plan.parquet"),
        (["STORE", "x", "path.data=d"], "unknown key 'path.data' in sap-sweep rerun (did you mean 'paths.data'?)"),
        (["STORE", "x", "--device"], "unknown option '--device' in sap-sweep rerun"),
        (["STORE", "x"], "has no run 'x'"),
    ],
)
def test_mistakes(tmp_path, capsys, words, message):
    (tmp_path / "jobs.jsonl").touch()
    code, printed = said(capsys, *(str(tmp_path) if word == "STORE" else word for word in words))
    assert code == 2
    assert printed.err.startswith("error: ")
    assert message in printed.err
    assert printed.err.count("\n") == 1

"""Failing jobs: each becomes failed rows, and the sweep continues."""

from __future__ import annotations

import re

import pytest

KINDS = {"raises": "error", "nan": "diverged", "memory": "oom", "exits": "killed", "hangs": "killed", "well": None}
WORDS = ("experiment=going_wrong", "backend.workers=2", "backend.timeout_seconds=10")
# A job's time includes its imports, and on a busy machine a worker of Ray takes more than 10 s for them.
RAY_WORDS = ("experiment=going_wrong", "backend.workers=2", "backend.timeout_seconds=40", "backend=ray")


def by_setting(store, space="all"):
    rows = [row for row in store.rows() if row["space"] == space]
    return {name: row for row in rows for name in KINDS if f'"how": "{name}"' in row["settings"]}


def check_first_start(store, end, failed=4, limit=10):
    assert end.code == 1
    assert f"{failed} jobs failed" in end.err
    store.assert_whole()
    rows = by_setting(store)
    assert {name: row["error_type"] for name, row in rows.items()} == KINDS
    assert all((rows[name]["status"] == "failed") == bool(kind) for name, kind in KINDS.items())
    assert rows["well"]["val_noisy_acc"] is not None
    assert "ArithmeticError: asked to raise (correctors.py:" in rows["raises"]["error"]
    assert "Traceback" in (store.root / "logs" / f"{rows['raises']['job_id']}.log").read_text()
    assert "Tried to allocate" in rows["memory"]["error"]
    assert f"exceeded its time limit of {limit} s" in rows["hangs"]["error"]
    # the local backend sees a process that ended, Ray an actor that died
    assert re.search("worker process (ended|died)", rows["exits"]["error"])
    assert all(row["attempt"] == 1 for row in rows.values())


@pytest.mark.slow
def test_every_failure_is_a_row_and_is_tried_three_times(bench):
    store = bench.store("wrong")
    check_first_start(store, bench.run("wrong", *WORDS, "methods=[goes_wrong@all,goes_wrong@raising]"), failed=5)
    assert {name: row["attempt"] for name, row in by_setting(store, "raising").items()} == {"raises": 1, "well": 1}
    raising = (*WORDS, "methods=[goes_wrong@raising]")
    for attempt in (2, 3):
        stamps = store.stamps()
        assert bench.run("wrong", *raising).code == 1
        rows = by_setting(store, "raising")
        assert {name: row["attempt"] for name, row in rows.items()} == {"raises": attempt, "well": 1}
        assert {name.split(".")[0] for name, stamp in store.stamps().items() if stamps[name] != stamp} == {rows["raises"]["job_id"]}
    before = store.everything()
    fourth = bench.run("wrong", *raising)
    assert fourth.code == 1
    assert "1 job failed 3 times and is not retried" in fourth.err
    assert store.everything() == before
    fifth = bench.run("wrong", *raising, "retry=failed")
    assert (fifth.code, "retry=failed: 1 failed job gets new attempts" in fifth.err) == (1, True)
    assert {name: row["attempt"] for name, row in by_setting(store, "raising").items()} == {"raises": 1, "well": 1}


@pytest.mark.slow
def test_every_failure_but_divergence_is_retried(bench):
    store = bench.store("again")
    for attempt in (1, 2):
        assert bench.run("again", *WORDS).code == 1
        attempts = {name: row["attempt"] for name, row in by_setting(store).items()}
        assert attempts == {name: 1 if name in ("nan", "well") else attempt for name in KINDS}
        store.assert_whole()


@pytest.mark.slow
def test_every_failure_through_ray(bench):
    store = bench.store("ray")
    check_first_start(store, bench.run("ray", *RAY_WORDS), limit=40)
    store.wait_until_gone()


@pytest.mark.slow
def test_descendants_of_a_failed_baseline_name_it_and_run_once_it_succeeds(bench):
    words = ("experiment=going_wrong", "trainer=mended", "methods=[goes_wrong@fine]", "backend.workers=1")
    store = bench.store("parent")
    end = bench.run("parent", *words)
    assert end.code == 1
    store.assert_whole()
    rows = store.rows()
    (baseline,) = [row for row in rows if row["job_type"] == "train"]
    assert (baseline["error_type"], "not mended yet" in baseline["error"]) == ("error", True)
    below = [row for row in rows if row["job_type"] == "tune"]
    assert len(below) == 6
    assert all(row["error_type"] == "parent" and baseline["job_id"] in row["error"] and "not mended" in row["error"] for row in below)
    assert not any(row["job_id"] in store.begun() for row in below)
    assert bench.run("parent", *words, STANDINS_MENDED="yes").code == 0
    store.assert_whole()
    assert [(row["status"], row["attempt"]) for row in store.rows() if row["job_type"] == "tune"] == [("ok", 1)] * 6
    assert [row["attempt"] for row in store.rows() if row["job_type"] == "train"] == [2]

from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.store.load import load, series
from sap_core.errors import UserError
from sap_core.records import SCHEMA_VERSION


def test_reads_plan_rows_and_missing_rows(small):
    small.rows = [row for row in small.rows if row.run_id != "sap-alpha16-2-0"]
    results = load([small.write()])
    assert len(results.plan) == 14
    assert len(results.rows) == 13
    assert results.missing["run_id"].tolist() == ["sap-alpha16-2-0"]
    assert results.problems == ()
    assert set(results.rows["cell"]) == {"digits/symmetric-0.25/small_cnn/sgd"}


def test_every_planned_row_of_a_new_store_is_missing(small):
    small.rows = []
    results = load([small.write()])
    assert len(results.rows) == 0
    assert len(results.missing) == 14


def test_temporary_files_are_skipped(small):
    store = small.write()
    (store / "rows" / ".job-1.host.1.parquet").write_bytes(b"half")
    assert load([store]).problems == ()


def test_a_damaged_row_file_is_skipped_and_named(small):
    store = small.write()
    path = store / "rows" / "job-base-1.ok.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    results = load([store])
    assert "base-1" in set(results.missing["run_id"])
    assert len(results.problems) == 1
    assert "job-base-1.ok.parquet was skipped" in results.problems[0]


def test_a_foreign_parquet_file_is_skipped_and_named(small):
    store = small.write()
    pq.write_table(pa.table({"run_id": ["x"], "answer": [42]}), store / "rows" / "foreign.ok.parquet")
    results = load([store])
    assert len(results.rows) == 14
    assert "not a table of Row records" in results.problems[0]


def test_an_older_file_without_a_new_nullable_column_is_read(small):
    store = small.write()
    path = store / "rows" / "job-base-1.ok.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["report_seconds", "component_version"]), path)
    results = load([store])
    assert results.problems == ()
    assert results.rows.set_index("run_id").loc["base-1", "component_version"] == 1


def test_duplicates_ok_before_failed_then_the_latest(small):
    store = small.write()
    first = next(row for row in small.rows if row.run_id == "sap-alpha16-1-0")
    failed = replace(first, status="failed", error_type="oom", started_at="2026-01-03T00:00:00", job_id="b")
    later = replace(first, tuning_seconds=7.0, started_at="2026-01-02T00:00:00", job_id="c")
    small.write_rows("b.failed.parquet", [failed])
    small.write_rows("c.ok.parquet", [later])
    results = load([store])
    row = results.rows.set_index("run_id").loc["sap-alpha16-1-0"]
    assert (row["status"], row["tuning_seconds"]) == ("ok", 7.0)
    assert len(results.rows) == 14
    assert results.problems == ()


def test_duplicates_that_disagree_are_missing_and_named(small):
    store = small.write()
    first = next(row for row in small.rows if row.run_id == "sap-alpha16-1-0")
    small.write_rows("c.ok.parquet", [replace(first, test_acc=0.5, started_at="2026-01-02T00:00:00", job_id="c")])
    results = load([store])
    assert results.missing["run_id"].tolist() == ["sap-alpha16-1-0"]
    assert len(results.rows) == 13
    assert results.problems == (
        "Run sap-alpha16-1-0 (sap, alpha16, seed 1) is stored with different scores, test_acc 0.5 (2026-01-02T00:00:00) and 0.78 "
        "(2026-01-01T00:00:00); both are left out and the row counts as missing: delete the wrong file.",
    )
    assert tuple(results.damage) == results.problems


def test_after_five_contradictory_runs_only_their_number_is_given(small, tmp_path):
    store = small.write()
    small.path = tmp_path / "other"
    small.rows = [replace(row, val_noisy_acc=0.1) for row in small.rows]
    results = load([store, small.write()])
    assert len(results.rows) == 2  # SCRUB's two diverged settings
    assert len(results.problems) == 6
    assert results.problems[-1] == "7 more runs are stored with different scores and are left out."


def test_rows_of_a_failed_attempt_are_superseded(small):
    store = small.write()
    first = next(row for row in small.rows if row.run_id == "sap-alpha16-1-0")
    small.write_rows("job-sap-alpha16-1-0.failed.parquet", [replace(first, test_acc=0.1)])
    results = load([store])
    assert results.problems == ()
    assert results.rows.set_index("run_id").loc["sap-alpha16-1-0", "test_acc"] == 0.78


def test_unplanned_rows_are_kept_apart(small):
    small.add("stray", job_type="tune", method="sap", seed=1, baseline_id="base-1", space="old", planned=False)
    results = load([small.write()])
    assert results.unplanned["run_id"].tolist() == ["stray"]
    assert "stray" not in set(results.rows["run_id"])
    assert "1 rows are in no plan" in results.problems[0]


def test_two_stores_are_read_as_one(small, tmp_path):
    store = small.write()
    small.path = tmp_path / "other"
    assert len(load([store, small.write()]).rows) == 14


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda path: None, "is not a folder"),
        (lambda path: path.mkdir(), "has no plan.parquet"),
        (lambda path: (path.mkdir(), (path / "plan.parquet").write_bytes(b"PAR1 not really")), "cannot be read"),
    ],
)
def test_a_path_that_is_not_a_store_is_refused(tmp_path, prepare, words):
    prepare(tmp_path / "s")
    with pytest.raises(UserError, match=words):
        load([tmp_path / "s"])


def test_rows_of_a_newer_version_are_skipped_and_named(small):
    small.rows[0] = replace(small.rows[0], schema_version=SCHEMA_VERSION + 1)
    for columns in (None, ["test_acc"]):
        results = load([small.write()], columns)
        assert len(results.rows) == 13
        message = f"it has schema_version {SCHEMA_VERSION + 1} and this program reads {SCHEMA_VERSION}; update sap-sweep"
        assert message in results.problems[0]


def test_rows_of_an_older_version_are_skipped_and_named(small):
    small.rows[0] = replace(small.rows[0], schema_version=1)
    results = load([small.write()])
    assert len(results.rows) == 13
    assert "it has schema_version 1" in results.problems[0]


@pytest.mark.parametrize("columns", [None, ["test_acc"]])
def test_a_store_of_an_older_version_is_refused(small, columns):
    store = small.write()
    as_version_1(store)
    with pytest.raises(UserError, match=r"has schema_version 1 and this program reads .* run the sweep again into a new folder"):
        load([store], columns)


def test_a_store_of_a_newer_version_is_refused(small):
    small.plan = [replace(line, schema_version=SCHEMA_VERSION + 1) for line in small.plan]
    with pytest.raises(UserError, match="update sap-sweep to the version that wrote it"):
        load([small.write()])


def as_version_1(store):
    """Removes the column schema_version, which plans of version 1 do not have."""
    path = store / "plan.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["schema_version"]), path)


def test_without_a_readable_plan_all_rows_are_unplanned(small):
    store = small.write()
    (store / "plan.parquet").write_bytes(b"PAR1 not really")
    results = load([store])
    assert (len(results.plan), len(results.rows), len(results.unplanned)) == (0, 0, 14)
    assert "cannot be read" in results.problems[0]
    assert "14 rows are in no plan" in results.problems[1]


def test_reading_some_columns_gives_the_same_values(small):
    small.add("stray", job_type="tune", method="sap", seed=1, baseline_id="base-1", space="old", planned=False)
    store = small.write()
    path = store / "rows" / "job-base-1.ok.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["report_seconds", "component_version"]), path)
    whole, some = load([store]), load([store], ["settings", "test_acc", "report_seconds"])
    for one, other in ((whole.rows, some.rows), (whole.plan, some.plan), (whole.missing, some.missing), (whole.unplanned, some.unplanned)):
        assert len(other.columns) < len(one.columns)
        pd.testing.assert_frame_equal(one[list(other.columns)], other)
    assert "settings" in some.plan.columns
    assert "settings" in some.rows.columns


def test_a_damaged_series_file_is_named(small):
    store = small.write()
    small.curve("base-1", [("loss", 0, 1.0), ("loss", 1, 0.5), ("other", 0, 9.0)])
    (store / "series" / "job-x.parquet").write_bytes(b"half")
    results = load([store])
    assert series(results, "loss")["value"].tolist() == [1.0, 0.5]
    assert "job-x.parquet was skipped" in results.damage[0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"test_acc": 1.2}, "test_acc is 1.2 and must be between 0 and 1"),
        ({"val_noisy_acc": -0.1}, "val_noisy_acc is -0.1 and must be between 0 and 1"),
        ({"trusted_label_precision": 95.0}, "trusted_label_precision is 95 and must be between 0 and 1"),
        ({"test_acc": float("inf")}, "test_acc is inf and must be between 0 and 1"),
        ({"tuning_seconds": -1.0}, "tuning_seconds is -1 and must be a number that is not negative"),
        ({"tuning_seconds": float("nan")}, "tuning_seconds is nan and must be a number that is not negative"),
        ({"correct_seconds": float("inf")}, "correct_seconds is inf and must be a number that is not negative"),
        ({"flops": float("-inf")}, "flops is -inf and must be a number that is not negative"),
        ({"num_test": -400}, "num_test is -400 and must be a number that is not negative"),
        ({"test_r2": 1.5}, "test_r2 is 1.5 and must be at most 1"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_row_with_an_impossible_value_is_damage(small, values, message):
    small.rows = [replace(row, **values) if row.run_id == "sap-alpha16-1-2" else row for row in small.rows]
    results = load([small.write()])
    assert "sap-alpha16-1-2" in set(results.missing["run_id"])
    (problem,) = results.damage
    assert problem.startswith("The row of run sap-alpha16-1-2 (sap, alpha16, seed 1) is damaged: " + message)
    assert "delete the file of job job-sap-alpha16-1-2" in problem


def test_possible_values_pass(small):
    """A missing score, the ends of the range, a poor regression, and whatever a diverged run has stored."""
    changes = {
        "sap-alpha16-1-0": {"test_acc": float("nan")},
        "sap-alpha16-1-1": {"test_acc": 1.0, "val_noisy_acc": 0.0},
        "sap-alpha16-1-2": {"test_r2": -35.0},
        "scrub-grid_a-1-0": {"test_acc": 7.0, "val_noisy_acc": float("nan")},  # failed
    }
    small.rows = [replace(row, **changes.get(row.run_id, {})) for row in small.rows]
    results = load([small.write()])
    assert (results.damage, len(results.missing)) == ([], 0)


def test_a_sound_row_replaces_a_damaged_one_of_the_same_run(small):
    sound = next(row for row in small.rows if row.run_id == "sap-alpha16-1-2")
    small.write()
    small.write_rows("job-later.ok.parquet", [replace(sound, test_acc=8.2, started_at="2027-01-01T00:00:00")])
    results = load([small.path])
    assert results.rows.set_index("run_id").loc["sap-alpha16-1-2", "test_acc"] == sound.test_acc
    assert len(results.damage) == 1


def test_many_damaged_rows_are_counted(small):
    small.rows = [replace(row, test_acc=-1.0) if row.job_type == "tune" and row.status == "ok" else row for row in small.rows]
    damage = load([small.write()]).damage
    assert len(damage) == 6
    assert damage[-1] == "5 more rows have impossible values and are left out."

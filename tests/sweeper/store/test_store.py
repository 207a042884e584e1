"""The store: one Parquet file per job, complete or absent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import MISSING, asdict, fields
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.errors import UserError
from sap_core.records import Planned, Point, Row
from sweeper.store.leases import process_leases
from sweeper.store.store import DRIVER, MAX_ATTEMPTS, Store, schema, to_table, write_records

HOME = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "demo")
    with made.locked():
        yield made


def rows(job, **columns):
    return [job.row(run, **columns) for run in job.runs]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(store, make_job):
    job = make_job("aa", runs=3)
    store.write_rows(rows(job, val_noisy_acc=0.5))
    assert names(store.rows) == ["aa.ok.parquet"]
    assert store.read_rows("aa") == rows(job, val_noisy_acc=0.5)
    assert store.read_rows("bb") == []
    assert store.is_done("aa")
    assert not store.is_done("bb")


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ({"status": "failed", "error_type": "error", "error": "x"}, "aa.failed.parquet"),
        ({"status": "failed", "error_type": "diverged", "error": "x"}, "aa.ok.parquet"),
        ({}, "aa.ok.parquet"),
    ],
)
def test_file_names_contain_the_status(store, make_job, columns, name):
    job = make_job("aa", runs=2)
    store.write_rows([job.row(job.runs[0]), job.row(job.runs[1], **columns)])
    assert names(store.rows) == [name]
    assert store.statuses() == {"aa": name.split(".")[1]}


def test_success_replaces_failure(store, make_job):
    store.write_rows(rows(make_job("aa"), status="failed", error_type="oom"))
    store.write_rows(rows(make_job("aa"), attempt=2))
    assert names(store.rows) == ["aa.ok.parquet"]


def test_a_failing_job_is_tried_a_limited_number_of_times(store, make_job):
    job = make_job("aa")
    for attempt in range(1, MAX_ATTEMPTS + 1):
        assert store.attempts("aa") == attempt - 1
        assert store.finished() == ({}, [])
        store.write_rows(rows(job, status="failed", error_type="error", attempt=attempt))
    assert store.finished() == ({"aa": "failed"}, [])


def test_retry_gives_failed_jobs_all_attempts_and_loses_no_row(store, make_job):
    for name, columns in (
        ("aa", {"status": "failed", "error_type": "oom", "attempt": MAX_ATTEMPTS, "error": "why"}),
        ("bb", {"status": "failed", "error_type": "error", "attempt": 1}),
        ("cc", {"attempt": 2}),
        ("dd", {"status": "failed", "error_type": "error", "attempt": MAX_ATTEMPTS}),
    ):
        store.write_rows(rows(make_job(name), **columns))
    assert store.retry_failed(["aa", "bb", "cc", "ee"]) == 2
    assert store.finished() == ({"cc": "ok", "dd": "failed"}, [])
    (row,) = store.read_rows("aa")
    assert (store.attempts("aa"), row.status, row.error) == (0, "failed", "why")
    assert store.read_rows("cc")[0].attempt == 2
    assert store.retry_failed(["aa", "bb"]) == 0


def test_failures_of_parents_and_divergence_do_not_count(store, make_job):
    store.write_rows(rows(make_job("aa"), status="failed", error_type="parent", attempt=MAX_ATTEMPTS))
    store.write_rows(rows(make_job("bb"), status="failed", error_type="diverged"))
    assert store.finished() == ({"bb": "ok"}, [])


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[: len(raw) // 2], lambda raw: b"", lambda raw: b"XXXX" + raw[4:]])
def test_damaged_files_are_set_aside_and_their_jobs_rerun(store, make_job, damage):
    store.write_rows(rows(make_job("aa")))
    store.write_rows(rows(make_job("bb")))
    path = store.rows / "aa.ok.parquet"
    path.write_bytes(damage(path.read_bytes()))
    done, problems = store.finished()
    assert done == {"bb": "ok"}
    assert problems == [f"{path} is damaged; it was set aside, and its job is rerun"]
    assert names(store.rows) == [".aa.ok.parquet.damaged", "bb.ok.parquet"]
    assert store.finished() == ({"bb": "ok"}, [])


def test_a_file_whose_middle_is_damaged_reads_as_nothing(store, make_job):
    store.write_rows(rows(make_job("aa"), status="failed", error_type="error", attempt=MAX_ATTEMPTS))
    path = store.rows / "aa.failed.parquet"
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + bytes(len(raw) - 8) + raw[-4:])
    assert store.read_rows("aa") == []
    assert store.finished() == ({}, []), "the job runs again"


def test_foreign_and_unfinished_files_are_left_alone(store, make_job):
    store.write_rows(rows(make_job("aa")))
    foreign = [".bb.ok.parquet.host.12.tmp", "merged.parquet", "notes.txt", "aa.ok.parquet.bak", "cc.running.parquet", ".ok.parquet"]
    for name in foreign:
        (store.rows / name).write_text("not ours")
    assert store.finished() == ({"aa": "ok"}, [])
    assert names(store.rows) == sorted([*foreign, "aa.ok.parquet"])


def test_an_empty_or_missing_folder_contains_no_rows(tmp_path):
    assert Store(tmp_path / "none").finished() == ({}, [])


@pytest.mark.parametrize("kind", [Row, Point, Planned])
def test_the_schema_is_the_records(kind):
    arrow = schema(kind)
    assert arrow.names == [item.name for item in fields(kind)]
    words = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
    for item, column in zip(fields(kind), arrow, strict=True):
        word, _, none = item.type.partition(" | ")
        assert (column.type, column.nullable) == (words[word], none == "None"), item.name


def test_files_are_zstd_and_typed_even_when_all_values_are_missing(store, make_job):
    store.write_rows(rows(make_job("aa"), test_acc=None))
    file = pq.ParquetFile(store.rows / "aa.ok.parquet")
    assert file.schema_arrow.equals(schema(Row))
    assert {file.metadata.row_group(0).column(place).compression for place in range(file.metadata.num_columns)} == {"ZSTD"}


def test_rows_of_an_older_schema_are_read_with_its_missing_columns_empty(store, make_job):
    store.write_rows(rows(make_job("aa"), val_noisy_acc=0.5))
    path = store.rows / "aa.ok.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["test_r2", "report_seconds"]), path)
    (row,) = store.read_rows("aa")
    assert row.val_noisy_acc == 0.5
    assert row.test_r2 is None


def test_a_column_that_must_not_be_missing_is_refused(store, make_job):
    with pytest.raises(pa.ArrowInvalid, match="run_id"):
        store.write_rows(rows(make_job("aa"), run_id=None))
    assert names(store.rows) == []


def test_series_and_plan(store):
    points = [Point("aa", "aa-0", "loss", step, 0.5) for step in range(3)]
    store.write_series("aa", points)
    store.write_series("bb", [])
    assert names(store.series) == ["aa.parquet"]
    assert pq.read_table(store.series / "aa.parquet").to_pylist() == [vars(point) for point in points]
    write_records(store.plan, [], Planned)
    assert pq.read_table(store.plan).num_rows == 0


HOLD = """
import sys
from pathlib import Path
from sweeper.store.store import Store
with Store(Path(sys.argv[1])).locked():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_with_a_sentence_until_the_first_ends(tmp_path):
    store = Store(tmp_path / "demo")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, store.root], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(UserError) as caught, store.locked():
            pass
        assert f"another sap-sweep is writing to {store.root} (process {first.pid} on " in str(caught.value)
        first.kill()
        first.wait()
    with store.locked():
        assert process_leases().owner(store.leases / DRIVER).startswith(f"process {os.getpid()} on ")
    assert names(store.leases) == []


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/demo cannot be written .*paths\.results="), Store(tmp_path / "file" / "demo").locked():
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_reported(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written"), Store(tmp_path / "demo").locked():
        pass


@given(st.data())
def test_tables_equal_those_of_arrow(data):
    texts = st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=8))
    numbers = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
    floats = st.one_of(st.none(), st.floats(allow_nan=False), st.integers(0, 9))
    lines = data.draw(st.lists(st.tuples(texts, numbers, floats, st.booleans()), max_size=20))
    rows = [
        Row(
            **{item.name: item.default for item in fields(Row) if item.default is not MISSING}
            | dict.fromkeys((item.name for item in fields(Row) if item.default is MISSING), None)
            | dict.fromkeys(("run_id", "job_id", "job_type", "experiment", "status", "dataset", "noise", "network", "trainer"), "a\u00fc")
            | dict.fromkeys(("baseline_id", "method", "settings", "information", "val_labels"), "")
            | {"attempt": 1, "seed": 2, "position": 3, "dataset_verified": flag, "error": text, "num_val": number, "test_acc": value}
        )
        for text, number, value, flag in lines
    ]
    made = to_table(rows, Row)
    made.validate(full=True)
    assert made.equals(pa.Table.from_pylist([asdict(row) for row in rows], schema=schema(Row)))

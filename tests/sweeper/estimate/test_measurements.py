"""Run times of jobs of earlier sweeps, read from their stores."""

from __future__ import annotations

from pathlib import Path

from sap_core.records import Planned
from sweeper.estimate.measurements import read_measurements, stores_in, workloads_by_job
from sweeper.store.store import Store, write_records


def stored(folder, make_job, planned_row, seconds, job_ids=("aa", "bb")):
    """A store with jobs of two rows each."""
    store = Store(folder)
    write_records(store.plan, [planned_row(job_id, number) for job_id in job_ids for number in (0, 1)], Planned)
    for job_id in job_ids:
        job = make_job(job_id, runs=2)
        store.write_rows([job.row(run, tuning_seconds=seconds / 2, report_seconds=0.5, jobs_on_device=1, cores=1) for run in job.runs])
    return store


def test_the_flops_of_a_jobs_rows_are_added(planned_row):
    found = workloads_by_job([planned_row("aa", 0), planned_row("aa", 1), planned_row("bb", 1, seed=2), planned_row("cc", method="ssd")])
    assert found["aa"] == (found["bb"][0], 2e9)
    assert found["cc"][0] != found["aa"][0]


def test_stores_are_read_and_damaged_ones_skipped(tmp_path, make_job, planned_row):
    stored(tmp_path / "old", make_job, planned_row, 3.0)
    (tmp_path / "broken/rows").mkdir(parents=True)
    (tmp_path / "broken/plan.parquet").write_bytes(b"PAR1")
    (tmp_path / "none").mkdir()
    found = list(read_measurements(tmp_path.iterdir()))
    assert [(one.flops, one.seconds, one.on_cpu, one.alone) for one in found] == [(2e9, 4.0, True, True)] * 2


def test_failed_jobs_and_rows_without_seconds_are_not_measured(tmp_path, make_job, planned_row):
    store = stored(tmp_path / "old", make_job, planned_row, 3.0)
    job = make_job("bb", runs=2)
    store.write_rows([job.row(run, status="failed", error_type="oom", error="x", tuning_seconds=1.0) for run in job.runs])
    (store.rows / "bb.ok.parquet").unlink()
    job = make_job("aa", runs=2)
    store.write_rows([job.row(run) for run in job.runs])
    assert list(read_measurements([tmp_path / "old"])) == []


def test_of_a_large_store_a_few_jobs_of_each_workload_are_read(tmp_path, make_job, planned_row):
    stored(tmp_path / "old", make_job, planned_row, 3.0, [f"j{number:02}" for number in range(19)])
    assert len(list(read_measurements([tmp_path / "old"]))) == 12


def test_a_neighbour_that_cannot_be_looked_at_is_left_out(tmp_path, monkeypatch):
    denied = tmp_path / "of_others"
    denied.mkdir()
    stat = Path.stat

    def look(path, **options):
        if denied in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", look)
    assert stores_in(tmp_path) == [denied]
    assert list(read_measurements([denied, tmp_path / "gone"])) == []


def test_a_folder_that_cannot_be_listed_has_no_stores(tmp_path, monkeypatch):
    def denied(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    assert stores_in(tmp_path / "gone") == []
    monkeypatch.setattr("os.scandir", denied)
    assert stores_in(tmp_path) == []

"""Compaction: fewer files with the same rows, at every moment and after a kill at any moment."""

from __future__ import annotations

import math
import multiprocessing
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.store import index as names
from analysis.store.index import jobs_in, merged, statuses
from analysis.store.job_counts import Counts
from analysis.store.load import load, series
from sap_core.errors import UserError
from sap_core.records import Planned, Point
from sweeper.__main__ import main
from sweeper.commands.compact import compact
from sweeper.jobs.job import SweepPaths
from sweeper.monitor.job_counts import sweep_counts
from sweeper.scheduling.work_queue import WorkQueue
from sweeper.store.leases import Leases, process_leases
from sweeper.store.store import Store, write_records


@pytest.fixture
def filled(tmp_path, make_job):
    """filled(n): a store with n jobs of two rows each, their points and logs, and the jobs."""

    def fill(count, store=None, start=0):
        store = store or Store(tmp_path / "demo")
        store.logs.mkdir(parents=True, exist_ok=True)
        jobs = [make_job(f"{number:04x}", runs=2) for number in range(start, start + count)]
        for number, job in enumerate(jobs):
            store.write_rows([job.row(run, val_noisy_acc=number / 1000, started_at="2026-11-29") for run in job.runs])
            store.write_series(job.job_id, [Point(job.job_id, job.runs[0].run_id, "loss", step, math.nan) for step in range(3)])
            (store.logs / f"{job.job_id}.log").write_text(f"begins\n{job.job_id} ends\n")
        return store, jobs

    return fill


def files(folder):
    return sorted(path.name for path in folder.glob("[!.]*"))


def raw(store):
    """run id -> number of rows in all files."""
    return Counter(row["run_id"] for path in store.rows.glob("[!.]*.parquet") for row in pq.read_table(path).to_pylist())


def plan_for(store, jobs):
    write_records(store.plan, [planned(job, run) for job in jobs for run in job.runs], Planned)


def planned(job, run):
    known = {**job.labels, "run_id": run.run_id, "job_id": job.job_id, "job_type": job.job_type, "position": run.position}
    names = Planned.__dataclass_fields__
    rest = {"parents": "", "cell": "c", "settings": "{}", "computation_id": 0, "forecast_flops": None}
    return Planned(**{name: value for name, value in {**known, **rest}.items() if name in names})


def test_few_files_contain_the_rows_of_many(filled):
    store, jobs = filled(25)
    plan_for(store, jobs)
    before = {job.job_id: (store.read_rows(job.job_id), len(store.read_series(job.job_id))) for job in jobs}
    loaded = load([store.root])
    assert compact(store, max_jobs=10) == []
    assert len(files(store.rows)) == len(files(store.series)) == len(files(store.logs)) == 3
    assert {job.job_id: (store.read_rows(job.job_id), len(store.read_series(job.job_id))) for job in jobs} == before
    again = load([store.root])
    assert again.problems == loaded.problems == ()
    assert again.rows.sort_values("run_id").reset_index(drop=True).equals(loaded.rows.sort_values("run_id").reset_index(drop=True))
    assert len(series(again, "loss")) == 3 * len(jobs)
    assert store.finished() == (dict.fromkeys((job.job_id for job in jobs), "ok"), [])
    assert all(store.is_done(job.job_id) for job in jobs)
    assert not store.is_done("ffff")
    assert sorted(len(jobs_in(path)) for path in store.rows.iterdir()) == [5, 10, 10]
    text = "".join((store.logs / name).read_text() for name in files(store.logs))
    assert all(f"=== {job.job_id}\nbegins\n{job.job_id} ends" in text for job in jobs)


def test_a_second_call_merges_new_files_and_keeps_full_ones(filled):
    store, _ = filled(25)
    compact(store, max_jobs=10)
    stamps = {name: (store.rows / name).stat().st_ino for name in files(store.rows)}
    compact(store, max_jobs=10)
    assert {name: (store.rows / name).stat().st_ino for name in files(store.rows)} == stamps, "nothing to do"
    full = {name for name in stamps if len(jobs_in(store.rows / name)) == 10}
    filled(7, store, 25)
    compact(store, max_jobs=10)
    assert full < set(files(store.rows))
    assert all((store.rows / name).stat().st_ino == stamps[name] for name in full)
    assert sorted(len(jobs_in(path)) for path in store.rows.iterdir()) == [2, 10, 10, 10]
    assert set(raw(store).values()) == {1}
    assert len(raw(store)) == 64


def test_failed_jobs_stay_files_of_their_own_and_a_later_success_counts(filled, make_job):
    store, jobs = filled(3)
    bad = make_job("bad")
    store.write_rows([bad.row(bad.runs[0], status="failed", error_type="error", error="x")])
    compact(store)
    assert [name for name in files(store.rows) if not name.startswith("merged-")] == ["bad.failed.parquet"]
    assert store.statuses() == {**dict.fromkeys((job.job_id for job in jobs), "ok"), "bad": "failed"}
    store.write_rows([bad.row(bad.runs[0])])
    compact(store)
    assert len(files(store.rows)) == 1
    assert store.is_done("bad")


def test_a_resumed_sweep_on_a_compacted_store_runs_nothing(filled, tmp_path):
    store, jobs = filled(12)
    compact(store)
    folders = SweepPaths(tmp_path / "data", store.root, tmp_path / "artifacts")
    assert WorkQueue(jobs, "1/1", folders, "cells").all_ended


def test_of_duplicates_the_later_one_is_kept(filled):
    store, jobs = filled(4)
    compact(store, max_jobs=4)
    late = [jobs[1].row(run, val_noisy_acc=0.9, started_at="2026-11-30") for run in jobs[1].runs]
    store.write_rows(late)
    compact(store, max_jobs=4)
    assert set(raw(store).values()) == {1}
    assert store.read_rows(jobs[1].job_id) == late
    assert len(files(store.rows)) == 1


@pytest.mark.parametrize("damage", [lambda raw: raw[:-7], lambda raw: raw[:40] + bytes(60) + raw[100:]])
def test_an_unreadable_file_is_skipped_and_reported(filled, damage):
    store, jobs = filled(3)
    path = store.rows / f"{jobs[0].job_id}.ok.parquet"
    path.write_bytes(damage(path.read_bytes()))
    problems = compact(store)
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert path.exists()
    assert set(merged(store.rows)) == {job.job_id for job in jobs[1:]}


def test_a_log_that_is_a_link_or_a_pipe_is_not_merged(filled, tmp_path):
    store, _ = filled(5)
    logs = sorted(store.logs.glob("*.log"))
    (tmp_path / "private").write_text("not of this store")
    for path in logs[:2]:
        path.unlink()
    logs[0].symlink_to(tmp_path / "private")
    os.mkfifo(logs[1])
    problems = compact(store)
    assert [problem.split(" ")[0] for problem in problems] == [str(path) for path in logs[:2]]
    assert logs[0].is_symlink()
    assert not any("not of this store" in path.read_text() for path in store.logs.glob("merged-*.log"))


def test_a_damaged_merged_file_is_set_aside_and_its_jobs_are_rerun(filled):
    store, jobs = filled(3)
    compact(store)
    (path,) = store.rows.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    done, problems = store.finished()
    assert done == {}
    assert problems == [f"{path} is damaged; it was set aside, and its jobs are rerun"]
    assert not store.is_done(jobs[0].job_id)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("at", range(8))
def test_a_kill_at_any_deletion_or_publication_loses_nothing_and_the_next_call_ends_it(filled, monkeypatch, at):
    store, jobs = filled(6)
    count = 0

    def dying(real):
        def step(self, *words, **more):
            nonlocal count
            if threading.current_thread() is not threading.main_thread():  # the leases' heart beats on
                return real(self, *words, **more)
            count += 1
            if count > at and self.suffix != ".lease":
                raise Killed
            return real(self, *words, **more)

        return step

    monkeypatch.setattr(Path, "unlink", dying(Path.unlink))
    monkeypatch.setattr(Path, "replace", dying(Path.replace))
    with pytest.raises(Killed):
        compact(store, max_jobs=4)
    monkeypatch.undo()
    assert set(raw(store)) == {run.run_id for job in jobs for run in job.runs}
    assert all(len(store.read_rows(job.job_id)) == 2 for job in jobs)
    compact(store, max_jobs=4)
    assert raw(store) == Counter(run.run_id for job in jobs for run in job.runs)
    assert len(files(store.rows)) == len(files(store.series)) == 2
    assert not list(store.rows.glob(".*"))


def test_readers_see_each_row_once_at_every_moment(filled):
    store, jobs = filled(50)
    plan_for(store, jobs)
    wanted = {run.run_id for job in jobs for run in job.runs}
    stop, seen, wrong = threading.Event(), [0], []

    def read():
        mine = Store(store.root)
        while not stop.is_set():
            results = load([store.root])
            ids = list(results.rows["run_id"])
            if len(ids) != len(wanted) or set(ids) != wanted or results.problems:
                wrong.append((len(ids), results.problems))
            if len(mine.read_rows(jobs[seen[0] % 50].job_id)) != 2 or len(mine.finished()[0]) != 50:
                wrong.append("store")
            seen[0] += 1

    def reading():
        try:
            read()
        except Exception as error:
            wrong.append(error)

    reader = threading.Thread(target=reading)
    reader.start()
    try:
        for most in (4, 20, 200):  # merged files are merged again, too
            compact(store, most)
            before = seen[0]
            while seen[0] == before and reader.is_alive():  # however busy the machine is, it reads between and during these
                time.sleep(0.01)
    finally:
        stop.set()
        reader.join()
    assert wrong == []
    assert len(files(store.rows)) == 1


def test_readers_retry_when_a_merged_file_is_replaced(filled, monkeypatch):
    store, jobs = filled(4)
    compact(store, max_jobs=4)
    old = next(store.rows.glob("merged-*"))
    real, new = names.jobs_in, old.with_name("merged-later.parquet")

    def looking(path):
        if path == old and old.exists():  # the other process publishes, and deletes what it has merged
            new.write_bytes(old.read_bytes())
            old.unlink()
        return real(path)

    monkeypatch.setattr(names, "jobs_in", looking)
    assert merged(store.rows) == dict.fromkeys((job.job_id for job in jobs), new)
    (store.rows / "merged-nowhere.parquet").symlink_to(store.rows / "nowhere")
    assert merged(store.rows) == dict.fromkeys((job.job_id for job in jobs), new)
    (store.rows / "merged-nowhere.parquet").unlink()
    old.write_bytes(new.read_bytes())
    assert store.finished() == (dict.fromkeys((job.job_id for job in jobs), "ok"), [])


def test_a_second_process_and_a_missing_store_are_refused(filled, tmp_path, capsys):
    store, jobs = filled(2)
    plan_for(store, jobs)
    with process_leases().acquire(store.leases / "compact"), pytest.raises(UserError, match=f"process {os.getpid()} on .* is compacting"):
        compact(store)
    assert main(["compact", str(store.root)]) == 0
    assert capsys.readouterr().out == f"{store.root}: merged 6 files of rows, series and logs into 3\n"
    for words, said in (([str(tmp_path)], "is not a store"), ([], "the following arguments are required: STORE")):
        assert main(["compact", *words]) == 2
        assert said in capsys.readouterr().err


def test_jobs_are_counted_from_names_and_plan_and_only_failed_ones_are_read(filled, make_job, monkeypatch):
    store, jobs = filled(4)
    bad, free, taken = make_job("bad", runs=3), make_job("free", job_type="train"), make_job("taken", runs=2)
    store.write_rows([bad.row(run, status="failed", error_type="error") for run in bad.runs])
    plan_for(store, [*jobs, bad, free, taken])
    expected = (Counts("tune", 6, done=4, failed=1), Counts("train", 1))
    assert sweep_counts(store).by_type == expected
    compact(store)
    read = []
    monkeypatch.setattr(Store, "read_rows", lambda store, job_id: read.append(job_id) or [])
    assert sweep_counts(store).by_type == expected
    assert set(read) == {"bad"}
    assert [(one.missing, one.to_do) for one in expected] == [(1, 2), (1, 1)]
    assert statuses(store.root / "none") == {}


def _compacts(root):
    compact(Store(root), max_jobs=8)
    os._exit(0)


@pytest.mark.slow
def test_kill_9_at_random_moments(filled, monkeypatch):
    monkeypatch.setattr(
        "sweeper.commands.compact.process_leases", lambda: Leases(duration=1.0)
    )  # a kill may leave a lease without its owner's name
    context = multiprocessing.get_context("fork")
    store, jobs = filled(40)
    for moment in range(10):
        process = context.Process(target=_compacts, args=(store.root,))
        process.start()
        process.join(0.02 * moment)
        process.kill()
        process.join()
        assert set(raw(store)) == {run.run_id for job in jobs for run in job.runs}
    compact(store, max_jobs=8)
    assert raw(store) == Counter(run.run_id for job in jobs for run in job.runs)
    assert len(files(store.rows)) == math.ceil(len(jobs) / 8)

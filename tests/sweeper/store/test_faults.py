"""Faults of the system: unreadable files, no free inodes, kills while rows are written, clocks that jump, folders that are exchanged."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from analysis.store.load import load
from sap_core import files
from sap_core.checkpoint import load_state
from sap_core.checksum import Checksum, checksum
from sap_core.errors import DamagedFile, StorageError, UserError
from sap_core.records import Planned
from sweeper.commands.compact import compact
from sweeper.jobs.job import SweepPaths, read_jobs
from sweeper.jobs.run_job import execute
from sweeper.store.leases import Leases
from sweeper.store.store import Store, write_records

UNREADABLE = Path("/proc/self/mem")
"""A file that the kernel answers with EIO at its first byte."""


def unreadable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(UNREADABLE)
    return path


@pytest.mark.skipif(not UNREADABLE.exists(), reason="needs Linux")
def test_files_that_the_disk_cannot_read_are_named_and_the_rest_is_reported(make_job, tmp_path):
    store, good = Store(tmp_path), make_job("good", runs=2)
    store.write_rows([good.row(run, val_noisy_acc=0.5) for run in good.runs])
    write_records(store.plan, [planned_of(good, run) for run in good.runs], Planned)
    bad = unreadable(store.rows / "bad.ok.parquet")
    unreadable(store.series / "bad.parquet")
    results = load([tmp_path])
    assert len(results.rows) == 2
    assert [str(bad) in sentence for sentence in results.damage] == [True]
    assert not store.is_done("bad")
    assert store.read_rows("bad") == store.read_series("bad") == []
    with pytest.raises(UserError, match="cannot be read"):
        list(read_jobs(unreadable(tmp_path / "jobs.jsonl"), ()))
    with pytest.raises(DamagedFile, match="is damaged"):
        load_state(unreadable(tmp_path / "model.safetensors"))


def planned_of(job, run):
    values = job.labels | {"run_id": run.run_id, "job_id": job.job_id, "job_type": job.job_type, "position": run.position}
    names = Planned.__dataclass_fields__
    known = {name: value for name, value in values.items() if name in names}
    return Planned(**known, settings="{}", parents="", cell="cell", computation_id=0, forecast_flops=None)


def test_a_disk_that_fails_while_it_writes_ends_the_job_and_leaves_nothing(make_job, tmp_path, monkeypatch):
    def failing(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    store, job = Store(tmp_path), make_job("a")
    monkeypatch.setattr(files.os, "fsync", failing)
    with pytest.raises(StorageError, match="Input/output error"):
        store.write_rows([job.row(run) for run in job.runs])
    assert list(store.rows.iterdir()) == []


def fill(store, jobs, stored):
    for job in jobs:
        store.write_rows([job.row(run) for run in job.runs])
        stored.append(job.job_id)


def test_without_free_inodes_nothing_half_written_remains(make_job, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=20", "tmpfs", disk], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        store, stored = Store(disk), []
        jobs = iter([make_job(f"{number:04}") for number in range(20)])
        with pytest.raises(StorageError, match="No space left"):
            fill(store, jobs, stored)
        assert len(stored) > 10
        assert store.finished() == (dict.fromkeys(stored, "ok"), [])
        assert not list(store.rows.glob(".*"))
        (store.rows / f"{stored[0]}.ok.parquet").unlink()
        fill(store, [next(jobs)], stored)
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def widen_windows():
    """Lets this process sleep before and after each step of a writing that a kill could separate."""
    sync, move = os.fsync, Path.replace
    files.os.fsync = lambda handle: (time.sleep(0.004), sync(handle), time.sleep(0.004))
    Path.replace = lambda path, target: (time.sleep(0.004), move(path, target), time.sleep(0.004))[1]


def test_a_kill_while_rows_are_written_leaves_complete_files_only(make_job, tmp_path):
    generator = random.Random(1)
    for attempt in range(20):
        store, child = Store(tmp_path / str(attempt)), os.fork()
        if child == 0:
            widen_windows()
            for number in range(1000):
                job = make_job(f"{number:04}", runs=2)
                store.write_rows([job.row(run, status="failed", error_type="error") for run in job.runs])
                store.write_rows([job.row(run) for run in job.runs])
            os._exit(0)
        time.sleep(0.02 + 0.1 * generator.random())
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        assert all(checksum(path) is Checksum.INTACT for path in store.rows.glob("[!.]*.parquet"))
        done, problems = store.finished()
        assert problems == []
        # An ok file may stand beside the failed one that it replaces; never is there none of both after the first.
        assert all(len(store.read_rows(job_id)) == 2 for job_id in done)


def test_clocks_that_jump_do_not_decide_between_two_results(make_job, tmp_path):
    """The later of two contradictory files may carry the earlier time: neither is merged away, and readers use none."""
    store, job = Store(tmp_path), make_job("a", runs=2)
    other = make_job("b", runs=2)
    for each in (job, other):
        store.write_rows([each.row(run, val_noisy_acc=0.5, started_at="2030-01-01T00:00:00+00:00") for run in each.runs])
    compact(store)
    store.write_rows([job.row(run, val_noisy_acc=0.7, started_at="2020-01-01T00:00:00+00:00") for run in job.runs])
    before = {path: path.read_bytes() for path in store.rows.iterdir()}
    (problem,) = compact(store)
    assert "contain different scores of the job a and were skipped: delete the wrong file" in problem
    assert {path: path.read_bytes() for path in store.rows.iterdir()} == before


def test_leases_ignore_the_wall_clock(tmp_path, monkeypatch):
    one, other = Leases(duration=60.0, check_processes=False), Leases(duration=60.0, check_processes=False)
    with one.acquire(tmp_path / "job"):
        for jump in (-1e6, 1e6):
            monkeypatch.setattr(time, "time", lambda jump=jump: 1e9 + jump)
            os.utime(tmp_path / "job.1.lease", (1e9 - jump, 1e9 - jump))
            assert other.acquire(tmp_path / "job") is None


@pytest.mark.parametrize(
    "text", ['{"lease": NaN}', '{"lease": Infinity}', '{"lease": -1}', '{"lease": 1e300}', "[" * 100_000, "\udcff", "3", '{"pid": "x"}', ""]
)
def test_a_damaged_lease_expires_after_the_observers_duration(text, tmp_path, monkeypatch):
    (tmp_path / "job.1.lease").write_bytes(text.encode("utf-8", "surrogateescape"))
    # A digit to Unicode that is no number of a lease.
    (tmp_path / "job.².lease").touch()
    leases, now = Leases(duration=60.0), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    assert leases.acquire(tmp_path / "job") is None
    now[0] = 61.0
    assert leases.acquire(tmp_path / "job") is not None


def test_a_folder_that_was_exchanged_while_a_job_ran_gets_no_rows(plan_of, tmp_path):
    (train, *_) = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap]", "seeds=[1]").plan.jobs
    folders = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
    leases = Leases(duration=0.1)

    def exchange():
        if not (tmp_path / "moved").exists():
            folders.store.rename(tmp_path / "moved")
            folders.store.mkdir()
            time.sleep(1.1)  # a lost lease is looked for once a second
        return False

    assert execute(train, folders, stop=exchange, leases=leases).status == "leased_elsewhere"
    assert not list(folders.store.rglob("*.parquet"))


def test_a_driver_whose_folder_was_exchanged_says_so(tmp_path):
    store = Store(tmp_path / "store")
    with ExitStack() as stack:
        stack.enter_context(store.locked())
        store.root.rename(tmp_path / "moved")
        store.root.mkdir()
        with pytest.raises(UserError, match=r"was moved, replaced, or taken over"):
            stack.close()
    with store.locked() as check:
        check()

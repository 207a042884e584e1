"""Several workers on one file of jobs: every row exactly once, even if workers are killed. The jobs are stubs in forked processes."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import sweeper.jobs.run_job as execution
from sap_core.api import Stopped
from sap_core.files import save_json
from sweeper.execute import run_file
from sweeper.jobs.context import Failure, JobOutcome
from sweeper.jobs.job import SweepPaths, artifact, write_jobs
from sweeper.store.leases import Leases, leased_names
from sweeper.store.provenance import commit
from sweeper.store.store import Store

FORK = multiprocessing.get_context("fork")
SEED = 20_261_129


def id_of(name):
    """A name of up to 8 characters as an id, which has 16 hexadecimal digits."""
    return name.encode().hex().ljust(16, "0")


def name_of(job):
    return bytes.fromhex(job.job_id).rstrip(b"\0").decode()


class Stub:
    """A sweep of stubs, its paths, and the jobs that were started and finished."""

    def __init__(self, root, jobs):
        self.root, self.jobs = root, jobs
        self.folders = SweepPaths(root / "data", root / "store", root / "artifacts")
        self.store = Store(self.folders.store)
        self.log = root / "log"
        self.log.touch()
        write_jobs(root / "jobs.jsonl", jobs)

    def options(self, **more):
        usual = {
            "plan": self.root / "jobs.jsonl",
            "shard": "1/1",
            "no_steal": False,
            "lease": 60.0,
            "idle_timeout": None,
            "order": "cells",
            "seconds": None,
            "plugins": (),
        }
        return argparse.Namespace(**{**usual, "device": "cpu", "jobs_on_device": 1, **more})

    def start(self, work, **more):
        """A worker in a process of its own, whose jobs do `work(job, place)`."""

        def main():
            execution.run_job_type = lambda job, place, note: self.run(job, place, work)
            os._exit(run_file(self.options(**more), self.folders))

        process = FORK.Process(target=main)
        process.start()
        return process

    def run(self, job, place, work):
        self.note("begins", job)
        failure = work(job, place)
        if job.job_type == "train" and not failure:
            save_json(artifact(self.folders.artifacts, job.job_id), {})
        self.note("ends", job)
        scored = [failure is None] * len(job.runs)
        return JobOutcome([{"val_noisy_acc": 0.5, "num_trusted": os.getpid()} for _ in job.runs], scored, failure=failure)

    def note(self, what, job):
        with self.log.open("a") as file:
            file.write(f"{what} {name_of(job)} {os.getpid()}\n")

    def noted(self, what):
        return [tuple(line.split()[1:]) for line in self.log.read_text().splitlines() if line.startswith(what)]

    def rows(self):
        return [row for path in self.store.rows.glob("[!.]*.parquet") for row in pq.read_table(path).to_pylist()]

    def assert_whole(self, tidy=True):
        planned = [run.run_id for job in self.jobs for run in job.runs]
        assert Counter(row["run_id"] for row in self.rows()) == Counter(planned)
        assert not tidy or leased_names(self.store.leases) == set()
        assert not tidy or not list(self.folders.artifacts.rglob("*.lease"))


@pytest.fixture(autouse=True, scope="module")
def once(make_job, tmp_path_factory):
    """Without it every child process would call git and import pyarrow."""
    commit()
    store, job = Store(tmp_path_factory.mktemp("once")), make_job()
    store.write_rows([job.row(job.runs[0])])
    assert store.read_rows(job.job_id)


def job_named(make_job, name, parents=(), **more):
    job = make_job(id_of(name), [id_of(parent) for parent in parents], baseline_id=id_of("base"), **more)
    return replace(job, runs=tuple(replace(run, run_id=id_of(f"{name}.{run.position}")) for run in job.runs))


def sweep(make_job, chains, tuned):
    jobs = []
    for chain in range(chains):
        jobs.append(job_named(make_job, f"t{chain}", job_type="train", cells=(chain,)))
        jobs += [job_named(make_job, f"t{chain}-{k}", [f"t{chain}"], runs=2, cells=(chain,)) for k in range(tuned)]
    return jobs


def brief(job, place):
    time.sleep(0.005)


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return value


def ended(*processes, code=0):
    for process in processes:
        process.join(60)
        assert process.exitcode == code


def test_workers_share_a_sweep_and_nothing_runs_twice(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 4, 6))
    ended(*(stub.start(brief, shard=f"{number}/3") for number in (1, 2, 3)))
    stub.assert_whole()
    begun = stub.noted("begins")
    assert Counter(name for name, _ in begun) == Counter(name_of(job) for job in stub.jobs)
    assert len({pid for _, pid in begun}) == 3


def test_two_workers_on_the_complete_file_run_every_job_once(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 3, 8))
    ended(stub.start(brief), stub.start(brief))
    stub.assert_whole()
    assert max(Counter(name for name, _ in stub.noted("begins")).values()) == 1


def test_the_own_shard_comes_first_then_stealing_unless_disabled(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 4, 1))
    ended(stub.start(brief, shard="2/4", no_steal=True))
    assert [name for name, _ in stub.noted("begins")] == ["t1", "t1-0"]
    ended(stub.start(brief, shard="3/4"))
    assert [name for name, _ in stub.noted("begins")][2:] == ["t2", "t2-0", "t3", "t3-0", "t0", "t0-0"], (
        "its own, then the next part's first"
    )
    stub.assert_whole()


@pytest.mark.slow
def test_workers_are_killed_at_random_moments_and_every_row_is_stored_once(make_job, tmp_path):
    generator = random.Random(SEED)
    stub = Stub(tmp_path, sweep(make_job, 10, 12))
    kills, gate = 0, tmp_path / "gate"

    def not_over_before_the_gate(job, place):
        brief(job, place)
        while len(stub.noted("ends")) > len(stub.jobs) // 2 and not gate.exists():
            time.sleep(0.01)

    workers = {number: stub.start(not_over_before_the_gate, shard=f"{number}/3", lease=1.0) for number in (1, 2, 3)}
    while kills < 60 and len(stub.noted("ends")) < len(stub.jobs):
        time.sleep(generator.uniform(0, 0.08))
        number = generator.choice([1, 2, 3])
        if workers[number].is_alive():
            workers[number].kill()
            kills += 1
        workers[number].join()
        if kills >= 10:
            gate.touch()
        workers[number] = stub.start(not_over_before_the_gate, shard=f"{number}/3", lease=1.0)
    ended(*workers.values())
    stub.assert_whole()
    again = len(stub.noted("begins")) - len(stub.jobs)
    print(f"seed {SEED}: {kills} kills, {again} of {len(stub.jobs)} jobs begun again")
    assert kills >= 10
    assert again <= kills


@pytest.mark.slow
def test_killed_workers_on_other_machines_lose_their_claims_by_the_lease(make_job, tmp_path, monkeypatch):
    monkeypatch.setattr("sweeper.store.leases.boot_id", lambda: "")  # nobody can look whether a process runs
    generator = random.Random(SEED)
    stub = Stub(tmp_path, sweep(make_job, 4, 6))
    kills = 0
    workers = {number: stub.start(brief, shard=f"{number}/2", lease=1.0) for number in (1, 2)}
    while kills < 6:
        time.sleep(generator.uniform(0, 0.1))
        number = generator.choice([1, 2])
        workers[number].kill()
        workers[number].join()
        kills += 1
        workers[number] = stub.start(brief, shard=f"{number}/2", lease=1.0)
    ended(*workers.values())
    stub.assert_whole(tidy=False)  # a lease on a job that is done may be left: nobody waited a lease for it
    assert len(stub.noted("begins")) - len(stub.jobs) <= kills


def test_a_stopped_worker_loses_its_job_wakes_stores_nothing_and_continues(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 2, 2))
    gate = tmp_path / "gate"

    def waits_for_the_gate(job, place):
        while name_of(job) == "t0" and not gate.exists():
            place.stop()
            time.sleep(0.01)

    slow = stub.start(waits_for_the_gate, lease=1.0)
    until(lambda: stub.noted("begins"))
    os.kill(slow.pid, signal.SIGSTOP)
    gate.touch()
    quick = stub.start(brief, lease=1.0)
    until(lambda: stub.store.is_done(id_of("t0")))
    os.kill(slow.pid, signal.SIGCONT)
    ended(slow, quick)
    stub.assert_whole()
    assert [name for name, _ in stub.noted("begins")].count("t0") == 2
    (row,) = [row for row in stub.rows() if row["job_id"] == id_of("t0")]
    assert row["num_trusted"] == quick.pid, "the one that gave signs of life"


def test_a_worker_that_lost_its_lease_before_storing_stores_nothing(make_job, tmp_path):
    """It was stopped after its last check of `stop`, so that only the check before storing can detect it."""
    stub = Stub(tmp_path, [job_named(make_job, "a")])
    gate = tmp_path / "gate"

    def blind(job, place):
        until(gate.exists)

    slow = stub.start(blind, lease=1.0)
    until(lambda: stub.noted("begins"))
    os.kill(slow.pid, signal.SIGSTOP)
    quick = stub.start(brief, lease=1.0)
    until(lambda: stub.store.is_done(id_of("a")))
    gate.touch()
    os.kill(slow.pid, signal.SIGCONT)
    ended(slow, quick)
    stub.assert_whole()
    assert stub.rows()[0]["num_trusted"] == quick.pid
    assert len(stub.noted("ends")) == 2
    assert "another process has taken this job over" in (stub.store.logs / f"{id_of('a')}.log").read_text()


def test_sigterm_releases_the_lease(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 1, 2))

    def until_stopped(job, place):
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if place.stop():
                raise Stopped("stopped after epoch 3; the next start resumes from there")
            time.sleep(0.01)

    worker = stub.start(until_stopped, lease=3600.0)
    until(lambda: stub.noted("begins"))
    assert leased_names(stub.store.leases) == {id_of("t0")}
    os.kill(worker.pid, signal.SIGTERM)
    ended(worker, code=130)
    assert leased_names(stub.store.leases) == set()
    ended(stub.start(brief, lease=3600.0))
    stub.assert_whole()


def test_a_worker_waits_for_a_parent_that_another_runs_and_helps_with_its_children(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 1, 30))
    gate = tmp_path / "gate"

    def work(job, place):
        if job.job_type == "train":
            until(gate.exists)
        time.sleep(0.03)

    first = stub.start(work, shard="1/2", lease=2.0)
    until(lambda: stub.noted("begins"))
    second = stub.start(work, shard="2/2", lease=2.0)
    time.sleep(0.3)
    assert second.is_alive()
    assert len(stub.noted("begins")) == 1
    gate.touch()
    ended(first, second)
    stub.assert_whole()
    counts = Counter(pid for _, pid in stub.noted("begins"))
    assert set(counts) == {str(first.pid), str(second.pid)}
    assert len(stub.noted("begins")) == len(stub.jobs)


def test_an_idle_worker_ends_after_its_idle_time_while_others_run(make_job, tmp_path, capfd):
    stub = Stub(tmp_path, sweep(make_job, 1, 1))
    gate = tmp_path / "gate"
    first = stub.start(lambda job, place: until(gate.exists) and None, lease=2.0)
    until(lambda: stub.noted("begins"))
    ended(stub.start(brief, shard="2/2", lease=2.0, idle_timeout=0.3))
    assert "1 leased by other processes, 1 waiting for them" in capfd.readouterr().out
    gate.touch()
    ended(first)
    stub.assert_whole()


def test_a_job_that_failed_in_another_worker_is_not_retried(make_job, tmp_path):
    stub = Stub(tmp_path, sweep(make_job, 1, 1))

    def fails(job, place):
        time.sleep(2)
        return Failure("error", "no luck", "")

    first, second = stub.start(fails), stub.start(fails)
    first.join(60)
    second.join(60)
    assert (first.exitcode, second.exitcode) in ((1, 1), (1, 0), (0, 1))
    stub.assert_whole()
    assert stub.noted("begins") == [("t0", stub.noted("begins")[0][1])]
    assert {row["job_id"]: row["error_type"] for row in stub.rows()} == {id_of("t0"): "error", id_of("t0-0"): "parent"}
    ended(stub.start(brief))
    assert {row["status"] for row in stub.rows()} == {"ok"}


def racer(folder, order, found):
    leases = Leases(60.0)
    found.put((os.getpid(), [name for name in order if leases.acquire(folder / name)]))
    time.sleep(60)  # a process that ends would be seen to have ended


def test_concurrent_processes_acquire_each_of_500_leases_once(tmp_path):
    generator = random.Random(SEED)
    names = [f"job{number}" for number in range(500)]
    found = FORK.Queue()
    orders = [names, generator.sample(names, 500), names[::-1]]
    racers = [FORK.Process(target=racer, args=(tmp_path, order, found)) for order in orders]
    for process in racers:
        process.start()
    taken = dict(found.get(timeout=60) for _ in racers)
    for process in racers:
        process.kill()
        process.join()
    assert Counter(name for mine in taken.values() for name in mine) == Counter(names)
    assert len(list(Path(tmp_path).glob("*.lease"))) == 500

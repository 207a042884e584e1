"""The driver between Tune and the schedule, without Ray: queues, resources, retries."""

from __future__ import annotations

import os
import signal
import time
from types import SimpleNamespace

import pytest

from sweeper.backends import ray_driver
from sweeper.backends.ray_driver import CPUS_WITH_GPU, START_SECONDS, Driver, RayUnavailable, capacity_of
from sweeper.jobs.results import store_failure
from sweeper.scheduling.gpu_sharing import GpuSharing
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import MAX_ATTEMPTS, Store

TWO_NODES = [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}]


@pytest.fixture
def bench(tmp_path, make_job):
    """bench(jobs, ...): a driver on its own store, and what was reported."""

    def make(jobs, nodes=TWO_NODES, workers=None, shared=True, cpu_jobs=()):
        store, reported, there = Store(tmp_path), [], list(nodes)
        schedule = Schedule.of(jobs, {}, tmp_path)
        gpu_sharing = GpuSharing(store.packing, "cuda", cpu_jobs)
        driver = Driver(
            schedule, store, lambda job, result: reported.append((job.job_id, result.status)), gpu_sharing,
            lambda: capacity_of(there), workers, shared,
        )  # fmt: skip
        return SimpleNamespace(driver=driver, reported=reported, nodes=there, store=store)

    return make


def jobs_of(make_job, count, share=0.5, **changes):
    return [
        make_job(f"{changes.get('method', 'sap')}{number}", resources={"cpus": 1.0, "gpus": share}, **changes) for number in range(count)
    ]


def given(driver):
    """The job ids that can start now, in order."""
    found = []
    while isinstance(told := driver.suggest(), dict):
        found.append(told["job_id"])
    return found


def answer(job_id, status="ok", **more):
    return {"job_id": job_id, "status": status, **more}


def test_capacity_counts_the_cpus_of_nodes_with_gpus():
    assert capacity_of(TWO_NODES) == {"CPU": 4.0, "GPU": 1.0, CPUS_WITH_GPU: 2.0}
    assert capacity_of([]) == {"CPU": 0, "GPU": 0, CPUS_WITH_GPU: 0}


def test_a_gpu_runs_the_jobs_that_fit_and_cpu_jobs_do_not_wait_for_it(bench, make_job):
    jobs = [*jobs_of(make_job, 4), *jobs_of(make_job, 4, method="ssd")]
    setup = bench(jobs, cpu_jobs=["ssd"])
    assert given(setup.driver) == ["sap0", "sap1", "ssd0", "ssd1"]  # two halves of the card; four CPUs in all
    setup.driver.result("sap0", answer("sap0"))
    assert given(setup.driver) == ["sap2"]
    setup.driver.result("ssd0", answer("ssd0"))
    assert given(setup.driver) == ["ssd2"]


def test_the_configuration_of_a_trial(bench, make_job):
    config = bench(jobs_of(make_job, 1, share=0.25)).driver.suggest()
    assert config.pop("stop").startswith(".stop-")
    assert config == {
        "job_id": "sap0",
        "cpus": 1.0,
        "gpus": 0.25,
        "device": "cuda",
        "known_failures": 0,
        "oom_retries": 0,
        "jobs_on_device": 2,
    }


def test_a_job_out_of_memory_gets_a_larger_share_and_is_not_overtaken(bench, make_job):
    setup = bench([*jobs_of(make_job, 2), *jobs_of(make_job, 3, method="scrub", share=0.25)], nodes=[{"CPU": 8.0, "GPU": 1.0}])
    driver = setup.driver
    assert given(driver) == ["sap0", "sap1"]
    driver.result("sap0", answer("sap0", "oom_on_shared_gpu"))
    assert driver.suggest() is None  # sap0 wants the whole card now, and nothing small slips in before it
    driver.result("sap1", answer("sap1"))
    told = driver.suggest()
    assert (told["job_id"], told["gpus"], told["oom_retries"], told["jobs_on_device"]) == ("sap0", 1.0, 1, 1)
    assert driver.suggest() is None
    driver.result("sap0", answer("sap0"))
    assert given(driver) == ["scrub0", "scrub1", "scrub2"]
    for name in ("scrub0", "scrub1", "scrub2"):
        driver.result(name, answer(name))
    assert driver.suggest() == ""
    assert setup.reported == [(name, "ok") for name in ("sap1", "sap0", "scrub0", "scrub1", "scrub2")]


def test_workers_limit_concurrent_jobs(bench, make_job):
    driver = bench(jobs_of(make_job, 4, share=0.1), workers=2).driver
    assert given(driver) == ["sap0", "sap1"]


def test_a_lost_node_is_no_attempt_but_a_job_that_loses_many_fails(bench, make_job):
    setup = bench(jobs_of(make_job, 1))
    for loss in range(ray_driver.MAX_NODE_LOSSES):
        assert setup.driver.suggest()["job_id"] == "sap0"
        assert setup.store.attempts("sap0") == 0
        setup.driver.died("sap0", node_lost=loss < ray_driver.MAX_NODE_LOSSES)
    assert setup.store.attempts("sap0") == 1


@pytest.mark.parametrize(("shared", "starts"), [(True, MAX_ATTEMPTS), (False, 1)])
def test_a_job_whose_worker_died_on_a_cluster_is_retried_at_once(bench, make_job, shared, starts):
    setup = bench(jobs_of(make_job, 1), shared=shared)
    for start in range(1, starts + 1):
        assert given(setup.driver) == ["sap0"]
        setup.driver.died("sap0", why="its Ray actor died: end of file")
        assert setup.store.attempts("sap0") == start
    assert setup.driver.suggest() == ""
    assert setup.reported == [("sap0", "failed")]
    (row,) = setup.store.read_rows("sap0")
    assert (row.error_type, row.attempt, "end of file" in row.error) == ("killed", starts, True)


def test_a_worker_that_ends_before_it_begins_a_job_uses_up_no_attempt(bench, make_job):
    setup = bench(jobs_of(make_job, 1))
    for _ in range(ray_driver.MAX_FAILED_LAUNCHES):
        assert setup.driver.fatal is None
        assert given(setup.driver) == ["sap0"]
        assert not setup.driver.has_begun("sap0")
        setup.driver.died("sap0", why="Unauthenticated", begun=setup.driver.has_begun("sap0"))
    assert "6 workers ended before they began a job (Unauthenticated)" in setup.driver.fatal
    assert setup.driver.suggest() == ""
    assert (setup.store.attempts("sap0"), setup.reported) == (0, [])


def test_a_job_has_begun_once_its_log_grows(bench, make_job):
    setup = bench(jobs_of(make_job, 1))
    setup.store.logs.mkdir()
    (setup.store.logs / "sap0.log").write_text("of an earlier start\n")
    assert given(setup.driver) == ["sap0"]
    assert not setup.driver.has_begun("sap0")
    with (setup.store.logs / "sap0.log").open("a") as log:
        log.write("train starts, attempt 1\n")
    assert setup.driver.has_begun("sap0")


def test_a_job_beyond_its_time_limit_is_not_retried_at_once(bench, make_job):
    setup = bench(jobs_of(make_job, 1))
    assert given(setup.driver) == ["sap0"]
    store_failure(setup.driver.jobs["sap0"], setup.store, "killed", "ran past its time")  # as its watchdog does before it ends the process
    setup.driver.died("sap0")
    assert setup.driver.suggest() == ""
    assert setup.store.attempts("sap0") == 1


def test_a_cluster_without_room_for_any_job_ends_the_sweep(bench, make_job, monkeypatch):
    setup = bench(jobs_of(make_job, 2, share=1.0), nodes=[{"CPU": 2.0}])
    assert setup.driver.suggest() is None
    setup.nodes.append({"CPU": 2.0, "GPU": 1.0})
    assert given(setup.driver) == ["sap0"]
    setup.nodes.pop()
    setup.driver.died("sap0", node_lost=True)
    assert setup.driver.suggest() is None
    monkeypatch.setattr(ray_driver, "WAIT_SECONDS", -1.0)
    assert setup.driver.suggest() == ""
    assert setup.driver.fatal.startswith("the next job needs 1 CPU, 1 GPU, but for -1 s the Ray cluster had only 2 CPU;")


def test_a_ray_that_gives_no_worker_ends_in_time_and_its_jobs_go_back(bench, make_job, monkeypatch):
    jobs = [*jobs_of(make_job, 4), *jobs_of(make_job, 4, method="ssd")]
    driver = bench(jobs, cpu_jobs=["ssd"]).driver
    order = list(driver.schedule.waiting)
    assert len(given(driver)) == 4
    driver.check_start()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + START_SECONDS + 1)
    with pytest.raises(RayUnavailable, match=r"no worker within 180 s \(backend.start_seconds\).*use backend=local"):
        driver.check_start()
    driver.give_back()
    assert not driver.schedule.running
    assert [driver.schedule.next().job_id for _ in order] == order


@pytest.mark.parametrize("worker", [lambda driver: driver.worker_started(), lambda driver: driver.result("sap0", answer("sap0"))])
def test_the_time_limit_concerns_the_first_worker_alone(bench, make_job, monkeypatch, worker):
    driver = bench(jobs_of(make_job, 4)).driver
    given(driver)
    worker(driver)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + START_SECONDS + 1)
    driver.check_start()


def test_a_second_hangup_does_not_shorten_the_time_for_storing(bench, make_job):
    driver = bench(jobs_of(make_job, 1)).driver
    before = signal.getsignal(signal.SIGHUP)
    with driver.stoppable(grace=30):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)
        assert driver.stopping
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGHUP) is before

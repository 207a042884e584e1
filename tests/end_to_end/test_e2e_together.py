"""Several processes on one store, a training that another worker takes over, a moved store, and deleted checkpoints."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

WORDS = (
    "experiment=going_wrong", "trainer=slow", "trainer.rest_seconds=0.03", "trainer.epochs=4", "methods=[sap]",
    "method.sap.corrector.num_trusted=40", "method.sap.corrector.batch_size=20", "backend.workers=1",
)  # fmt: skip
JOBS = 8
LEASE = "20"


def worker(bench, e2e, name, only="1/1", **variables):
    """One array task on the jobs that a driver has planned."""
    folders = [f"--{kind}={bench.root / kind}" for kind in ("data", "artifacts")]
    plan, store = bench.root / name / "jobs.jsonl", bench.root / name
    command = [
        sys.executable,
        "-m",
        "sweeper.execute",
        plan,
        f"--store={store}",
        *folders,
        "--shard",
        only,
        "--lease",
        LEASE,
        "--plugins",
        "standins",
    ]
    settings = e2e.environment(**{e2e.MARK: str(store), **variables})
    return subprocess.Popen(command, cwd=e2e.HOME, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def leases(store):
    """The leases of jobs; that of a killed driver remains until the next driver starts."""
    found = [*store.root.rglob("*.lease"), *(store.root.parent / "artifacts").rglob("*.lease")]
    return [path for path in found if not path.name.startswith("driver.")]


def begun(store):
    return {job: count for job, count in store.begun().items() if job not in ("sweep", "workers", "ray")}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_a_driver_and_an_array_task_run_every_job_once(bench, e2e, backend):
    name = f"together_{backend}"
    store = bench.store(name)
    words = (*WORDS, f"backend={backend}", f"name={name}", "seeds=[5,6,7,8]" if backend == "ray" else "seeds=[1,2,3,4]")
    with e2e.ended(bench.start(name, *words)) as driver:
        e2e.wait_for((store.root / "plan.json").exists, 120, driver)
        with e2e.ended(worker(bench, e2e, name, "2/2")) as task:
            for process in (task, driver):
                _, err = process.communicate(timeout=240)
                assert process.returncode == 0, err
    store.wait_until_gone()
    store.assert_whole()
    assert begun(store) == dict.fromkeys(begun(store), 1)
    assert len(begun(store)) == JOBS
    assert leases(store) == []


@pytest.mark.slow
def test_a_training_whose_worker_was_killed_continues_in_another(bench, e2e):
    store = bench.store("hands")
    words = (*WORDS, "seeds=[9]", "trainer.rest_seconds=0.15")
    with e2e.ended(bench.start("hands", *words)) as driver:
        e2e.wait_for((store.root / "plan.json").exists, 120, driver)
        driver.kill()
    store.wait_until_gone()
    before, after = bench.root / "before", bench.root / "after"
    shutil.rmtree(bench.root / "artifacts", ignore_errors=True)
    quick = {"SAP_SWEEP_CHECKPOINT_SECONDS": "0"}
    with e2e.ended(worker(bench, e2e, "hands", STANDINS_WHERE=str(before), **quick)) as first:
        e2e.wait_for(lambda: before.exists() and "2 2\n" in before.read_text(), 120, first)
        first.kill()
    assert leases(store)
    with e2e.ended(worker(bench, e2e, "hands", STANDINS_WHERE=str(after), **quick)) as second:
        _, err = second.communicate(timeout=240)
        assert second.returncode == 0, err
    store.assert_whole()
    last, *_ = before.read_text().split("\n")[-2].split()
    assert after.read_text().split("\n")[0] == f"{last} 0", "the epoch that was not finished begins again, no earlier one"
    assert leases(store) == []


@pytest.mark.slow
def test_a_moved_store_continues_and_deleted_checkpoints_are_recomputed_only_where_needed(bench, e2e):
    words = (*WORDS, "seeds=[1]", "trainer.rest_seconds=0", "name=moved")
    end = bench.run("old/moved", *words, f"paths.artifacts={bench.root / 'old' / 'artifacts'}")
    assert end.code == 0, end.err
    shutil.move(bench.root / "old", bench.root / "new")
    store = bench.store("new/moved")
    old = str(bench.root / "old").encode()
    typed = store.root / "config.yaml"  # names the folders that were typed
    holding = [path for path in store.root.rglob("*") if path.is_file() and path != typed and old in path.read_bytes()]
    assert [path for path in holding if path.parent.name != "logs"] == []
    assert not [path for path in (bench.root / "new" / "artifacts").rglob("*") if path.is_file() and old in path.read_bytes()]

    rows, stamps = store.rows(), store.stamps()
    words = (*words, f"paths.artifacts={bench.root / 'new' / 'artifacts'}")
    end = bench.run("new/moved", *words)
    assert (end.code, store.stamps()) == (0, stamps)
    tuned = next(row for row in rows if row["method"] == "sap")
    trained = next(row for row in rows if row["method"] == "vanilla")
    (store.root / "rows" / f"{tuned['job_id']}.ok.parquet").unlink()
    end = bench.run("new/moved", *words)
    assert end.code == 0, end.err
    assert begun(store)[trained["job_id"]] == 1, "its checkpoint was found at the new place"

    shutil.rmtree(bench.root / "new" / "artifacts")
    end = bench.run("new/moved", *words)
    assert end.code == 0, end.err
    assert begun(store)[trained["job_id"]] == 1, "no job needs it"
    (store.root / "rows" / f"{tuned['job_id']}.ok.parquet").unlink()
    end = bench.run("new/moved", *words)
    assert end.code == 0, end.err
    assert (
        f"the checkpoint of 1 job is missing or damaged and will be recomputed first, because remaining jobs read it ({trained['job_id']})"
        in end.err
    )
    assert begun(store)[trained["job_id"]] == 2
    assert e2e.comparable(store.rows()) == e2e.comparable(rows)

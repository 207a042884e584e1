"""The commands of `sap-slurm` around a submission, on a real Slurm: init, script, check, submit, status, logs, cancel."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from slurm.__main__ import main
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.ownership import read_queue
from slurm.status import explain
from slurm.submission import submissions
from slurm.submit import submit
from sweeper.jobs.job import SweepPaths

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

HOME = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(slurm, tmp_path, monkeypatch, capsys):
    """(standard output, standard error) of a command, with the tests' Slurm and a configuration folder of its own."""
    monkeypatch.chdir(HOME)
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in {**slurm.environment, "XDG_CONFIG_HOME": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)

    def run(*words, code=0):
        capsys.readouterr()
        found = main(list(words))
        out, err = capsys.readouterr()
        assert found == code, err
        return out, err

    yield run
    for job in slurm.call("squeue", "--noheader", "--format=%A", check=False).split():
        slurm.call("scancel", job, check=False)


def test_from_nothing_to_a_queued_sweep_and_back(run, slurm, tmp_path):
    path = Path(run("init", "mine")[0].strip())
    assert path == tmp_path / "config" / "sap-sweep" / "cluster" / "mine.yaml"
    assert "#   main (default): 2 nodes of 2 cores, 4000 MiB, 1 x GPU, at most infinite" in path.read_text()
    assert "exists already; remove it or choose another name" in run("init", "mine", code=2)[1]
    folders = [f"paths.{name}={tmp_path / name}" for name in ("results", "artifacts", "data")]
    words = ["experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=1", "cluster=mine", "cluster.tasks=3", *folders]
    text = run("script", *words)[0]
    assert "#SBATCH --array=0-2\n" in text
    assert "#SBATCH --gres=gpu:1\n" in text
    assert not (tmp_path / "results").exists()
    run("submit", *words, "cluster.partition=nowhere", code=2)
    # Held before anything starts: a reservation of all nodes takes the time that the tasks ask for.
    upkeep = ("ReservationName=upkeep", "StartTime=now+90minutes", "Duration=60", "Nodes=ALL", "Users=root", "Flags=MAINT")
    slurm.call("scontrol", "create", "reservation", *upkeep)
    try:
        out, err = run("submit", *words, "cluster.time=2:00:00", "cluster.max_array=2")
        jobs = out.split()
        assert len(jobs) == 2
        assert "2 jobs planned, 0 done, 2 to do, 0 failed" in err
        results = tmp_path / "results"
        slurm.wait(lambda: "ReqNodeNotAvail" in run("status", str(results))[0], 30, "the reason")
        output = run("status", str(results))[0]
        assert re.search(r"pending: 3 tasks or jobs \(\d+_\d .*ReqNodeNotAvail.*requested nodes are down, drained or reserved", output)
        assert re.search(
            r"hint: reservation upkeep \(maint.*\) of n\[1-2\] begins in 1:2\d:\d\d; a job with a time limit of at most 01:2\d:00",
            output,
        )
        again = run("submit", str(results), "cluster=mine", f"paths.artifacts={tmp_path / 'artifacts'}", "cluster.time=2:00:00")
        assert "3 batch jobs or array tasks of this sweep are queued already" in again[1]
        assert "nothing has changed since the last submission" in again[1]
        assert "continues with its stored configuration" in run("submit", str(results), "cluster=mine", "seeds=[2]", code=2)[1]
        assert "unknown job '99999'" in run("cancel", str(results), "99999", code=2)[1]
        assert run("cancel", str(results))[1].startswith("cancelled ")
        slurm.wait(lambda: not slurm.call("squeue", "--noheader"), 20, "an empty queue")
        assert "has no queued batch jobs" in run("cancel", str(results))[1]
        assert "contains no log of a batch job yet" in run("logs", str(results), code=2)[1]
    finally:
        slurm.call("scontrol", "delete", "ReservationName=upkeep")


def test_what_would_be_written_to_files_or_is_missing_is_refused_before_anything_is_queued(run, slurm, tmp_path, monkeypatch):
    folders = [f"paths.{name}={tmp_path / name}" for name in ("results", "artifacts", "data")]
    words = ["methods=[sap]", "seeds=[1]", "cluster=example", "cluster.gpus=0", *folders]
    output = run("submit", "experiment=fashion", *words, code=2)[1]
    assert "fashion_mnist" in output or "FashionMNIST" in output
    assert "sap-sweep prepare experiment=fashion 'methods=[sap]'" in output
    assert output.rstrip().endswith("--download gets it")
    monkeypatch.setenv("WANDB_API_KEY", "planted0123456789")
    output = run("submit", "experiment=demo", "name=planted0123456789", *words, code=2)[1]
    assert "contains the value of the environment variable WANDB_API_KEY" in output
    assert "planted" not in output
    assert "contains no planned sweep" in run("submit", str(tmp_path), "cluster=example", code=2)[1]
    assert "name one cluster, as in cluster=mine" in run("submit", "experiment=demo", code=2)[1]
    assert (
        "cannot be combined with cluster=NAME; write cluster.KEY=VALUE"
        in run("submit", "experiment=demo", "cluster=example", "slurm.gpus=1", code=2)[1]
    )
    assert not slurm.call("squeue", "--noheader").strip()
    assert not (tmp_path / "results").exists()


def test_check_names_a_remedy_for_each_failure(run, tmp_path):
    folder = tmp_path / "config" / "sap-sweep" / "cluster"
    folder.mkdir(parents=True)
    (folder / "cpu.yaml").write_text("gpus: 0\ncpus: 1\nmemory: 3000M\n")
    (tmp_path / "data").mkdir()
    words = [f"paths.results={tmp_path / 'results'}", f"paths.artifacts={tmp_path / 'artifacts'}"]
    out = run("check", "cluster=cpu", *words, f"paths.data={tmp_path / 'data'}")[0]
    assert [line.split(":")[0].split(None, 1)[1] for line in out.splitlines() if line.startswith("pass")] == [
        "python", "torch", "data", "results", "artifacts", "ports", "socket paths", "memory", "requeue",
    ]  # fmt: skip
    deep = f"/tmp/{'deep' * 20}-{os.getpid()}"
    out = run(
        "check", "cluster=cpu", "cluster.gpus=1", "cluster.memory=900M", f"cluster.scratch={deep}", *words, "paths.data=/nowhere", code=1
    )[0]
    Path(deep).rmdir()
    failed = {line.split(":")[0].split(None, 1)[1] for line in out.splitlines() if line.startswith("FAIL")}
    assert failed == {"gpu", "data", "socket paths", "memory"}, out
    assert "remedy: choose a cluster.scratch" in out
    assert "ended without a result" in run("check", "cluster=cpu", "cluster.python=/no/such/python", *words, code=2)[1]
    assert run("logs", str(tmp_path / "results"), "999", code=2)[1].startswith("error: ")


def test_tasks_beyond_the_partitions_time_are_explained(run, slurm, tmp_path, monkeypatch):
    """The partition's limit is output when a job waits for it."""
    slurm.call("scontrol", "update", "PartitionName=main", "MaxTime=30")
    try:
        store = tmp_path / "results"
        sweep = Sweep("x", SweepPaths(store, store, store), tmp_path, "python", store / "slurm/plan-1.jsonl")
        submit(Cluster(tasks=1, cpus=1, memory="100M", time="1:00:00"), sweep, "abc", 0.0, {"ClusterName": "test"}, lambda line: None)
        noted = submissions(store)
        slurm.wait(lambda: any(one.reason == "PartitionTimeLimit" for one in read_queue(store, noted).entries), 20, "the reason")
        assert "hint: the time limit of the partition is 00:30:00: submit with cluster.time=00:30:00" in explain(
            read_queue(store, noted).entries, noted
        )
    finally:
        slurm.call("scontrol", "update", "PartitionName=main", "MaxTime=INFINITE")

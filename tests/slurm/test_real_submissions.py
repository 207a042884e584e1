"""On a real Slurm: a broken node, the user's own jobs, and variables of the shell that would change a submission."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from slurm.__main__ import main
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.failures import failed_nodes
from slurm.ownership import read_queue
from slurm.submission import submissions
from slurm.submit import cancel, choose_jobs, submit
from sweeper.jobs.job import SweepPaths

pytestmark = [pytest.mark.slurm, pytest.mark.slow]


@pytest.fixture
def sweep(slurm, tmp_path, monkeypatch):
    """A sweep whose Python is a stub: it fails at once on node n1; elsewhere it sleeps, and reports that all jobs are done."""
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SAP_SWEEP_BACK_OFF_SECONDS", "0")
    python = tmp_path / "python"
    does = 'case "$*" in *sweeper.execute*) sleep "${NAP:-0}" ;; esac'
    python.write_text(f'#!/bin/sh\n[ "$SLURMD_NODENAME" != n1 ] || exit 2\n{does}\n')
    python.chmod(0o755)
    store = tmp_path / "my results"
    return Sweep("x", SweepPaths(store, store, store), tmp_path, str(python), store / "slurm/plan-1.jsonl")


SMALL = {"cpus": 1, "memory": "100M", "time": "10", "tasks": 1}


def logs(store: Path) -> str:
    return "\n".join(path.read_text() for path in (store / "logs").glob("*.log"))


def test_a_start_that_fails_at_once_goes_on_on_another_node(slurm, sweep):
    store = sweep.paths.store
    (job,) = submit(Cluster(**SMALL), sweep, "abc", 0.0, {"ClusterName": "test"}, lambda line: None)
    slurm.wait(lambda: "requesting a requeue on another node than n1" in logs(store), 30, "the requeue")
    slurm.wait(lambda: "ExcNodeList=n1" in slurm.call("scontrol", "show", "job", job), 10, "the node to be excluded")
    slurm.wait_for(f"{job}_0", "COMPLETED", seconds=90)
    assert dict(failed_nodes(store, submissions(store))) == {"n1": 1}


def test_variables_of_the_shell_do_not_change_a_submission(slurm, sweep, monkeypatch):
    for name, value in {
        "SBATCH_PARTITION": "high", "SBATCH_TIMELIMIT": "1", "SBATCH_MEM_PER_NODE": "7", "SBATCH_ARRAY_INX": "5-9", "SBATCH_NO_REQUEUE": "",
        "SBATCH_OUTPUT": "/dev/null", "SBATCH_EXPORT": "NONE", "SBATCH_WAIT": "1", "SBATCH_COMMENT": "no", "SLURM_CLUSTERS": "no",
        "SQUEUE_STATES": "FAILED", "SQUEUE_PARTITION": "nowhere", "SCANCEL_STATE": "SUSPENDED", "SLURM_ARRAY_JOB_ID": "99", "NAP": "60",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    store = sweep.paths.store
    (job,) = submit(Cluster(**SMALL, sbatch=("--nodelist=n2",)), sweep, "abc", 0.0, {"ClusterName": "test"}, lambda line: None)
    words = slurm.call("scontrol", "--oneliner", "show", "job", job).split()
    shown = dict(word.split("=", 1) for word in words if "=" in word)
    tag = submissions(store)[0].tag
    assert (shown["Partition"], shown["TimeLimit"], shown["Requeue"], shown["ArrayTaskId"]) == ("main", "00:10:00", "1", "0")
    assert shown["MinMemoryNode"] == "100M"
    assert (shown["JobName"], shown["Comment"]) == (f"sap-x-{tag}", f"sap-sweep:{tag}")
    # Ours is found and cancelled, a job of the user's own in the same queue is not.
    own = slurm.sbatch("#!/bin/bash\nsleep 60\n", "--nodelist=n2", "--hold")
    slurm.wait(lambda: read_queue(store, submissions(store)).active, 20, "the job in the queue")
    state = read_queue(store, submissions(store))
    assert {entry.job for entry in state.entries} == {f"{job}_0"}
    cancel(store, choose_jobs(state, [], "x"), print)
    slurm.wait_for(job, "CANCELLED")
    assert slurm.states(own) == {own: "PENDING"}
    slurm.call("scancel", own)


RAY = """#!/bin/bash
case "$*" in
  *"ray_node pick"*) echo 127.0.0.1:7000 ;;
  *"ray_node run"*) echo "$SLURMD_NODENAME ${#RAY_AUTH_TOKEN} $RAY_AUTH_MODE ${SLURM_EXPORT_ENV:-} $*" >> "$SEEN"; exec sleep 60 ;;
  *ray_cluster*) for ((k = 0; k < 100; k++)); do [ "$(wc -l < "$SEEN")" -lt 2 ] || exit 0; sleep 0.2; done; exit 7 ;;
esac
"""


def test_every_node_of_a_ray_cluster_gets_the_token(slurm, sweep, tmp_path, monkeypatch):
    """Also where the user's shell, or a site, asks for jobs without an environment, and an outer job left its request behind."""
    seen = tmp_path / "seen"
    seen.touch()
    for name, value in {"SBATCH_EXPORT": "NONE", "SEEN": str(seen), "SRUN_CPUS_PER_TASK": "9", "SLURM_MEM_PER_CPU": "9"}.items():
        monkeypatch.setenv(name, value)
    Path(sweep.python).write_text(RAY)
    lines = ("export SLURM_EXPORT_ENV=NONE SLURM_MEM_PER_CPU=1 SLURM_HINT=nomultithread SLURM_NTASKS_PER_NODE=3 SRUN_EXPORT_ENV=NONE",)
    cluster = Cluster(mode="ray", nodes=2, cpus=1, memory="100M", time="10", setup=lines)
    (job,) = submit(cluster, sweep, "abc", 0.0, {"ClusterName": "test"}, lambda line: None)
    slurm.wait_for(job, "COMPLETED", "FAILED", "CANCELLED", seconds=90)
    assert slurm.states(job) == {job: "COMPLETED"}, logs(sweep.paths.store)
    starts = sorted(seen.read_text().splitlines())
    assert [start.split()[:3] for start in starts] == [["n1", "64", "token"], ["n2", "64", "token"]]
    assert sum("--head" in start for start in starts) == 1


def test_a_printed_script_that_is_piped_to_sbatch_plans_runs_and_is_known(slurm, tmp_path, monkeypatch, capsys):
    for name, value in {**slurm.environment, "XDG_CONFIG_HOME": str(tmp_path / "config")}.items():
        monkeypatch.setenv(name, value)
    folders = [f"paths.{name}={tmp_path / 'a b' / name}" for name in ("results", "artifacts", "data")]
    words = ["experiment=demo", "methods=[finetune]", "seeds=[1]", "trainer.epochs=1", "cluster=example", *folders]
    assert main(["script", *words, "cluster.gpus=0", "cluster.cpus=1", "cluster.memory=1500M", "cluster.tasks=2", "cluster.time=20"]) == 0
    script = capsys.readouterr().out
    assert not (tmp_path / "a b").exists()
    job = slurm.call("sbatch", "--parsable", f"--chdir={tmp_path}", stdin=script).strip()
    slurm.wait_for(job, "COMPLETED", "FAILED", seconds=280)
    store = tmp_path / "a b" / "results"
    early = "".join(path.read_text() for path in tmp_path.glob("slurm-*.out"))
    assert main(["status", str(store)]) == 0, early
    output = capsys.readouterr().out
    assert ", 0 failed, 0 to do" in output, early + logs(store)
    assert [one.job for one in submissions(store)] == [job]
    assert len({path.name for path in (store / "logs").glob(f"slurm-{job}_*.log")}) == 2

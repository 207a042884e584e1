"""A Ray cluster inside an allocation on a real Slurm: interrupted in every way, beside another one on the same node."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from slurm import ray_job
from slurm.attempt import read_all
from slurm.batch import Sweep
from slurm.cluster import Cluster

HOME = Path(__file__).parents[2]
END_TO_END = HOME / "tests" / "end_to_end"
EPOCHS = 40


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """sweep(name, seeds): a planned sweep of slow trainings with two settings each, and the paths to observe it."""
    from sweeper.plan.snapshot import take_snapshot

    monkeypatch.syspath_prepend(str(END_TO_END / "plugins"))

    def make(name, seeds, *words):
        snapshot = take_snapshot(
            [
                f"--config-dir={END_TO_END / 'yaml'}", f"paths.results={tmp_path / name}", f"paths.artifacts={tmp_path / 'artifacts'}",
                f"paths.data={tmp_path / 'data'}", "experiment=going_wrong", "methods=[goes_wrong@diverging]", "trainer=slow",
                f"trainer.epochs={EPOCHS}", f"seeds={seeds}", "order=longest", "backend=ray", f"name={name}", *words,
            ]
        )  # fmt: skip
        store, where = snapshot.paths.store, tmp_path / f"{name}.where"
        (store / "logs").mkdir(parents=True, exist_ok=True)
        of = Sweep(name, snapshot.paths, HOME, sys.executable, snapshot.plan, order=snapshot.order, plugins=("standins",))
        setup = (
            f"export PYTHONPATH={END_TO_END / 'plugins'} SAP_SWEEP_CHECKPOINT_SECONDS=0 STANDINS_WHERE={where} SPT_NOENV=1 NAMED={name}",
        )
        return SimpleNamespace(sweep=of, store=store, setup=setup, where=where, planned=snapshot.counts.planned)

    return make


def begun_epochs(run):
    """How many epochs were begun so far, of all trainings and starts together."""
    return run.where.read_text().count(" 0\n") if run.where.exists() else 0


def rows_of(store):
    return sorted(row["run_id"] for path in (store / "rows").glob("[!.]*.parquet") for row in pq.read_table(path).to_pylist())


def log_of(run):
    return "\n".join(path.read_text(errors="replace") for path in sorted((run.store / "logs").glob("slurm-*.log")))[-6000:]


def processes(slurm, run, *words):
    """Those of one of the two jobs, which its set-up line names."""
    mark, found = f"NAMED={run.sweep.name}".encode(), []
    for pid in slurm.processes(*words):
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:
            continue
    return found


def kill(pids):
    assert pids
    os.kill(pids[0], signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.timeout(900)
def test_a_ray_sweep_survives_everything_and_disturbs_nobody(make_slurm, sweep):
    run, other = sweep("mine", [1, 2, 3, 4]), sweep("other", [5])
    with make_slurm(nodes=2, cpus=2, gpus=0) as slurm:
        shape = {"mode": "ray", "gpus": 0, "cpus": 1, "memory": "1000M", "time": "30", "warning_seconds": 40}
        mine = Cluster(name="mine", nodes=2, setup=run.setup, **shape)
        beside = Cluster(name="other", nodes=1, setup=other.setup, sbatch=("--nodelist=n1",), **shape)
        job = slurm.call("sbatch", "--parsable", stdin=ray_job.text(mine, run.sweep)).strip()
        second = slurm.call("sbatch", "--parsable", stdin=ray_job.text(beside, other.sweep)).strip()
        interruptions = 0

        def goes_on(after=3):
            """Wait until further epochs have begun, which shows that the cluster is up."""
            before = begun_epochs(run)
            slurm.wait(lambda: begun_epochs(run) >= before + after, 240, f"epochs after {before}: {log_of(run)}")

        def interrupt(how):
            nonlocal interruptions
            how()
            interruptions += 1
            goes_on()

        def steps_on(node):
            lines = slurm.call("squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i %N").splitlines()
            return [line.split()[0] for line in lines if line.split()[-1] == node and line.split()[0].split(".")[1].isdigit()]

        def raylets(address):
            return [pid for pid in processes(slurm, run, "raylet/raylet") if f"--node_ip_address={address}" in _line(pid)]

        goes_on()
        slurm.wait(lambda: begun_epochs(other) >= 1, 240, f"the other sweep: {log_of(other)}")
        neighbours = processes(slurm, other, "raylet/raylet")
        assert len(neighbours) == 1
        slurm.wait(lambda: len(processes(slurm, run, "Trainable.train")) == 2, 240, "both nodes at work")
        interrupt(lambda: kill(processes(slurm, run, "Trainable.train")))
        (step,) = steps_on("n2")
        interrupt(lambda: slurm.call("scancel", step))
        interrupt(lambda: kill(processes(slurm, run, "sweeper.backends.ray_cluster")))
        for address in ("127.0.0.12", "127.0.0.11"):  # of the second node, which starts Ray again, and of the first, the head
            slurm.wait(lambda address=address: raylets(address), 240, f"Ray on {address}: {log_of(run)}")
            interrupt(lambda address=address: kill(raylets(address)))
        assert "RAY_AUTH_TOKEN" not in "".join(path.read_text(errors="replace") for path in run.store.rglob("*") if path.is_file())
        assert processes(slurm, other, "raylet/raylet") in (neighbours, [])  # untouched by all that, or at its end
        interrupt(lambda: slurm.call("scancel", "--batch", "--signal=USR1", job))  # as Slurm does before the time limit
        interrupt(lambda: slurm.call("scontrol", "requeue", job))
        slurm.wait_for(second, seconds=300)
        slurm.wait_for(job, seconds=300)
        assert slurm.states(second) == {second: "COMPLETED"}, log_of(other)
        assert slurm.states(job) == {job: "COMPLETED"}, log_of(run)
        for one in (run, other):
            slurm.wait(lambda one=one: not processes(slurm, one), 20, f"processes of {one.sweep.name} to end")
    for one in (run, other):
        planned = sorted(row["run_id"] for row in pq.read_table(one.store / "plan.parquet").to_pylist())
        assert rows_of(one.store) == planned
    assert begun_epochs(other) == EPOCHS  # it was never interrupted
    assert begun_epochs(run) <= 4 * EPOCHS + 2 * interruptions  # two trainings at a time, each loses the epoch it was in
    starts = {attempts.job: attempts.starts for attempts in read_all(run.store)}
    assert starts[job] >= 5
    assert {attempts.job: attempts.starts for attempts in read_all(other.store)} == {second: 1}


def _line(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")

"""A sweep as a job array on a real Slurm: interrupted in every way, it ends with every planned row exactly once."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

HOME = Path(__file__).resolve().parents[2]
STANDINS = HOME / "tests" / "end_to_end"
SECRETS = {"WANDB_API_KEY": "planted-0123456789abcdef", "AWS_SECRET_ACCESS_KEY": "planted-fedcba9876543210"}
CLUSTER = """
gpus: 0
cpus: 1
memory: 900M
time: 00:20:00
tasks: 2
warning_seconds: 30
"""


class Desk:
    """A user's desk on the login node: the commands, with folders and a configuration of their own."""

    def __init__(self, slurm, folder):
        self.slurm, self.folder, self.store = slurm, folder, folder / "results"
        clusters = folder / "config" / "sap-sweep" / "cluster"
        clusters.mkdir(parents=True)
        (clusters / "two.yaml").write_text(CLUSTER)
        (folder / "data").mkdir()
        self.environment = {
            **slurm.environment, **SECRETS, "XDG_CONFIG_HOME": str(folder / "config"), "SAP_SWEEP_CHECKPOINT_SECONDS": "0",
            "SAP_SWEEP_LEASE_SECONDS": "8", "PYTHONPATH": str(STANDINS / "plugins"),
        }  # fmt: skip

    def run(self, *words, code=0, **more):
        done = subprocess.run(
            [sys.executable, "-m", "slurm", *words],
            cwd=HOME,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == code, done.stderr
        return done

    def words(self, *more):
        return [
            "--config-dir", str(STANDINS / "yaml"), "--config-dir", str(HOME / "tests" / "slurm" / "yaml"), "experiment=array",
            f"paths.results={self.store}", f"paths.artifacts={self.folder / 'artifacts'}", f"paths.data={self.folder / 'data'}", *more,
        ]  # fmt: skip

    def submit(self, *more):
        return self.run("submit", *self.words(*more), "cluster=two").stdout.split()

    def checkpoints(self):
        return list((self.folder / "artifacts").glob("*/last.safetensors"))

    def wait_for_epochs(self, job, count=2):
        """Until every task runs, and so many trainings have stored an epoch since now."""
        self.slurm.wait(lambda: set(self.slurm.states(job).values()) == {"RUNNING"}, 60, f"the tasks to run; {self.logs()}")
        before = {path: path.stat().st_mtime_ns for path in self.checkpoints()}
        changed = lambda: sum(path.stat().st_mtime_ns != before.get(path) for path in self.checkpoints())  # noqa: E731
        self.slurm.wait(lambda: changed() >= count, 60, f"{count} trainings to store an epoch; {self.logs()}")

    def wait_for_log(self, text, count=1, seconds=40):
        self.slurm.wait(lambda: self.logs().count(text) >= count, seconds, f"{count} x {text!r}; {self.logs()}")

    def logs(self):
        return "\n".join(path.read_text() for path in sorted((self.store / "logs").glob("slurm-*.log")))

    def begun(self):
        """Epochs at which trainings were begun or gone on with, in order, by job."""
        found = {}
        for path in (self.store / "logs").glob("*.log"):
            lines = re.findall(r"continues at epoch (\d+)|(begins, attempt)", path.read_text())
            found[path.stem] = [int(epoch) for epoch, _ in lines if epoch]
        return found

    def assert_whole(self):
        rows = [
            row
            for path in (self.store / "rows").glob("[!.]*.parquet")
            for row in pq.read_table(path, columns=["run_id", "status"]).to_pylist()
        ]
        plan = pq.read_table(self.store / "plan.parquet", columns=["run_id"]).column("run_id").to_pylist()
        assert Counter(row["run_id"] for row in rows) == Counter(plan), self.logs()
        assert {row["status"] for row in rows} == {"ok"}


@pytest.fixture
def desk(slurm, tmp_path):
    desk = Desk(slurm, tmp_path)
    yield desk
    for job in slurm.call("squeue", "--noheader", "--format=%A", check=False).split():
        slurm.call("scancel", job, check=False)
    slurm.wait(lambda: not slurm.call("squeue", "--noheader", check=False).strip(), 20, "the queue to be empty")


def test_a_sweep_is_submitted_interrupted_three_times_and_ends_whole(desk, slurm):
    start = time.monotonic()
    jobs = desk.submit()
    assert len(jobs) == 1
    print(f"submit took {time.monotonic() - start:.1f} s")
    job = jobs[0]
    for turn in range(3):
        desk.wait_for_epochs(job)
        slurm.call("scontrol", "requeue", job, check=False)
        desk.wait_for_log("told to store", 2 * (turn + 1))
        if turn == 0:
            said = desk.run("status", str(desk.store)).stdout
            assert re.search(r"waiting: .*BeginTime \(it was requeued a moment ago\)|running: ", said), said
    slurm.wait_for(job, seconds=150)
    assert set(slurm.states(job).values()) == {"COMPLETED"}, desk.logs()
    desk.assert_whole()
    assert not slurm.processes("sweeper.execute")
    said = desk.run("status", str(desk.store)).stdout
    assert "0 to do" in said
    assert "restarts: 6 of 8 starts" in said
    secrets(desk)


def secrets(desk):
    """No file of the sweep, the user's configuration or Slurm's logs holds a secret of the environment."""
    seen = 0
    for root in (desk.store, desk.folder / "artifacts", desk.folder / "config", desk.slurm.folder / "log"):
        for path in root.rglob("*"):
            if path.is_file():
                seen += 1
                content = path.read_bytes()
                assert not any(value.encode() in content for value in SECRETS.values()), path
                assert str(desk.folder).encode() not in content or "logs" in path.parts or path.suffix in (".yaml", ".log"), path
    assert seen > 10

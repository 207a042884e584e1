"""A sweep as a job array on a real Slurm: interrupted in every way, it ends with every planned row exactly once."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from slurm.__main__ import main

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

    def __init__(self, slurm, folder, capsys):
        self.slurm, self.folder, self.store, self.capsys = slurm, folder, folder / "results", capsys
        clusters = folder / "config" / "sap-sweep" / "cluster"
        clusters.mkdir(parents=True)
        (clusters / "two.yaml").write_text(CLUSTER)
        (folder / "data").mkdir()
        self.environment = {
            **slurm.environment, **SECRETS, "XDG_CONFIG_HOME": str(folder / "config"), "SAP_SWEEP_CHECKPOINT_SECONDS": "0",
            "SAP_SWEEP_LEASE_SECONDS": "8", "PYTHONPATH": str(STANDINS / "plugins"),
        }  # fmt: skip

    def run(self, *words, code=0):
        """(standard output, standard error) of a command, in this process: importing torch takes longer than most of them."""
        self.capsys.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(HOME)
            for name in [name for name in os.environ if name.startswith("SLURM")]:
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.syspath_prepend(STANDINS / "plugins")
            found = main(list(words))
        out, err = self.capsys.readouterr()
        assert found == code, err
        return out, err

    def words(self, *more):
        return [
            "--config-dir", str(STANDINS / "yaml"), "--config-dir", str(HOME / "tests" / "slurm" / "yaml"), "experiment=array",
            f"paths.results={self.store}", f"paths.artifacts={self.folder / 'artifacts'}", f"paths.data={self.folder / 'data'}", *more,
        ]  # fmt: skip

    def submit(self, *more):
        return self.run("submit", *self.words(), "cluster=two", *more)[0].split()

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

    def assert_whole(self):
        rows = [
            row
            for path in (self.store / "rows").glob("[!.]*.parquet")
            for row in pq.read_table(path, columns=["run_id", "status"]).to_pylist()
        ]
        plan = pq.read_table(self.store / "plan.parquet", columns=["run_id"]).column("run_id").to_pylist()
        assert Counter(row["run_id"] for row in rows) == Counter(plan), self.logs()
        assert {row["status"] for row in rows} == {"ok"}

    def assert_nothing_lost(self):
        """Every training went on at the epoch after the last that was stored: no epoch ran more than once too often per start."""
        for path in (self.store / "logs").glob("[!s]*.log"):
            text = path.read_text()
            epochs = [int(number) for number in re.findall(r"resumes at epoch (\d+)", text)]
            assert epochs == sorted(epochs), text
            assert text.count(" starts, attempt 1") == len(re.findall(" starts, attempt", text)), text
            if " train begins" in text or "train " in text.split("begins")[0]:
                assert len(epochs) >= text.count(" begins") - 2, text  # a start may be told to end before its first epoch

    def assert_no_secrets(self):
        """No file of the sweep, the user's configuration or Slurm's logs contains a secret of the environment, and no record a path."""
        seen = 0
        for root in (self.store, self.folder / "artifacts", self.folder / "config", self.slurm.folder / "log"):
            for path in filter(Path.is_file, root.rglob("*")):
                seen += 1
                content = path.read_bytes()
                assert not any(value.encode() in content for value in SECRETS.values()), path
                assert str(self.folder).encode() not in content or path.suffix in (".yaml", ".log"), path
        assert seen > 10


@pytest.fixture
def desk(slurm, tmp_path, capsys):
    desk = Desk(slurm, tmp_path, capsys)
    yield desk
    for job in slurm.call("squeue", "--noheader", "--format=%A", check=False).split():
        slurm.call("scancel", job, check=False)
    slurm.wait(lambda: not slurm.call("squeue", "--noheader", check=False).strip(), 20, "the queue to be empty")


def test_requeued_three_times_in_the_middle(desk, slurm):
    (job,) = desk.submit()
    for turn in range(3):
        desk.wait_for_epochs(job)
        slurm.call("scontrol", "requeue", job)
        desk.wait_for_log("asking the workers to store", 2 * (turn + 1))
        if turn == 0:
            output = desk.run("status", str(desk.store))[0]
            assert re.search(r"pending: .*BeginTime \(it was requeued recently|running: ", output), output
    slurm.wait_for(job, seconds=150)
    assert set(slurm.states(job).values()) == {"COMPLETED"}, desk.logs()
    desk.assert_whole()
    desk.assert_nothing_lost()
    assert not slurm.processes("sweeper.execute")
    output = desk.run("status", str(desk.store))[0]
    assert "0 to do" in output
    assert "restarts: 6 of 8 starts" in output
    spent = re.search(r"spent so far: 0\.00 GPU-hours, (\d+\.\d\d) core-hours", output)
    assert spent is not None, output
    assert float(spent[1]) > 0
    desk.assert_no_secrets()


def test_the_warning_comes_twice_and_then_the_limit(desk, slurm):
    """Slurm's limits are whole minutes: the first two warnings are sent by hand, the third is the one before a minute's limit."""
    (job,) = desk.submit("cluster.tasks=1", "cluster.time=1", "cluster.warning_seconds=10", "seeds=[1]", "trainer.epochs=160")
    for turn in range(2):
        desk.wait_for_epochs(job, count=1)
        slurm.call("scancel", "--batch", "--signal=USR1", f"{job}_0")
        desk.wait_for_log("requesting a requeue", turn + 1)
    desk.wait_for_log("requesting a requeue", 3, seconds=120)
    slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=20")  # enough: a busy machine would need many of these minutes
    slurm.wait_for(job, seconds=200)
    assert set(slurm.states(job).values()) == {"COMPLETED"}, desk.logs()
    assert desk.logs().count("received USR1") >= 3
    desk.assert_whole()
    desk.assert_nothing_lost()


def test_a_worker_is_killed_and_a_task_cancelled_while_two_submissions_run(desk, slurm):
    words = ("cluster.tasks=1", "trainer.epochs=80")
    (one,) = desk.submit(*words)
    out, output = desk.run("submit", *desk.words(), "cluster=two", *words)
    other = out.strip()
    assert f"1 batch jobs or array tasks of this sweep are queued already ({one}_0 ...)" in output
    slurm.wait(lambda: len(slurm.processes("sweeper.execute", f"{desk.store}")) == 2, 60, f"two workers; {desk.logs()}")
    desk.wait_for_epochs(one, count=1)
    os.kill(slurm.processes("sweeper.execute", f"{desk.store}")[0], signal.SIGKILL)
    desk.wait_for_log("exited with code 137; restarting the workers")
    slurm.call("scancel", f"{one}_0")
    slurm.wait_for(other, seconds=150)
    slurm.wait_for(one)
    assert slurm.states(one) == {f"{one}_0": "CANCELLED"}
    assert slurm.states(other) == {f"{other}_0": "COMPLETED"}
    assert "requesting a requeue" not in desk.logs()
    desk.assert_whole()
    desk.assert_nothing_lost()
    assert "all jobs are done; nothing was submitted" in desk.run("submit", str(desk.store), "cluster=two", "plugins=[standins]")[1]

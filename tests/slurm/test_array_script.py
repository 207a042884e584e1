"""The batch script of an array: its text, and its behaviour in bash with programs that record their arguments."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.errors import UserError
from slurm.array_job import ArrayChunk, array_chunks, text
from slurm.batch import Sweep
from slurm.check import text as check_text
from slurm.cluster import Cluster
from slurm.script import script_text, submission_plan
from sweeper.jobs.job import SweepPaths

GOLDEN = Path(__file__).parent / "golden" / "array.sh"
TAG = "0a1b2c3d-4e5f6a7b"
NASTY = ["a b", "$(touch owned)", "`touch owned`", "x;touch owned", "$HOME", "&", "*", "a%j"]


def sweep(folder: Path, python: str = "/home/me/venv/bin/python") -> Sweep:
    paths = SweepPaths(data=folder / "data", store=folder / "results", artifacts=folder / "artifacts")
    return Sweep("table1", paths, folder, python, folder / "results/slurm/plan-1.jsonl", tag=TAG, packages=(str(folder),))


def test_the_text_matches_the_golden_file():
    cluster = Cluster(
        "mine", partition="long", account="lab", qos="high", constraint="a100|h100", gpus=2, gpu_type="a100", cpus=8, memory="64G",
        time="1-00:00:00", tasks=8, concurrent=4, processes=4, container="apptainer exec --nv /images/sap.sif", scratch="/scratch/$USER",
        setup=("module load cuda/12.4",), sbatch=("--exclude=n17",),
    )  # fmt: skip
    assert text(cluster, sweep(Path("/home/me/sap sweep")), ArrayChunk(4, 8, 16)) == GOLDEN.read_text()
    assert subprocess.run(["bash", "-n"], input=GOLDEN.read_text(), text=True, check=False).returncode == 0


@given(st.integers(1, 40), st.none() | st.integers(1, 12), st.none() | st.integers(1, 50), st.none() | st.integers(1, 12))
def test_chunks_cover_every_task_once_within_the_limits(tasks, max_array, max_submit, limit_of_cluster):
    found = array_chunks(Cluster(tasks=tasks, max_array=max_array, max_submit=max_submit), limit_of_cluster)
    total = min(tasks, max_submit or tasks)
    assert [number for chunk in found for number in range(chunk.first, chunk.first + chunk.count)] == list(range(total))
    assert all(chunk.count <= min(max_array or total, limit_of_cluster or total) and chunk.total == total for chunk in found)


class Node:
    """A compute node of stub programs: `python` records its arguments and then runs the lines `does`."""

    def __init__(self, folder: Path, does: str, state: str = "RUNNING") -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (folder / "results" / "logs").mkdir(parents=True)
        (folder / "words").mkdir()  # a file per call: two workers that start together do not write into one
        self.program("python", f'printf "%s\\0" "$@" > "$(mktemp {shlex.quote(str(folder))}/words/XXXXXXXX)"\n{does}')
        show = f'echo JobState={state}; echo "   StdOut={folder}/log"'
        self.program("scontrol", f'echo "$@" >> {shlex.quote(str(folder))}/scontrol; {show}; [ "$1" != requeue ] || exit 1')
        self.environment = {
            "PATH": f"{self.bin}:{os.environ['PATH']}", "SLURM_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "11",
            "HOME": "/nowhere", "USER": "me",
        }  # fmt: skip

    def program(self, name: str, lines: str) -> None:
        path = self.bin / name
        path.write_text(f"#!/usr/bin/env bash\n{lines}\n")
        path.chmod(0o755)

    def start(self, cluster: Cluster, chunk: ArrayChunk | None = None, home: Path | None = None) -> subprocess.Popen[str]:
        known = replace(sweep(self.folder, str(self.bin / "python")), home=home or self.folder)
        (self.folder / "job.sh").write_text(text(cluster, known, chunk or ArrayChunk(0, 2, 2)))
        return subprocess.Popen(
            ["bash", str(self.folder / "job.sh")],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        )

    def calls(self, *words: str) -> list[list[str]]:
        found = [path.read_text().split("\0")[:-1] for path in (self.folder / "words").iterdir()]
        return [call for call in found if all(word in call for word in words)]

    def requeues(self) -> int:
        path = self.folder / "scontrol"
        return path.read_text().count("requeue") if path.exists() else 0


@pytest.mark.parametrize("name", NASTY)
def test_nothing_in_a_name_is_run_by_the_shell(tmp_path, name):
    folder = tmp_path / name
    node = Node(folder, "exit 0")
    process = node.start(Cluster(processes=2))
    assert process.wait(30) == 0, process.communicate()
    assert not list(tmp_path.rglob("owned"))
    assert not Path("/owned").exists()
    workers = node.calls("sweeper.execute")
    assert [call[call.index("--shard") + 1] for call in sorted(workers, key=str)] == ["3/4", "4/4"]
    assert all(call[call.index("--store") + 1] == str(folder / "results") for call in workers)
    assert node.calls("slurm.attempt", "begin")
    assert node.calls("slurm.attempt", "end", "--code", "0")


@pytest.mark.parametrize("character", ['"', "'", "\\", "\n"])
def test_folders_that_sbatch_misreads_are_refused(tmp_path, character):
    with pytest.raises(UserError, match="sbatch misreads"):
        text(Cluster(), sweep(tmp_path / f"a{character}b"), ArrayChunk(0, 1, 1))


def test_killed_workers_are_restarted_until_the_limit(tmp_path):
    count = tmp_path / "node" / "starts"
    does = f"""
case "$*" in
  *attempt\\ begin*) echo x >> {count}; [ $(wc -l < {count}) -lt 4 ] || exit 3 ;;
  *attempt\\ end*) exit 1 ;;
  *) kill -KILL $$ ;;
esac"""
    node = Node(tmp_path / "node", does)
    process = node.start(Cluster())
    out = process.communicate(timeout=30)[0]
    assert process.returncode == 3
    assert out.count("a worker exited with code 137; restarting the workers") == 3
    assert len(node.calls("sweeper.execute")) == 3
    assert node.requeues() == 0


@pytest.mark.parametrize("code", [0, 1, 2])
def test_the_programs_exit_code_is_the_jobs(tmp_path, code):
    node = Node(tmp_path / "node", f'case "$*" in *attempt\\ begin*) ;; *attempt\\ end*) exit 1 ;; *) exit {code} ;; esac')
    assert node.start(Cluster()).wait(30) == code


@pytest.mark.parametrize(
    ("sent", "state", "requeues"),
    [
        ("USR1", "RUNNING Reason=None", 1),
        ("TERM", "RUNNING Reason=None", 1),
        ("TERM", "CANCELLED Reason=None", 0),
        ("TERM", "COMPLETING Reason=None", 0),  # scancel, or a requeue that somebody asked for
        ("TERM", "COMPLETING Reason=TimeLimit", 1),
        ("TERM", "COMPLETING Reason=Preempted", 1),
    ],
)
def test_a_signal_reaches_the_programs_and_then_the_job_asks_for_a_requeue(tmp_path, sent, state, requeues):
    does = f"""
case "$*" in *attempt\\ begin*) exit 0 ;; *attempt\\ end*) exit 1 ;; esac
trap 'echo stored >> {tmp_path}/stored; exit 130' TERM
echo up >> {tmp_path}/up
while :; do sleep 0.05; done"""
    node = Node(tmp_path / "node", does, state)
    (node.folder / "log").write_text(
        f"error: *** JOB 12 ON n1 CANCELLED AT now{' DUE TO PREEMPTION' if 'Preempted' in state else ''} ***\n"
    )
    process = node.start(Cluster(processes=2))
    for _ in range(400):
        if (tmp_path / "up").exists() and (tmp_path / "up").read_text().count("up") == 2:
            break
        time.sleep(0.05)
    process.send_signal(getattr(signal, f"SIG{sent}"))
    out = process.communicate(timeout=30)[0]
    assert (tmp_path / "stored").read_text().count("stored") == 2, out
    assert node.requeues() == requeues
    assert process.returncode == (1 if requeues else 0)
    assert f"received {sent}; asking the workers to store their state and exit" in out


@pytest.mark.parametrize(
    "line", ["set -euo pipefail", "set -e; trap 'echo mine' ERR TERM USR1", "set -eu; cd /; IFS=:", "set -f -C", "umask 077"]
)
def test_options_of_setup_do_not_lose_the_requeue(tmp_path, line):
    does = """
case "$*" in *attempt\\ begin*) exit 0 ;; *attempt\\ end*) exit 1 ;; esac
trap 'exit 130' TERM
echo up
while :; do sleep 0.05; done"""
    node = Node(tmp_path / "node", does)
    process = node.start(Cluster(setup=(line,), warning_seconds=30))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGUSR1)
    out = process.communicate(timeout=30)[0]
    assert "requesting a requeue to continue from the stored state" in out
    assert node.requeues() == 1


FAILS = {
    "python": "exit 127",
    "worker": 'case "$*" in *attempt\\ begin*) exit 0 ;; *attempt\\ end*) exit 4 ;; *) exit 2 ;; esac',
}


@pytest.mark.parametrize("does", FAILS.values(), ids=FAILS)
@pytest.mark.parametrize(
    ("nodes", "before", "requeues"),
    [("n1 n2 n3", "", 1), ("n1", "", 0), ("n1 n2", "n2 7\n", 0), ("n1 n2 n9", "n2 1\nn1 1\n", 0), ("n1 n2 n3", "n2 7\n", 1)],
)
def test_a_start_that_fails_at_once_avoids_the_node(tmp_path, does, nodes, before, requeues):
    node = Node(tmp_path / "node", does, "RUNNING ExcNodeList=n17")
    node.program("sinfo", f"printf '%s\\n' {nodes}")
    node.program("scontrol", f'echo "$*" >> {node.folder}/scontrol; echo "   ReqNodeList=(null) ExcNodeList=n17"')
    node.environment |= {"SAP_SWEEP_BACK_OFF_SECONDS": "0", "SLURMD_NODENAME": "n1", "SLURM_JOB_PARTITION": "long"}
    failed = node.folder / "results/slurm/failed_starts" / TAG
    failed.parent.mkdir(parents=True)
    failed.write_text(before)
    process = node.start(Cluster())
    out = process.communicate(timeout=30)[0]
    assert f"the start failed at once on node n1 (exit code {process.returncode})" in out
    assert process.returncode in (2, 127)
    assert failed.read_text() == f"{before}n1 1\n"
    assert node.requeues() == requeues
    if requeues:
        others = "n1,n2" if before else "n1"
        assert f"update JobId=12 ExcNodeList=n17,{others}" in (node.folder / "scontrol").read_text()


@pytest.mark.parametrize(
    ("lines", "code"), [(("set -euo pipefail", "module load missing"), 127), (("exit 0",), 2), (("set -e; tag=mine", "cd /missing"), 1)]
)
def test_a_setup_that_ends_the_script_avoids_the_node(tmp_path, lines, code):
    node = Node(tmp_path / "node", "exit 1")
    node.program("sinfo", "printf '%s\\n' n1 n2")
    node.environment |= {"SAP_SWEEP_BACK_OFF_SECONDS": "0", "SLURMD_NODENAME": "n1", "SLURM_JOB_PARTITION": "long"}
    process = node.start(Cluster(setup=lines))
    out = process.communicate(timeout=30)[0]
    assert f"the lines of setup ended with exit code {0 if code == 2 else code}" in out
    assert process.returncode == code
    assert (node.folder / "results/slurm/failed_starts" / TAG).read_text() == "n1 1\n"
    assert node.requeues() == 1


def test_a_node_that_does_not_see_the_folders_is_left(tmp_path):
    node = Node(tmp_path / "node", "exit 1")
    node.program("sinfo", "printf '%s\\n' n1 n2")
    node.environment |= {"SAP_SWEEP_BACK_OFF_SECONDS": "0", "SLURMD_NODENAME": "n1"}
    process = node.start(Cluster(), home=tmp_path / "missing")
    assert "does not see this folder" in process.communicate(timeout=30)[0]
    assert process.returncode == 2
    assert node.requeues() == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_during_setup_is_no_fault_of_the_node(tmp_path, number):
    node = Node(tmp_path / "node", "exit 1")
    process = node.start(Cluster(setup=("echo up", "while :; do sleep 0.05; done")))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert node.requeues() == 0


def test_a_cancelled_job_requests_no_requeue(tmp_path):
    """Slurm may still say RUNNING of a job that was cancelled a moment ago."""
    does = """
case "$*" in *attempt\\ begin*) exit 0 ;; *attempt\\ end*) exit 1 ;; esac
trap 'exit 130' TERM
echo up
while :; do sleep 0.05; done"""
    node = Node(tmp_path / "node", does)
    (node.folder / "results/slurm/cancelled").mkdir(parents=True)
    (node.folder / f"results/slurm/cancelled/{TAG}_1").touch()
    process = node.start(Cluster())
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert "cancelled" in process.communicate(timeout=30)[0]
    assert node.requeues() == 0


def test_the_environment_is_written_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "planted-0123456789abcdef")
    cluster = Cluster(gpus=1, scratch="/scratch/$USER")
    for script in (text(cluster, sweep(tmp_path), ArrayChunk(0, 1, 1)), check_text(cluster, sweep(tmp_path), "token")):
        assert "planted" not in script
        assert "WANDB" not in script


def test_dispatch():
    cluster = Cluster(tasks=3, max_array=2)
    found = submission_plan(cluster)
    assert [chunk.count for chunk in found if chunk] == [2, 1]
    assert script_text(cluster, sweep(Path("/x")), found[0]).count("#SBATCH --array=0-1\n") == 1

"""A node of a job's own Ray cluster, and the script that starts it, as text: nothing that could meet another Ray."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from slurm import ray_job, ray_node
from slurm.batch import Sweep
from slurm.cluster import Cluster
from sweeper.jobs.job import SweepPaths

PATHS = SweepPaths(data=Path("/data"), store=Path("/disk/my store"), artifacts=Path("/art"))
SWEEP = Sweep("mine", PATHS, Path("/home/me/a b"), "/venv/bin/python", Path("/disk/p.jsonl"))


def test_addresses_of_slurm_are_used_unchanged():
    assert ray_node.node_address("10.77.0.3") == "10.77.0.3"
    assert ray_node.node_address("fd00::3") == "fd00::3"


@pytest.mark.parametrize("name", ["localhost", "no-such-host.invalid", ""])
def test_a_name_that_means_this_machine_alone_is_no_address_for_others(name):
    found = ipaddress.ip_address(ray_node.node_address(name, "127.0.0.1:9"))
    assert str(found) == "127.0.0.1"  # the way to the head, which is here in this test


def test_free_ports_differ_and_are_free():
    ports = ray_node.free_ports("127.0.0.1", 5)
    assert len(set(ports)) == 5
    assert ray_node.free_ports("127.0.0.1", 1)


@pytest.mark.parametrize("head", [True, False])
def test_what_is_started_shares_nothing_with_another_ray(head):
    folder = Path("/tmp/sap-ray-abcdefgh")
    words = ray_node.command("10.0.0.1:7000", "10.0.0.2", 4, 2, head, folder, [7101, 7102])
    assert ("--head" in words, "--address=10.0.0.1:7000" in words) == (head, not head)
    assert ("--port=7000" in words, "--include-dashboard=false" in words) == (head, head)
    assert {"--node-ip-address=10.0.0.2", f"--temp-dir={folder}", "--num-cpus=4", "--num-gpus=2", "--block"} <= set(words)
    assert {"--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=7101"} <= set(words)
    assert not any("token" in word.lower() or "auto" in word.lower() for word in words)


def test_socket_paths_stay_short(monkeypatch, tmp_path):
    socket_path = "sap-ray-abcdefgh/r/session_2026-11-29_08-47-42_042211_1234567/sockets/plasma_store"
    with tempfile.TemporaryDirectory(prefix="scratch-", dir="/tmp") as short:
        for named, kept in ((short, True), (str(tmp_path), False)):
            monkeypatch.setattr(tempfile, "tempdir", named)
            assert (str(ray_node.ray_parent_folder()) == named) is kept
            assert len(f"{ray_node.ray_parent_folder()}/{socket_path}") <= 107


def test_all_descendants_are_ended_even_those_that_do_not_want_to(monkeypatch):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    child = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {stubborn!r}]); time.sleep(60)"
    monkeypatch.setattr(ray_node, "GRACE_SECONDS", 0.5)
    program = (
        "import subprocess, sys, time\n"
        "from slurm import ray_node\n"
        "ray_node.GRACE_SECONDS = 0.5\n"
        "ray_node.ctypes.CDLL(None).prctl(36, 1)\n"
        f"first = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE, text=True)\n"
        "assert first.stdout.readline() == 'up\\n'\n"
        "assert len(ray_node.descendants(ray_node.os.getpid())) == 2\n"
        "ray_node.end_descendants()\n"
        "print(ray_node.descendants(ray_node.os.getpid()))\n"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
    assert time.monotonic() - start < 60


@pytest.fixture
def script():
    cluster = Cluster(
        name="big", mode="ray", nodes=3, gpus=4, gpu_type="a100", cpus=16, time="12:00:00", warning_seconds=300,
        setup=("module load cuda",), container="apptainer exec --nv image.sif",
    )  # fmt: skip
    return ray_job.text(cluster, SWEEP)


def test_the_script_is_bash_and_asks_for_nodes(script):
    assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True).stderr == ""
    for line in ("--nodes=3", "--ntasks=3", "--gres=gpu:a100:4", "--requeue", "--signal=B:USR1@300"):
        assert f"#SBATCH {line}" in script
    assert "--grace 280" in script
    assert "step_options=(--cpus-per-task=16 --mem=0 --gres=gpu:a100:4)" in script


def test_the_script_has_no_token_and_touches_no_other_ray(script):
    assert "RAY_AUTH_TOKEN=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n')" in script
    assert "unset RAY_ADDRESS" in script
    for words in ("ray stop", "symmetric-run", "address=auto", "pkill", "killall"):
        assert words not in script


@pytest.mark.parametrize(
    "environment", [{}, {"RAY_AUTH_MODE": "token"}, {"RAY_AUTH_TOKEN": "a" * 64}, {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "short"}]
)
@pytest.mark.parametrize("head", [True, False])
def test_ray_is_not_started_without_a_token(monkeypatch, capsys, environment, head):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ray_node.subprocess, "Popen", lambda *words, **more: pytest.fail("started"))
    words = ["run", "127.0.0.1:7000", "--address", "127.0.0.1", *(["--head"] if head else [])]
    assert ray_node.main(words) == 2
    assert "RAY_AUTH_TOKEN did not reach this process" in capsys.readouterr().err


def test_every_step_gets_the_whole_environment_and_no_options_from_it(script):
    lines = [line for line in script.splitlines() if line.strip().startswith("srun ")]
    assert lines
    assert all("--export=ALL" in line for line in lines)
    unset = script[script.index("unset SLURM_CPUS_PER_GPU") :].split("\nhosts=")[0]
    assert {"SLURM_EXPORT_ENV", "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE", "SLURM_DISTRIBUTION", "${!SRUN_*}"} <= set(unset.split())
    assert "#SBATCH --export=ALL" in script
    assert "unset ${!SLURM_ARRAY_*}" in script


def test_every_start_has_a_token_of_its_own():
    words = ["bash", "-c", "od -An -v -N32 -tx1 /dev/urandom | tr -d ' \\n'"]
    tokens = {subprocess.run(words, capture_output=True, text=True).stdout for _ in range(3)}
    assert len(tokens) == 3
    assert all(len(token) == 64 and int(token, 16) >= 0 for token in tokens)

"""A sweep on an existing Ray cluster: joined by address and token, with shared GPUs, and left running."""

from __future__ import annotations

import secrets
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

WORDS = (
    "experiment=going_wrong",
    "methods=[hungry,goes_wrong@fine]",
    "backend=ray",
    "backend.gpus_per_job=0.25",
    "backend.cpu_jobs=[goes_wrong]",
)
RAY = Path(sys.executable).parent / "ray"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_head(port, head, seconds=60):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert head.poll() is None, head.communicate()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(f"no Ray at port {port} after {seconds} s")


@pytest.fixture(scope="module")
def cluster(bench, e2e):
    """A head with a CPU and a (declared) GPU, and a node with only a CPU; both are ended by process id."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    card = bench.root / "card"
    card.mkdir()
    port, processes = free_port(), []
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="sr-", ignore_cleanup_errors=True) as folder:
        common = [RAY, "start", "--block", "--disable-usage-stats", "--num-cpus=1"]
        head = ["--head", f"--port={port}", "--num-gpus=1", "--include-dashboard=false", f"--temp-dir={folder}"]
        for name, words in (("gpu", head), ("cpu", [f"--address=127.0.0.1:{port}", "--num-gpus=0"])):
            environment = e2e.environment(
                **token,
                STANDINS_NODE=name,
                STANDINS_MEMORY=str(card),
                RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
                **{e2e.MARK: str(bench.root / "ray")},
            )
            with (bench.root / f"{name}.log").open("w") as log:
                processes.append(subprocess.Popen([*common, *words], env=environment, stdout=log, stderr=log))
            wait_for_head(port, processes[0])
        yield f"127.0.0.1:{port}", token, processes, card
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_sweep_shares_the_gpu_of_an_existing_cluster_and_leaves_it_running(bench, cluster):
    address, token, processes, card = cluster
    end = bench.run("swept", *WORDS, f"backend.address={address}", **token)
    store = bench.store("swept")
    assert end.code == 1, end.err
    store.assert_whole()
    rows = {(row["method"], row["settings"]): row for row in store.rows()}
    tried = {name: (row["status"], row["error_type"], row["attempt"], row["device_share"]) for name, row in rows.items()}
    assert tried.pop(("hungry", '{"times": 2}')) == ("ok", None, 3, 1.0)  # with a quarter, a half and then the whole of the card
    assert tried.pop(("hungry", '{"times": 0}')) == ("ok", None, 1, 1.0)  # its kind had learned
    assert tried.pop(("hungry", '{"times": 9}')) == ("failed", "oom", 1, 1.0)  # even alone
    assert {value for (method, _), value in tried.items() if method == "vanilla"} == {("ok", None, 1, 0.25)}
    assert {value for (method, _), value in tried.items() if method == "goes_wrong"} == {("ok", None, 1, 1.0)}
    where = (card / "nodes.log").read_text().split("\n")
    assert {line for line in where if line.startswith("hungry")} == {"hungry gpu"}
    assert "goes_wrong cpu" in where
    assert [process.poll() for process in processes] == [None, None]
    assert not [path for path in Path("/tmp").glob("sap-ray-*") if path.stat().st_mtime > card.stat().st_mtime]
    assert token["RAY_AUTH_TOKEN"] not in "".join(path.read_text(errors="replace") for path in store.root.rglob("*") if path.is_file())


@pytest.mark.slow
def test_a_cluster_is_not_joined_without_its_token(bench, cluster):
    address, _, processes, _ = cluster
    end = bench.run("refused", *WORDS, f"backend.address={address}", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert end.code == 2
    assert end.err.splitlines()[-1].startswith(f"error: the Ray cluster at backend.address={address} could not be joined")
    assert "RAY_AUTH_TOKEN" in end.err
    assert "Traceback" not in end.err
    assert [process.poll() for process in processes] == [None, None]


@pytest.mark.slow
def test_an_unreachable_cluster_is_reported_at_once(bench):
    end = bench.run("nobody", *WORDS, f"backend.address=127.0.0.1:{free_port()}")
    assert end.code == 2
    assert "no Ray cluster answers at backend.address=127.0.0.1:" in end.err.splitlines()[-1]
    assert "Traceback" not in end.err

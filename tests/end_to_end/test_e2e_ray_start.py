"""Ray on this machine: from an environment with an awkward path, listening on loopback alone; and sweeps for which it does not start."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sap_core.machine import parents

pytestmark = pytest.mark.slow

WORDS = ("experiment=demo", "methods=[sap]", "seeds=[1]", "trainer.epochs=1", "model.width=2", "backend.workers=1")
HOME = Path(__file__).parents[2]
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}


def listening(root: int) -> dict[str, str]:
    """Address:port in hexadecimal -> program, of all sockets on which descendants of a process listen (proc_net_tcp(5))."""
    parent, members = parents(), {root}
    while more := {pid for pid, above in parent.items() if above in members} - members:
        members |= more
    owner = {}
    for pid in members:
        try:
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                owner[str(entry.readlink())] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:80]
        except OSError:  # it has ended
            continue
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return {words[1]: owner[f"socket:[{words[9]}]"] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in owner}


def test_ray_runs_from_an_awkward_path_and_listens_on_loopback_alone(bench, tmp_path):
    awkward = tmp_path / "an (odd) 'path' of $HOME"
    awkward.symlink_to(sys.prefix)
    found: dict[str, str] = {}
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).with_name("plugins"))}
    command = [str(awkward / "bin" / "python"), "-m", "sweeper", *bench.words("awkward", *WORDS, "backend=ray")]
    with subprocess.Popen(command, cwd=HOME, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as sweep:
        until = time.monotonic() + 400
        while sweep.poll() is None and time.monotonic() < until:
            found |= listening(sweep.pid)
            time.sleep(0.2)
        sweep.kill()
        error = sweep.stderr.read()
    assert sweep.returncode == 0, error
    assert any("gcs_server" in program for program in found.values())
    assert any("raylet" in program for program in found.values())
    assert {address.split(":")[0] for address in found} <= LOOPBACK, found


AUTO = (
    "import sys; from sweeper.backends import auto_backend as auto; auto.RAY_JOBS = 1; from sweeper.__main__ import main; sys.exit(main())"
)


def test_without_ray_auto_goes_on_and_ray_is_a_sentence(bench):
    explicit = bench.run("limited", *WORDS, "backend=ray", "backend.start_seconds=0.5")
    assert explicit.code == 2
    last = explicit.err.splitlines()[-1]
    # Which of the two comes first depends on the machine.
    assert re.match(r"error: Ray (could not be started \(it took more than|gave no worker within) 0\.5 s", last), explicit.err
    assert "backend.start_seconds" in last
    assert "use backend=local" in last
    assert bench.store("limited").files() == []
    # The same store goes on with another backend.
    auto = bench.run("limited", *WORDS, "backend=auto", "backend.start_seconds=0.5", program=("-c", AUTO))
    assert auto.code == 0, auto.err
    assert "backend=ray (jobs: 2, at least 1)" in auto.err
    assert "backend=local: the sweep goes on with worker processes of this machine, because Ray " in auto.err
    assert len(bench.store("limited").files()) == 2

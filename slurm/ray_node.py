"""One node of a job's own Ray cluster: started, kept, and ended with all that belongs to it. Standard library only.

    python -m slurm.ray_node pick ADDRESS                    prints HOST:PORT for a head on this node
    python -m slurm.ray_node keep HOST:PORT --own ADDRESS --cpus 4 --gpus 1 [--head]

Nothing here can meet another Ray of this node, a colleague's or another job's: every port is chosen by the kernel, the temporary folder is
this process's own (and short, because socket paths are limited to 107 bytes), the address is always named, the token is in the environment
alone, and what is ended at the end are this process's own descendants (never `ray stop`, which ends every Ray that it may).
"""

from __future__ import annotations

import argparse
import ctypes
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from sweeper.backends.ray_session import remove_stale, session_folder

LONGEST_TEMPORARY = 24
"""Ray adds some 75 characters to its folder to name a socket; 107 are allowed."""

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_memory_monitor_refresh_ms": "0",  # it would end our jobs for other people's memory
}
OBJECT_STORE_BYTES = 300_000_000
"""It holds the plan, and nothing else; Ray's default is a third of the machine's memory."""

RESTARTS = 3
"""So often is a node that is not the head started again when its Ray ended by itself."""

GRACE_SECONDS = 5.0
_SUBREAPER = 36


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m slurm.ray_node", description="One node of a job's own Ray cluster.")
    parser.add_argument("action", choices=("pick", "keep"))
    parser.add_argument("address", help="pick: this node, as Slurm names it; keep: HOST:PORT of the head")
    parser.add_argument("--own", help="this node, as Slurm names it")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--head", action="store_true")
    options = parser.parse_args(arguments)
    if options.action == "pick":
        host = own_address(options.address)
        print(f"{host}:{free_ports(host, 1)[0]}")
        return 0
    return keep(options.address, own_address(options.own or "", options.address), options.cpus, options.gpus, options.head)


def own_address(name: str, other: str | None = None) -> str:
    """The address by which other nodes reach this one. `name` is Slurm's: an address, or a host name.

    A host name may stand for a loopback address on its own machine (Debian's 127.0.1.1); then it is the address that leads to `other`
    (HOST:PORT), or to anywhere.
    """
    with suppress(ValueError):
        return str(ipaddress.ip_address(name))
    with suppress(OSError):
        for *_, place in socket.getaddrinfo(name, 0, socket.AF_INET, socket.SOCK_STREAM):
            if name and not ipaddress.ip_address(place[0]).is_loopback:
                return str(place[0])
    host, _, port = (other or "192.0.2.1:9").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, int(port)))  # sends nothing
        return str(probe.getsockname()[0])


def free_ports(host: str, count: int) -> list[int]:
    """Ports of this node that nobody uses now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def command(address: str, own: str, cpus: int, gpus: int, head: bool, folder: Path, ports: Sequence[int]) -> list[str]:
    """`ray start` of one node. 0 lets Ray take any free port; where it has no such choice, `ports` holds one."""
    port = address.rpartition(":")[2]
    alone = ["--head", f"--port={port}", "--include-dashboard=false"]
    if find_spec("grpc") is not None:  # then Ray serves its clients, too, and at 10001 unless told otherwise
        alone.append(f"--ray-client-server-port={ports[1]}")
    return [
        sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block", "--disable-usage-stats",
        *(alone if head else [f"--address={address}"]),
        f"--node-ip-address={own}", f"--temp-dir={folder}", f"--num-cpus={cpus}", f"--num-gpus={gpus}",
        f"--object-store-memory={OBJECT_STORE_BYTES}", f"--dashboard-agent-listen-port={ports[0]}",
        "--min-worker-port=0", "--max-worker-port=0", "--node-manager-port=0", "--object-manager-port=0",
    ]  # fmt: skip


def keep(address: str, own: str, cpus: int, gpus: int, head: bool) -> int:
    """Runs this node's Ray until it ends or this process is told to; returns its exit code, or 0 when told."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)  # what Ray leaves behind becomes this process's child, not init's
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: told.set())
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | ENVIRONMENT
    parent = short_folder()
    remove_stale(parent)  # what killed jobs of this user have left
    code = 1
    for start in range(1 if head else 1 + RESTARTS):
        if start:
            print(f"ray_node: Ray on {own} ended by itself ({code}); starting it again", file=sys.stderr, flush=True)
        with session_folder(parent) as folder:
            words = command(address, own, cpus, gpus, head, folder, free_ports(own, 2))
            with subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as ray:
                while ray.poll() is None and not told.is_set():
                    told.wait(0.2)
                end_descendants()
                code = ray.wait()
        if told.is_set():
            return 0
    return code or 1


def end_descendants() -> None:
    """Asks all descendants of this process to end, and ends those that do not."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        until = time.monotonic() + seconds
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while descendants(os.getpid()) and time.monotonic() < until:
            time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """The living processes below `pid`."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (state := _stat(int(entry.name))) is not None and state[0] != "Z":
            children.setdefault(int(state[1]), []).append(int(entry.name))
    found = list(children.get(pid, []))
    for one in found:
        found += children.get(one, [])
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def short_folder() -> Path:
    """Where this node's Ray may keep its folder: TMPDIR if its path is short enough, else /tmp."""
    named = Path(tempfile.gettempdir())
    return named if len(str(named)) <= LONGEST_TEMPORARY else Path("/tmp")


if __name__ == "__main__":
    raise SystemExit(main())

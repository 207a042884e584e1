"""Run one node of a batch job's own Ray cluster: start Ray, supervise it, and end all its processes. Standard library only.

    python -m slurm.ray_node pick ADDRESS                    prints HOST:PORT for a head on this node
    python -m slurm.ray_node run HOST:PORT --address ADDRESS --cpus 4 --gpus 1 [--head]

Other Ray clusters on the same node, of other users or jobs, are neither joined nor disturbed: the kernel chooses every port, the temporary
folder belongs to this process (and is short, because socket paths are limited to 107 bytes), the address is always explicit, the token
exists in the environment alone, and only descendants of this process are ended. `ray stop` is never called; it ends every Ray of the user.
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
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from sap_core.command_line import program
from sap_core.machine import ending_signals, parents
from sweeper.backends.ray_paths import RAY_FOLDER, plain_interpreter, ray_parent_folder
from sweeper.backends.ray_session import remove_stale, session_folder

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # The monitor counts the whole node's memory and would kill our jobs for that of others.
    "RAY_memory_monitor_refresh_ms": "0",
    # Ray's own default gives every other program on the node precedence over our jobs.
    "RAY_worker_niceness": "0",
}
OBJECT_STORE_BYTES = 300_000_000
"""Size of the object store. It stores the plan alone; Ray's default is a third of the machine's memory."""

# Only workers are restarted here: without its head a cluster has lost its state, so the batch script starts it anew.
RESTARTS = 3
"""Number of times that Ray is restarted on a worker node after it exits on its own."""

MIN_TOKEN_LENGTH = 32
"""Shortest token with which Ray is started, in characters."""

GRACE_SECONDS = 5.0
_PR_SET_CHILD_SUBREAPER = 36  # option of prctl(2)


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    parser = argparse.ArgumentParser(
        allow_abbrev=False, prog="python -m slurm.ray_node", description="Run one node of a batch job's own Ray cluster."
    )
    parser.add_argument("action", choices=("pick", "run"))
    parser.add_argument("head_address", help="pick: this node's address (NodeAddr of Slurm); run: HOST:PORT of the head")
    parser.add_argument("--address", default="", help="this node's address (NodeAddr of Slurm)")
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--head", action="store_true")
    options = parser.parse_args(arguments)
    # Another process takes the port later. It may be lost to a third one meanwhile; the head then exits, and the next start picks another.
    if options.action == "pick":
        host = node_address(options.head_address)
        print(f"{host}:{free_ports(host, 1)[0]}")
        return 0
    own = node_address(options.address, options.head_address)
    return run_node(options.head_address, own, options.cpus, options.gpus, options.head)


def node_address(name: str, other: str | None = None) -> str:
    """Return the IP address by which other nodes reach this one.

    Args:
        name: Slurm's NodeAddr, an address or a host name. A host name may resolve to a loopback address (Debian's 127.0.1.1).
        other: HOST:PORT of another node, from whose route the address is derived if the name does not resolve to a usable one.
    """
    with suppress(ValueError):
        # An address is taken as it is; only names have to be resolved.
        return str(ipaddress.ip_address(name))
    with suppress(OSError):
        # IPv4, because the addresses are joined to HOST:PORT without brackets.
        for *_, address in socket.getaddrinfo(name, 0, socket.AF_INET, socket.SOCK_STREAM):
            if name and not ipaddress.ip_address(address[0]).is_loopback:
                return str(address[0])
    # 192.0.2.1 is reserved for documentation (RFC 5737): without another node it selects the default route.
    host, _, port = (other or "192.0.2.1:9").rpartition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        # A UDP connect selects the route and sends nothing.
        probe.connect((host, int(port)))
        return str(probe.getsockname()[0])


def free_ports(host: str, count: int) -> list[int]:
    """Return unused ports of this node."""
    # All are open at the same time, so that the kernel does not give one port twice.
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((host, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def command(address: str, own: str, cpus: int, gpus: int, head: bool, folder: Path, ports: Sequence[int]) -> list[str]:
    """Return the command line of `ray start` for one node. Port 0 lets Ray choose a free port; `ports` holds those that must be given."""
    port = address.rpartition(":")[2]
    head_options = ["--head", f"--port={port}", "--include-dashboard=false"]
    # With grpc installed Ray starts a client server, at port 10001 by default.
    if find_spec("grpc") is not None:
        head_options.append(f"--ray-client-server-port={ports[1]}")
    return [
        # The interpreter of this program rather than a `ray` on PATH, which may belong to another environment.
        plain_interpreter(), "-c", "from ray.scripts.scripts import main; main()", "start", "--block", "--disable-usage-stats",
        *(head_options if head else [f"--address={address}"]),
        f"--node-ip-address={own}", f"--temp-dir={folder}", f"--num-cpus={cpus}", f"--num-gpus={gpus}",
        f"--object-store-memory={OBJECT_STORE_BYTES}", f"--dashboard-agent-listen-port={ports[0]}",
        "--min-worker-port=0", "--max-worker-port=0", "--node-manager-port=0", "--object-manager-port=0",
    ]  # fmt: skip


def run_node(address: str, own: str, cpus: int, gpus: int, head: bool) -> int:
    """Run this node's Ray until it exits or this process receives a signal.

    Returns:
        Ray's exit code, 0 after a signal, or 2 without a token or a temporary folder, without which Ray is not started.
    """
    # Ray without a token lets everybody in who reaches its port. A container may have dropped the environment of the batch script.
    if os.environ.get("RAY_AUTH_MODE") != "token" or len(os.environ.get("RAY_AUTH_TOKEN", "")) < MIN_TOKEN_LENGTH:
        print(
            "error: Ray was not started, because RAY_AUTH_TOKEN did not reach this process; let the container (and setup) pass "
            "RAY_AUTH_MODE and RAY_AUTH_TOKEN on, as in apptainer exec without --cleanenv",
            file=sys.stderr,
            flush=True,
        )
        return 2
    # Ray's orphans become children of this process, so they can be ended.
    # A call of Linux; elsewhere the orphans stay children of the init process and are found by their parent no longer.
    with suppress(AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    stop = threading.Event()
    for number in (*ending_signals(), signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: stop.set())
    # RAY_ADDRESS would join another cluster of the user.
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | ENVIRONMENT
    try:
        parent = ray_parent_folder()
    except OSError as error:
        print(f"error: Ray was not started: {error}", file=sys.stderr, flush=True)
        return 2
    # Session folders left by killed jobs of this user.
    remove_stale(parent)
    code = 1
    for start in range(1 if head else 1 + RESTARTS):
        if start:
            print(f"ray_node: Ray on {own} exited with code {code}; restarting it", file=sys.stderr, flush=True)
        # A new folder for each start, so that nothing of a Ray that died is found by the next one.
        with session_folder(parent) as folder:
            arguments = command(address, own, cpus, gpus, head, folder / RAY_FOLDER, free_ports(own, 2))
            with subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as ray:
                while ray.poll() is None and not stop.is_set():
                    stop.wait(0.2)
                # Also after Ray has exited by itself: its workers survive it as children of this process.
                end_descendants()
                code = ray.wait()
        if stop.is_set():
            return 0
    # Ray that ends by itself with code 0 has still ended too early.
    return code or 1


def end_descendants() -> None:
    """Terminate all descendants of this process, and kill those that remain."""
    # Ray's processes first get the chance to end by themselves; what ignores TERM is killed.
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        until = time.monotonic() + seconds
        # By number, never by name: other Rays of this user on the node belong to other jobs.
        for pid in descendants(os.getpid()):
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        while descendants(os.getpid()) and time.monotonic() < until:
            time.sleep(0.05)


def descendants(pid: int) -> list[int]:
    """Return the process ids of all living descendants of `pid`."""
    children: dict[int, list[int]] = {}
    for child, parent in parents().items():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, []))
    # The list grows while it is read, which visits descendants level by level.
    for one in found:
        found += children.get(one, [])
    return found


if __name__ == "__main__":
    raise SystemExit(main())

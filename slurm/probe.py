"""What `sap-slurm check` runs on a compute node: looks at each thing that a sweep needs, and says pass or the cure.

    python -m slurm.probe --data DIR --store DIR --artifacts DIR --gpus 1 --processes 1 --token TEXT

One JSON line per question on standard output. Standard library, and torch where it is asked about.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

TOKEN = "seen-from-login"
LONGEST_SOCKET = 107
"""Bytes in the path of a Unix socket."""
RAY_SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""What Ray puts below its temporary folder, at its longest."""
MEMORY_GIB = 2.0
"""For each process: torch with CUDA takes about that before any data."""


@dataclass(frozen=True)
class Answer:
    """One question; `cure` is empty where it passed."""

    name: str
    said: str
    cure: str = ""


def ask_python() -> Answer:
    """Is this Python new enough?"""
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    return Answer("python", f"{version}, {sys.executable}", "use Python 3.11 or newer: cluster.python, or set-up lines" if old else "")


def ask_torch(gpus: int) -> Answer:
    """Does torch see the GPUs, and compute on them?"""
    try:
        import torch
    except (ImportError, OSError) as error:
        return Answer(
            "torch", f"cannot be imported ({error})", "load its module or environment in the cluster's setup lines, or set python"
        )
    if not gpus:
        return Answer("torch", f"{torch.__version__}, CPU")
    try:
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"torch {torch.__version__} finds no CUDA device; CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}"
            )
        names = []
        for number in range(torch.cuda.device_count()):
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            assert float((ones @ ones).sum()) == 64.0**3
            names.append(torch.cuda.get_device_name(number))
        if len(names) < gpus:
            raise RuntimeError(f"{len(names)} GPUs are visible, {gpus} were asked for")
    except (RuntimeError, AssertionError) as error:
        cure = "check gpus, gpu_type, partition, the driver (nvidia-smi in a job), and that torch was built for CUDA; containers need --nv"
        return Answer("gpu", " ".join(str(error).split()), cure)
    return Answer("gpu", f"torch {torch.__version__}, {', '.join(names)}")


def ask_data(folder: Path) -> Answer:
    """Can the data be read here?"""
    try:
        count = sum(1 for _ in folder.iterdir())
    except OSError as error:
        return Answer("data", f"{folder}: {error.strerror}", "set paths.data to a folder that compute nodes see (cluster file: overrides)")
    return Answer("data", f"{folder}, {count} entries")


def ask_folder(name: str, folder: Path, token: str | None) -> Answer:
    """Does a folder do what whole-or-not-at-all files and claims need: O_EXCL, rename over a file, fsync? Is it the login node's?"""
    own = folder / f".probe-{socket.gethostname()}-{os.getpid()}"
    cure = f"choose another disk for {'paths.results' if name == 'results' else 'paths.artifacts'}: one that all nodes share and may write"
    try:
        own.mkdir(parents=True, exist_ok=True)
        one, other = own / "one", own / "other"
        os.close(os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        with suppress(FileExistsError):
            os.close(os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return Answer(name, f"{folder}: O_EXCL made a file that was there", cure)
        with other.open("w") as file:
            file.write("new")
            file.flush()
            os.fsync(file.fileno())
        other.replace(one)
        handle = os.open(own, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
        if one.read_text() != "new" or other.exists():
            return Answer(name, f"{folder}: a rename did not replace", cure)
        if token is not None and ((folder / TOKEN).read_text() if (folder / TOKEN).exists() else "") != token:
            return Answer(name, f"{folder}: what the login node wrote is not seen here", cure)
        free = shutil.disk_usage(folder).free / 2**30
        return Answer(name, f"{folder}, {free:.1f} GiB free", "free some space: checkpoints need it" if free < 1 else "")
    except OSError as error:
        return Answer(name, f"{folder}: {error.strerror}", cure)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def ask_ports() -> Answer:
    """Can two programs on this node meet at its own address?"""
    host = socket.gethostname()
    try:
        with socket.socket() as server:
            server.bind((socket.gethostbyname(host), 0))
            server.listen()
            with socket.create_connection(server.getsockname(), timeout=10):
                return Answer("ports", f"{host} is {server.getsockname()[0]}, port {server.getsockname()[1]} answers")
    except OSError as error:
        return Answer(
            "ports", f"{host}: {error}", "mode=array needs no ports; for mode=ray ask the administrators about the node's name and firewall"
        )


def ask_socket(folder: Path) -> Answer:
    """Are paths of sockets below the temporary folder short enough?"""
    length = len(os.fsencode(folder / RAY_SOCKET))
    cure = f"choose a shorter cluster.scratch (or TMPDIR): {length - LONGEST_SOCKET} bytes fewer" if length > LONGEST_SOCKET else ""
    return Answer("socket paths", f"{length} of {LONGEST_SOCKET} bytes below {folder}", cure)


def ask_memory(processes: int) -> Answer:
    """Is there memory for torch in every process?"""
    gib = memory() / 2**30
    need = MEMORY_GIB * processes
    return Answer("memory", f"{gib:.1f} GiB for {processes} processes", f"ask for {need:g}G or more: cluster.memory" if gib < need else "")


def memory() -> float:
    """Bytes that this job may use: the least of what Slurm, the control group and the machine say."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    given = os.environ.get("SLURM_MEM_PER_NODE", "")
    if given.isdigit() and int(given):
        found.append(float(given) * 2**20)
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(float(Path(path).read_text()))
    return min(found)


def ask_scontrol() -> Answer:
    """Can a job ask for its own requeue?"""
    cure = (
        "" if shutil.which("scontrol") else "without scontrol a job cannot requeue itself; put it on PATH in setup, or submit again by hand"
    )
    return Answer("requeue", shutil.which("scontrol") or "no scontrol on this node", cure)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0 when everything passed."""
    parser = argparse.ArgumentParser(prog="python -m slurm.probe", description="Looks at what a sweep needs on this node.")
    for name in ("data", "store", "artifacts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--token", default=None)
    options = parser.parse_args(arguments)
    questions: list[Callable[[], Answer]] = [
        ask_python,
        lambda: ask_torch(options.gpus),
        lambda: ask_data(options.data),
        lambda: ask_folder("results", options.store, options.token),
        lambda: ask_folder("artifacts", options.artifacts, None),
        ask_ports,
        lambda: ask_socket(Path(tempfile.gettempdir())),
        lambda: ask_memory(options.processes),
        ask_scontrol,
    ]
    passed = True
    for question in questions:
        answer = question()
        passed &= not answer.cure
        print(json.dumps(asdict(answer)), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())

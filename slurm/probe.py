"""The program that `sap-slurm check` runs on a compute node: test software, folders, ports and memory.

    python -m slurm.probe --data DIR --store DIR --artifacts DIR --gpus 1 --processes 1 --token TEXT

It prints one JSON line per check. It imports the standard library alone, and torch inside its own check, so that a broken installation is
reported as a result.
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

from sap_core.command_line import program
from sap_core.files import sync
from sap_core.machine import memory_bytes

TOKEN = "seen-from-login"
MAX_SOCKET_PATH = 107
"""Longest path of a Unix socket, in bytes."""
# A name of the length that Ray's have; the process number has seven digits, as many as Linux allows.
RAY_SOCKET = "ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store"
"""Longest socket path that Ray creates below its temporary folder."""
MEMORY_GIB_PER_PROCESS = 2.0
"""Memory that torch with CUDA occupies before any data is loaded."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `remedy` is empty if it passed."""

    name: str
    detail: str
    remedy: str = ""


def check_python() -> CheckResult:
    """Check the version of Python."""
    version = ".".join(map(str, sys.version_info[:3]))
    # This file itself has to run on older versions, to be able to report them.
    old = sys.version_info < (3, 11)
    return CheckResult(
        "python", f"{version}, {sys.executable}", "use Python 3.11 or newer: set python or setup in the cluster file" if old else ""
    )


def check_torch(gpus: int) -> CheckResult:
    """Check that torch can be imported, and that it finds the GPUs and computes on them."""
    try:
        # OSError, too: a shared library of CUDA that is missing shows as one.
        import torch
    except (ImportError, OSError) as error:
        return CheckResult(
            "torch", f"cannot be imported ({error})", "load its module or environment in setup, or set python, in the cluster file"
        )
    if not gpus:
        return CheckResult("torch", f"{torch.__version__}, CPU")
    try:
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"torch {torch.__version__} finds no CUDA device; CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES')}"
            )
        names = []
        for number in range(torch.cuda.device_count()):
            # A product is computed, because a driver that is too old or a GPU that is not supported shows at the first kernel and not
            # before.
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            assert float((ones @ ones).sum()) == 64.0**3
            names.append(torch.cuda.get_device_name(number))
        if len(names) < gpus:
            raise RuntimeError(f"{len(names)} GPUs are visible, {gpus} were requested")
    except (RuntimeError, AssertionError) as error:
        remedy = "check gpus, gpu_type, partition, the driver (nvidia-smi in a job) and that torch was built for CUDA; containers need --nv"
        return CheckResult("gpu", " ".join(str(error).split()), remedy)
    return CheckResult("gpu", f"torch {torch.__version__}, {', '.join(names)}")


def check_data(folder: Path | None) -> CheckResult:
    """Check that the data folder can be read; None: nothing says that one is needed."""
    if folder is None:
        return CheckResult("data", "not tested: no paths.data and no experiment that reads files was named")
    try:
        # Listing asks for the permission to read, which `is_dir` does not.
        count = sum(1 for _ in folder.iterdir())
    except OSError as error:
        return CheckResult(
            "data", f"{folder}: {error.strerror}", "set paths.data to a folder that compute nodes can read (overrides in the cluster file)"
        )
    return CheckResult("data", f"{folder}, {count} entries")


def check_folder(name: str, folder: Path, token: str | None) -> CheckResult:
    """Check that a folder supports what leases and atomic writes need (O_EXCL, rename over a file, fsync), and that all nodes share it.

    Args:
        name: `results` or `artifacts`.
        folder: the folder.
        token: text that the login node wrote into the folder; None skips this comparison.
    """
    # Host and process in the name, so that checks on two nodes do not meet. Readers of the store skip names that begin with a dot.
    own = folder / f".probe-{socket.gethostname()}-{os.getpid()}"
    remedy = f"set {'paths.results' if name == 'results' else 'paths.artifacts'} to a file system that all nodes share and can write"
    try:
        own.mkdir(parents=True, exist_ok=True)
        one, other = own / "one", own / "other"
        os.close(os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        # The second creation must fail; if it succeeds, two workers could acquire one lease.
        with suppress(FileExistsError):
            os.close(os.open(one, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            return CheckResult(name, f"{folder}: O_EXCL created a file that exists already", remedy)
        with other.open("w", encoding="utf-8") as file:
            file.write("new")
            file.flush()
            # The same calls as in `sap_core.files.replacing`, some of which a file system may refuse.
            sync(other)
        # Over an existing file, as renewals of leases do.
        other.replace(one)
        sync(own)
        if one.read_text(encoding="utf-8") != "new" or other.exists():
            return CheckResult(name, f"{folder}: a rename did not replace the target", remedy)
        # A folder may exist on both nodes under the same path without being the same folder, as /tmp does.
        if token is not None and ((folder / TOKEN).read_text(encoding="utf-8") if (folder / TOKEN).exists() else "") != token:
            return CheckResult(name, f"{folder}: a file written on the login node is not visible here", remedy)
        free = shutil.disk_usage(folder).free / 2**30
        return CheckResult(name, f"{folder}, {free:.1f} GiB free", "free some space for checkpoints" if free < 1 else "")
    except OSError as error:
        return CheckResult(name, f"{folder}: {error.strerror}", remedy)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def check_ports() -> CheckResult:
    """Check that a process can connect to another one at this node's own address."""
    host = socket.gethostname()
    try:
        with socket.socket() as server:
            # The node's own name, not localhost: a name that resolves to nothing or to another machine stops Ray as well.
            server.bind((socket.gethostbyname(host), 0))
            server.listen()
            with socket.create_connection(server.getsockname(), timeout=10):
                return CheckResult("ports", f"{host} is {server.getsockname()[0]}, port {server.getsockname()[1]} answers")
    except OSError as error:
        return CheckResult(
            "ports",
            f"{host}: {error}",
            "mode: array needs no ports; for mode: ray ask the administrators about host names and the firewall",
        )


def check_socket_path(folder: Path) -> CheckResult:
    """Check that socket paths below the temporary folder are short enough."""
    # In bytes, because the limit is the size of a C array (sun_path of unix(7)).
    length = len(os.fsencode(folder / RAY_SOCKET))
    remedy = f"choose a cluster.scratch (or TMPDIR) that is {length - MAX_SOCKET_PATH} bytes shorter" if length > MAX_SOCKET_PATH else ""
    return CheckResult("socket paths", f"{length} of {MAX_SOCKET_PATH} bytes below {folder}", remedy)


def check_memory(processes: int) -> CheckResult:
    """Check that there is memory for torch in every process."""
    gib = memory() / 2**30
    need = MEMORY_GIB_PER_PROCESS * processes
    return CheckResult("memory", f"{gib:.1f} GiB for {processes} processes", f"set cluster.memory={need:g}G or more" if gib < need else "")


def memory() -> float:
    """Return the bytes that this job may use: the minimum of Slurm's limit, the control group's limit and the machine's memory."""
    # The minimum, because any of these limits ends a process.
    found = [float(memory_bytes() or "inf")]
    given = os.environ.get("SLURM_MEM_PER_NODE", "")
    # 0 means the memory of the whole node.
    if given.isdigit() and int(given):
        found.append(float(given) * 2**20)
    # Control groups of version 2 and 1. "max" is no number and is skipped.
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            found.append(float(Path(path).read_text(encoding="utf-8")))
    return min(found)


def check_scontrol() -> CheckResult:
    """Check that a job can request its own requeue."""
    path = shutil.which("scontrol")
    remedy = "" if path else "a job cannot requeue itself without scontrol: add it to PATH in setup, or submit again by hand"
    return CheckResult("requeue", path or "no scontrol on this node", remedy)


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 0 if every check passed."""
    parser = argparse.ArgumentParser(allow_abbrev=False, prog="python -m slurm.probe", description="Test what a sweep needs on this node.")
    parser.add_argument("--data", type=Path)
    for name in ("store", "artifacts"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--gpus", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--token", default=None)
    options = parser.parse_args(arguments)
    checks: list[Callable[[], CheckResult]] = [
        check_python,
        lambda: check_torch(options.gpus),
        lambda: check_data(options.data),
        lambda: check_folder("results", options.store, options.token),
        # The login node writes its token to the store alone.
        lambda: check_folder("artifacts", options.artifacts, None),
        check_ports,
        lambda: check_socket_path(Path(tempfile.gettempdir())),
        lambda: check_memory(options.processes),
        check_scontrol,
    ]
    # All checks run, also after a failure, so that one submission finds every problem.
    passed = True
    for check in checks:
        result = check()
        passed &= not result.remedy
        # One line per check at once: a job that is killed during a check shows the results before it.
        print(json.dumps(asdict(result)), flush=True)
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())

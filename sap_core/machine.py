"""Questions to the operating system that not every system answers in the same way. Standard library only.

Linux answers from /proc, macOS and the BSDs from `ps` and `sysctl`. A question that a system cannot answer has a documented fallback.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

PROC = Path("/proc")
"""Linux's process file system."""

NO_HOME = "/nonexistent"
"""HOME of an account without a home directory, as Debian's passwd(5) names it for system users."""

_CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")
"""Environment variables of libraries that otherwise write below the home directory."""


def cores() -> int:
    """Return the number of cores that this process may use, or those of the machine where a process cannot be bound to some of them."""
    # The affinity mask rather than the number of processors: Slurm and containers assign a part of them.
    if hasattr(os, "sched_getaffinity"):
        with suppress(OSError):
            return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """Return the memory of this machine in bytes; None where the system does not tell."""
    # ValueError: the system does not know the name.
    with suppress(OSError, ValueError, AttributeError):
        pages = os.sysconf("SC_PHYS_PAGES")
        if pages > 0:
            return pages * os.sysconf("SC_PAGE_SIZE")
    text = _output("sysctl", "-n", "hw.memsize")
    return int(text) if text.isdigit() else None


def reset_peak_resident() -> None:
    """Reset the counter of `peak_resident_bytes` (Linux only)."""
    with suppress(OSError):
        # Resets VmHWM (man proc_pid_clear_refs). The file may be missing or write-protected, as in some containers.
        (PROC / "self" / "clear_refs").write_text("5", encoding="utf-8")


def peak_resident_bytes() -> int:
    """Return the largest resident memory of this process in bytes since `reset_peak_resident`; elsewhere than on Linux since its start.

    0 on a system that does not tell.
    """
    with suppress(OSError):
        for line in (PROC / "self" / "status").read_text(encoding="utf-8").splitlines():
            # Preferred to getrusage, whose peak cannot be reset. In KiB.
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    # Windows has no such module.
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In bytes on macOS and in KiB elsewhere (getrusage(2)).
    return peak if sys.platform == "darwin" else peak * 1024


@cache
def boot_id() -> str:
    """Return an id of this boot and of this process namespace, in which process numbers are unique; "" where it is unknown."""
    try:
        boot = (PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {(PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        # macOS has one process namespace.
        return _output("sysctl", "-n", "kern.bootsessionuuid")


def start_time(pid: int) -> str | None:
    """Return when a process of this machine started, as a text to compare with others of the same boot.

    None if the process does not exist or has ended (also as a zombie); "" if it exists, but this account may not see it.
    """
    try:
        # The second field, the program's name in parentheses, may contain spaces and parentheses.
        fields = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        pass
    else:
        # A zombie still has its number, but it does nothing: its parent has merely not collected its exit code.
        return None if fields[0] in "ZX" else fields[19]
    try:
        # Signal 0 is not sent; it only asks whether the process exists. /proc may hide the processes of others (hidepid).
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    # PermissionError: another user's. OverflowError: no process number.
    except (OSError, OverflowError):
        return ""
    state, _, started = _output("ps", "-o", "stat=,lstart=", "-p", str(pid)).strip().partition(" ")
    return None if state.startswith("Z") else " ".join(started.split())


def parents() -> dict[int, int]:
    """Return the number of each running process and of its parent. Zombies are left out: they have ended and cannot be signalled."""
    found: dict[int, int] = {}
    if (PROC / "self" / "stat").exists():
        for entry in PROC.iterdir():
            # Processes end while the folder is read.
            with suppress(OSError):
                if entry.name.isdigit():
                    state, parent, *_ = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                    if state not in "ZX":
                        found[int(entry.name)] = int(parent)
        return found
    for line in _output("ps", "-axo", "pid=,ppid=,stat=").splitlines():
        pid, parent, state = line.split(maxsplit=2)
        if not state.startswith("Z"):
            found[int(pid)] = int(parent)
    return found


def _output(*command: str) -> str:
    """The output of a program; "" if it is missing or fails."""
    # Times of `ps` in one time zone and language, so that two processes read the same text.
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace",
            timeout=20, check=True, env=environment,
        )  # fmt: skip
        return done.stdout.strip()
    return ""


def ending_signals() -> tuple[signal.Signals, ...]:
    """Return the signals that ask a program to end in good order: SIGTERM, and SIGHUP where it exists and is not ignored (nohup)."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return (signal.SIGTERM,)
    return (signal.SIGTERM, hangup)


@contextmanager
def signals_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at SIGTERM or SIGHUP (a closed terminal), as at Ctrl-C, so that it ends in good order."""

    def interrupt(number: int, _: object) -> None:
        # A shell whose terminal is closed may send a second SIGHUP, which must not cut the orderly end short.
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # Slurm and container managers send SIGTERM before SIGKILL, so it must lead through the same orderly end as Ctrl-C.
    before = {number: signal.signal(number, interrupt) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def complete_account() -> None:
    """Set environment variables for libraries that rely on a named account with a writable home directory.

    In containers and batch jobs an account may have no entry in the password database, no HOME, or one that it cannot write. Then getpass
    raises, and matplotlib and W&B fail or warn. Variables that are set keep their values.
    """
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")) and not _has_entry():
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    home = os.path.expanduser("~")  # noqa: PTH111  # Path.home() raises where this returns "~"
    if home.startswith("~"):
        home = os.environ["HOME"] = NO_HOME
    if not os.access(home, os.W_OK | os.X_OK) and (folder := _private_folder()) is not None:
        for name in _CACHES:
            os.environ.setdefault(name, str(folder))


def _has_entry() -> bool:
    try:
        import pwd

        pwd.getpwuid(os.getuid())
    except (ImportError, KeyError, AttributeError):
        return False
    return True


def _private_folder() -> Path | None:
    """A folder of this account below the temporary folder, the same in every start, so that caches are kept; None if there is none."""
    with suppress(OSError):
        folder = Path(tempfile.gettempdir()) / f"sap-sweep-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        # The temporary folder is shared: somebody else may have made a folder or a link of this name.
        if not folder.is_symlink() and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return folder
    return None

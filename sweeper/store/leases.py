"""Leases: files by which at most one live process works on a resource at a time, even when owners die or stall. Standard library only.

A lease on PATH is a file PATH.N.lease. Creating number N with O_EXCL is the only way to acquire it, so exactly one of several contenders
succeeds. Nothing is locked, and only O_EXCL and rename are required of the file system, both of which NFS provides. The file names its
owner and contains a counter, which a thread of the owner increments as long as the process lives, each time by renaming a new file over
its own number N. A process that wants the resource observes the counter on its own monotonic clock: if the file has not changed for the
duration written in it, the owner is considered dead, and the lease is taken over by creating N + 1. Wall clocks are never compared, so
machines whose clocks differ cannot disturb each other. On the same machine an owner whose process has ended is recognised at once.

An owner that was merely slow (stopped, swapped out, cut off from the network) and has lost its lease finds N + 1 next to its N. `is_valid`
is False from then on, and the process never touches files of another number: at most its counter continues in N. By then it may have
repeated work of the new owner. A program that uses leases must therefore write complete files whose names follow from the work, and check
`is_valid` before it stores anything.

The duration is 120 s unless SAP_SWEEP_LEASE_SECONDS or the caller sets another, with eight renewals per duration. NFS clients may see
files as they were up to 60 s ago (acdirmax), and no thread can renew a lease while a C call holds the interpreter's lock. torch releases
that lock during its operations, but decompositions of one large matrix and compilers may hold it for several seconds. 120 s leaves room
for both.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sap_core.files import storing
from sap_core.machine import boot_id, start_time
from sap_core.regular_files import read_regular

LEASE_SECONDS = 120.0
"""Default duration: a lease expires when its counter has not changed for this long."""

MAX_SECONDS = 7 * 24 * 3600.0
"""Longest duration that is accepted from the file of another process."""

RENEWALS = 8
"""Number of renewals per duration."""

_SUFFIX = ".lease"

_CHECK_SECONDS = 1.0
"""Shortest interval between two looks at the disk by `Lease.is_lost`."""


class Leases:
    """The leases of one process, and its observations of other processes' leases."""

    def __init__(self, duration: float | None = None, check_processes: bool = True) -> None:
        """Args:
        duration: seconds without renewal after which a lease expires; None: `lease_duration()`.
        check_processes: recognise ended processes of this machine at once; False: judge all owners by their counters alone.
        """  # fmt: skip
        self.duration = lease_duration() if duration is None else duration
        # A random token identifies the owner: process numbers repeat between machines, and host names between containers.
        self.token = secrets.token_hex(8)
        self._check_processes = check_processes
        self._seen: dict[Path, tuple[str, float]] = {}  # text of the newest file, and when it was first seen
        self._active: set[Lease] = set()
        self._lock = threading.RLock()
        self._renewer: threading.Thread | None = None

    def acquire(self, path: Path) -> Lease | None:
        """The lease on `path` if it is free or has expired, None otherwise. Does not wait.

        Raises:
            StorageError: the file cannot be written.
        """
        with storing(path):
            number, text = _newest(path)
            if number and not self._has_expired(path, text):
                return None
            lease = Lease(self, path, number + 1)
            # Several contenders may find the same number; O_EXCL lets one of them create the next.
            if not lease._create():
                return None
            # The previous owner may have been slow and renewed in the meantime, or a third process may have acquired and released the
            # lease since `_newest`. In both cases this process withdraws.
            if (number and _read(_file(path, number)) != text) or _newest(path)[0] != lease.number:
                lease._remove()
                return None
            # Else the observation of the previous owner would be applied to the next one.
            self._seen.pop(path, None)
            self._keep(lease)
            return lease

    def owner(self, path: Path) -> str | None:
        """A description of the live owner of `path`; None if it is free or has expired."""
        number, text = _newest(path)
        return None if not number or self._has_expired(path, text) else _described(text)

    def owner_runs_here(self, path: Path) -> bool:
        """Whether the owner of `path` is a running process of this machine."""
        return _runs_here(_parsed(_newest(path)[1])) is True

    def _has_expired(self, path: Path, text: str) -> bool:
        """Whether the owner has ended, or has not renewed for the duration. The first call only starts the observation."""
        # Elapsed time on this process's own clock: modification times on NFS come from a server whose clock may differ.
        now = time.monotonic()
        # The text contains the counter, so an unchanged text means that the owner has not renewed since.
        before, since = self._seen.get(path, ("", now))
        if before != text or path not in self._seen:
            self._seen[path] = (text, now)
            since = now
        content = _parsed(text)
        if self._check_processes and _runs_here(content) is False:
            return True
        # The owner's duration, not the observer's: only the owner knows how often it renews.
        duration = content.get("lease")
        # A damaged lease may name any: with NaN or infinity it would never expire.
        if not isinstance(duration, int | float) or not 0 < duration <= MAX_SECONDS:
            duration = self.duration
        return now - since >= duration

    def _keep(self, lease: Lease) -> None:
        with self._lock:
            self._active.add(lease)
            if self._renewer is None or not self._renewer.is_alive():
                # A daemon thread, so that it ends with its process: then nothing is renewed any more, and the lease expires.
                self._renewer = threading.Thread(target=self._renew_all, name="leases", daemon=True)
                self._renewer.start()

    def _renew_all(self) -> None:
        while True:
            time.sleep(self.duration / RENEWALS)
            with self._lock:
                if not self._active:
                    # The thread ends when nothing is left to renew. Under the lock, so that `_keep` cannot add a lease to a thread that is
                    # about to end.
                    self._renewer = None
                    return
                active = list(self._active)
            # A copy of the set: each renewal takes the lock by itself, so that other threads can acquire and release leases in between.
            for lease in active:
                lease._renew()


class Lease:
    """One process's exclusive right to one resource, created by `Leases.acquire`. A context manager that releases it at the end."""

    def __init__(self, leases: Leases, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self._leases = leases
        self._count = 0
        self._lost = False
        self._checked_at = time.monotonic()

    def is_valid(self) -> bool:
        """Whether this process still owns the lease, read from the disk. Once False, it stays False."""
        if not self._lost:
            self._checked_at = time.monotonic()
            # A disk that does not answer is no evidence that the lease is lost.
            with suppress(OSError):
                owned = _parsed(_read(_file(self.path, self.number))).get("owner") == self._leases.token
                self._lost = not owned or _file(self.path, self.number + 1).exists()
        return not self._lost

    def is_lost(self) -> bool:
        """Whether another process has taken the lease over. Cheap enough to call after every mini-batch."""
        if not self._lost and time.monotonic() - self._checked_at > _CHECK_SECONDS:
            self.is_valid()
        return self._lost

    def release(self) -> None:
        """Release the lease. Has no effect on other processes' leases if it was lost."""
        with self._leases._lock:
            self._leases._active.discard(self)
            # The files of earlier numbers are removed first: if the newest went first, an older one would count as the newest for a moment.
            still = self.is_valid()
            if still and self.number > 1:
                self._remove_older()
            self._remove()
            self._lost = True

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _create(self) -> bool:
        path = _file(self.path, self.number)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            try:
                handle = os.open(path, flags, 0o644)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, flags, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(handle, self._text().encode())
        finally:
            os.close(handle)
        return True

    def _renew(self) -> None:
        """Rename a new file over this lease's own number. A process that has taken the lease over has another number."""
        # Errors are ignored: a full disk may have room again at the next renewal.
        with self._leases._lock, suppress(OSError):
            if self not in self._leases._active or not self.is_valid():
                return
            self._count += 1
            temporary = self.path.with_name(f".{self.path.name}.{self.number}.{self._leases.token}.tmp")
            temporary.write_text(self._text(), encoding="utf-8")
            # By rename, so that an observer never reads a half-written counter, and under this number only, so that a new owner is not
            # disturbed.
            temporary.replace(_file(self.path, self.number))

    def _text(self) -> str:
        return json.dumps({"owner": self._leases.token, "count": self._count, "lease": self._leases.duration, **_this_process()})

    def _remove(self) -> None:
        """Remove the file of this lease, unless it belongs to another process by now."""
        # By the time a slow owner gets here, its number may have been released and acquired by another process.
        own = _file(self.path, self.number)
        with suppress(OSError):
            if _parsed(_read(own)).get("owner") == self._leases.token:
                own.unlink()

    def _remove_older(self) -> None:
        """Remove the files of the owners from whom this process, or one before it, took the lease over."""
        with suppress(OSError):
            for path in list(self.path.parent.iterdir()):
                older = 0 < _number(path.name, self.path.name) < self.number
                if older or (path.name.startswith(f".{self.path.name}.") and path.name.endswith(".tmp")):
                    with suppress(OSError):
                        path.unlink()


def lease_duration() -> float:
    """The duration in seconds that SAP_SWEEP_LEASE_SECONDS sets, or the default.

    Raises:
        UserError: SAP_SWEEP_LEASE_SECONDS is not a number above 0.
    """
    text = os.environ.get("SAP_SWEEP_LEASE_SECONDS", "")
    try:
        seconds = float(text) if text else LEASE_SECONDS
    except ValueError:
        seconds = 0.0
    # Also refuses NaN, with which every comparison would be False and no lease would ever expire.
    if not 0 < seconds < float("inf"):
        raise UserError(
            f"SAP_SWEEP_LEASE_SECONDS={text} is not a duration; give a number of seconds above 0, such as {LEASE_SECONDS:g}, or unset it"
        )
    return seconds


@cache
def process_leases() -> Leases:
    """The leases of this process, shared by all callers that are not given others."""
    return Leases()


def leased_names(folder: Path) -> set[str]:
    """The names in `folder` on which leases exist, from file names alone; some may have expired."""
    with suppress(OSError):
        return {entry.name.removesuffix(_SUFFIX).rpartition(".")[0] for entry in os.scandir(folder) if _is_lease(entry.name)}
    return set()


@contextmanager
def acquire_all(leases: Leases, paths: list[Path]) -> Iterator[list[Lease] | str]:
    """The leases on all of `paths`, released at the end; or, if one is unavailable, none of them and a description of its owner."""
    acquired: list[Lease] = []
    try:
        for path in paths:
            lease = leases.acquire(path)
            if lease is None:
                # Released before the caller waits: holding some while waiting for others could deadlock two sweeps.
                while acquired:
                    acquired.pop().release()
                yield leases.owner(path) or "another process"
                return
            acquired.append(lease)
        yield acquired
    finally:
        # In reverse order, as nested `with` statements would.
        for lease in reversed(acquired):
            lease.release()


def remove_abandoned(leases: Leases, paths: Iterable[Path]) -> None:
    """Remove leases on finished work whose owners died between storing and releasing."""
    for path in paths:
        # Only an expired lease can be acquired, so an owner that is still releasing its own is left alone.
        lease = leases.acquire(path) if path.name in leased_names(path.parent) else None
        if lease is not None:
            lease.release()


def acquire_or_owner(leases: Leases, path: Path, log: Callable[[str], None]) -> Lease | str:
    """The lease on `path`, or a description of its live owner: a running process of this machine, or one whose counter was seen to change.

    Waits until one of the two is known, for at most the lease's duration; `log` is called once if the call has to wait.

    Raises:
        StorageError: the file cannot be written.
    """
    first, logged = _newest(path), False
    while (lease := leases.acquire(path)) is None:
        owner = leases.owner(path)
        # On another machine only a counter that changes proves that the owner is alive.
        if owner and (leases.owner_runs_here(path) or (first[1] and _newest(path) != first)):
            return owner
        if owner and not logged:
            log(f"{owner} owns {path}; waiting at most {leases.duration:g} s to see whether it is alive")
            logged = True
        time.sleep(min(_CHECK_SECONDS, leases.duration / RENEWALS))
    return lease


def _described(text: str) -> str:
    """The owner that a lease names, for messages."""
    content = _parsed(text)
    return f"process {content['pid']} on {content['host']}" if "pid" in content and "host" in content else "an unknown process"


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}{_SUFFIX}")


def _is_lease(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".") and name.removesuffix(_SUFFIX).rpartition(".")[2].isdecimal()


def _number(entry: str, name: str) -> int:
    """The number of a lease on `name`; 0 for other files."""
    middle = entry.removeprefix(f"{name}.").removesuffix(_SUFFIX)
    return int(middle) if entry == f"{name}.{middle}{_SUFFIX}" and middle.isdecimal() else 0


def _newest(path: Path) -> tuple[int, str]:
    """(number, text) of the lease with the highest number, which alone counts; (0, "") where there is none."""
    try:
        number = max((_number(entry.name, path.name) for entry in os.scandir(path.parent)), default=0)
    except FileNotFoundError:
        number = 0
    return number, _read(_file(path, number)) if number else ""


def _read(path: Path) -> str:
    try:
        return read_regular(path).decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""


def _parsed(text: str) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    # It is being written, or its owner died while writing it.
    return {}


def _this_process() -> dict[str, Any]:
    return _process(os.getpid())


# By number: a forked process inherits the cache, and would name its parent as the owner of its leases.
@cache
def _process(pid: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": pid, "machine": boot_id(), "born": start_time(pid) or ""}


def _runs_here(content: dict[str, Any]) -> bool | None:
    """Whether the process named in a lease runs on this machine; None if it is of another machine or this cannot be determined."""
    # Processes can be looked up only in the namespace and the boot that gave them their numbers; elsewhere the counter decides.
    if not boot_id() or content.get("machine") != boot_id() or not content.get("born") or not isinstance(content.get("pid"), int):
        return None
    started = start_time(content["pid"])
    # Process numbers are reused; a number together with its start time is not. "": it exists, but the system hides its start time.
    return None if started == "" else started == content["born"]

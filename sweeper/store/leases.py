"""Claims: at most one live process works on a thing at a time, whatever becomes of the others. Standard library only.

A claim on PATH is a file PATH.N.claim. Creating N by O_EXCL is the only way to get it, so of many who try one wins; nothing is locked, and
nothing but O_EXCL and rename is asked of the file system, so that NFS serves. The file names its owner and holds a counter, which a thread
of the owner raises while it lives, each time by renaming a new file over its own N. Whoever wants the thing looks at the counter and at its
own monotonic clock: if the text has not changed for the lease that stands in it, the owner is dead, and the claim is taken over by creating
N + 1. Wall clocks are not asked. On one machine an owner whose process has ended is seen at once.

An owner that was only slow (stopped, swapped out, on a node cut off) and was taken over finds N + 1 beside its N: `mine` is False from then
on, and it never touches what is not its own: its counter goes on in N, if anywhere. It may have done work twice by then; so whoever claims
must store whole files under names that follow from the work (docs/design.md, "Claims").

The lease is 120 s unless SAP_SWEEP_LEASE_SECONDS or the caller says otherwise, and the counter is raised eight times in it. A client of an
NFS server may see files as they were 60 s ago (acdirmax), and a thread can raise nothing while a C call holds the interpreter's lock:
torch's operations let go of it, but decompositions of one large matrix and compilers may not for some seconds. 120 s leaves room for both.
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

LEASE_SECONDS = 120.0
BEATS = 8
"""So often is the counter raised within a lease."""

_SUFFIX = ".claim"
_LOOK_SECONDS = 1.0
"""`Claim.lost` looks at the disk at most this often."""


class Claims:
    """One process's claims, and what it has seen of the others'."""

    def __init__(self, lease: float | None = None, see_dead: bool = True) -> None:
        """`see_dead=False`: owners on this machine are judged by their counters alone, as those on others are."""
        self.lease = lease_seconds() if lease is None else lease
        self.owner = secrets.token_hex(8)
        self._see_dead = see_dead
        self._seen: dict[Path, tuple[str, float]] = {}
        self._held: set[Claim] = set()
        self._lock = threading.RLock()
        self._heart: threading.Thread | None = None

    def take(self, path: Path) -> Claim | None:
        """The claim on `path`, if nobody has it or its owner is dead; None otherwise.

        Raises:
            StorageError: the disk refused.
        """
        with storing(path):
            number, text = _newest(path)
            if number and not self._dead(path, text):
                return None
            claim = Claim(self, path, number + 1)
            if not claim._create():
                return None
            # Whoever is taken over may have been slow only, or another may have come and gone since we looked.
            if (number and _read(_file(path, number)) != text) or _newest(path)[0] != claim.number:
                claim._remove()
                return None
            self._seen.pop(path, None)
            self._hold(claim)
            return claim

    def holder(self, path: Path) -> str | None:
        """Who has `path`, in words; None if nobody alive has."""
        number, text = _newest(path)
        return None if not number or self._dead(path, text) else who(text)

    def alive_here(self, path: Path) -> bool:
        """Is the owner of `path` a process of this machine that still runs?"""
        return _runs_here(_parsed(_newest(path)[1])) is True

    def _dead(self, path: Path, text: str) -> bool:
        """Has the owner ended, or left its counter alone for a whole lease? The first look only begins the watch."""
        now = time.monotonic()
        before, since = self._seen.get(path, ("", now))
        if before != text or path not in self._seen:
            self._seen[path] = (text, now)
            since = now
        stated = _parsed(text)
        if self._see_dead and _runs_here(stated) is False:
            return True
        lease = stated.get("lease")
        return now - since >= (lease if isinstance(lease, int | float) else self.lease)

    def _hold(self, claim: Claim) -> None:
        with self._lock:
            self._held.add(claim)
            if self._heart is None or not self._heart.is_alive():
                self._heart = threading.Thread(target=self._beat, name="claims", daemon=True)
                self._heart.start()

    def _beat(self) -> None:
        while True:
            time.sleep(self.lease / BEATS)
            with self._lock:
                if not self._held:
                    self._heart = None
                    return
                held = list(self._held)
            for claim in held:
                claim._raise_counter()


class Claim:
    """What one process has of one thing; made by `Claims.take`."""

    def __init__(self, claims: Claims, path: Path, number: int) -> None:
        self.path, self.number = path, number
        self._claims = claims
        self._count = 0
        self._gone = False
        self._looked = time.monotonic()

    def mine(self) -> bool:
        """Looks at the disk: is it still this process's? Once it is not, it never is again."""
        if not self._gone:
            self._looked = time.monotonic()
            with suppress(OSError):
                there = _parsed(_read(_file(self.path, self.number))).get("owner") == self._claims.owner
                self._gone = not there or _file(self.path, self.number + 1).exists()
        return not self._gone

    def lost(self) -> bool:
        """Was it taken over? Cheap enough to be asked after every mini-batch."""
        if not self._gone and time.monotonic() - self._looked > _LOOK_SECONDS:
            self.mine()
        return self._gone

    def release(self) -> None:
        """Gives it back."""
        with self._claims._lock:
            self._claims._held.discard(self)
            still = self.mine()
            if still and self.number > 1:
                self._remove_older()
            self._remove()
            self._gone = True

    def __enter__(self) -> Claim:
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

    def _raise_counter(self) -> None:
        """A new file over our own number: whoever has taken over has another."""
        with self._claims._lock, suppress(OSError):
            if self not in self._claims._held or not self.mine():
                return
            self._count += 1
            temporary = self.path.with_name(f".{self.path.name}.{self.number}.{self._claims.owner}.tmp")
            temporary.write_text(self._text())
            temporary.replace(_file(self.path, self.number))

    def _text(self) -> str:
        return json.dumps({"owner": self._claims.owner, "count": self._count, "lease": self._claims.lease, **_this_process()})

    def _remove(self) -> None:
        """By the time a slow owner comes to this, its number may be another's."""
        own = _file(self.path, self.number)
        with suppress(OSError):
            if _parsed(_read(own)).get("owner") == self._claims.owner:
                own.unlink()

    def _remove_older(self) -> None:
        """What those have left whom this process, or one before it, has taken over."""
        with suppress(OSError):
            for path in list(self.path.parent.iterdir()):
                older = 0 < _number(path.name, self.path.name) < self.number
                if older or (path.name.startswith(f".{self.path.name}.") and path.name.endswith(".tmp")):
                    with suppress(OSError):
                        path.unlink()


def lease_seconds() -> float:
    """The lease that the environment asks for, or the usual one.

    Raises:
        UserError: SAP_SWEEP_LEASE_SECONDS is no number above 0.
    """
    text = os.environ.get("SAP_SWEEP_LEASE_SECONDS", "")
    try:
        seconds = float(text) if text else LEASE_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise UserError(f"SAP_SWEEP_LEASE_SECONDS={text} is no time; give seconds above 0, such as {LEASE_SECONDS:g}")
    return seconds


@cache
def own_claims() -> Claims:
    """The claims of this process, where no others are handed over."""
    return Claims()


def claimed_names(folder: Path) -> set[str]:
    """The names in `folder` on which there are claims, from file names alone; their owners may be dead."""
    with suppress(OSError):
        return {entry.name.removesuffix(_SUFFIX).rpartition(".")[0] for entry in os.scandir(folder) if _is_claim(entry.name)}
    return set()


@contextmanager
def all_or_none(claims: Claims, paths: list[Path]) -> Iterator[list[Claim] | str]:
    """The claims on all of `paths`, released at the end; or, where one is another's, none of them and who has it."""
    held: list[Claim] = []
    try:
        for path in paths:
            claim = claims.take(path)
            if claim is None:
                while held:
                    held.pop().release()
                yield claims.holder(path) or "another process"
                return
            held.append(claim)
        yield held
    finally:
        for claim in reversed(held):
            claim.release()


def tidy(claims: Claims, paths: Iterable[Path]) -> None:
    """Removes claims on things that are done, which owners have left who died between storing and giving back."""
    for path in paths:
        claim = claims.take(path) if path.name in claimed_names(path.parent) else None
        if claim is not None:
            claim.release()


def take_from_dead(claims: Claims, path: Path, say: Callable[[str], None]) -> Claim | str:
    """The claim on `path`, or who has it and lives: a process of this machine that runs, or one whose counter was seen to move.

    Waits for one of these, at most a lease; `say` is told so.

    Raises:
        StorageError: the disk refused.
    """
    begun, said = _newest(path), False
    while (claim := claims.take(path)) is None:
        owner = claims.holder(path)
        if owner and (claims.alive_here(path) or (begun[1] and _newest(path) != begun)):
            return owner
        if owner and not said:
            say(f"{owner} has {path}; looking whether it still lives, for at most {claims.lease:g} s")
            said = True
        time.sleep(min(_LOOK_SECONDS, claims.lease / BEATS))
    return claim


def who(text: str) -> str:
    """The owner named in a claim, in words."""
    stated = _parsed(text)
    return f"process {stated['pid']} on {stated['host']}" if "pid" in stated and "host" in stated else "an unknown process"


def _file(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}{_SUFFIX}")


def _is_claim(name: str) -> bool:
    return name.endswith(_SUFFIX) and not name.startswith(".") and name.removesuffix(_SUFFIX).rpartition(".")[2].isdigit()


def _number(entry: str, name: str) -> int:
    """The number of a claim on `name`; 0 for other files."""
    middle = entry.removeprefix(f"{name}.").removesuffix(_SUFFIX)
    return int(middle) if entry == f"{name}.{middle}{_SUFFIX}" and middle.isdigit() else 0


def _newest(path: Path) -> tuple[int, str]:
    """(number, text) of the claim that counts; (0, "") where there is none."""
    try:
        number = max((_number(entry.name, path.name) for entry in os.scandir(path.parent)), default=0)
    except FileNotFoundError:
        number = 0
    return number, _read(_file(path, number)) if number else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _parsed(text: str) -> dict[str, Any]:
    with suppress(ValueError):
        value = json.loads(text)
        if isinstance(value, dict):
            return value
    return {}  # it is being written, or its owner died over it


@cache
def _machine() -> str:
    """This boot of this machine, and the namespace in which process numbers mean something; "" where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process of this machine began, in ticks; None: there is none, or it has ended and nobody has asked how."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else rest[18]


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "machine": _machine(), "born": _born(pid) or ""}


def _runs_here(stated: dict[str, Any]) -> bool | None:
    """Does the process of a claim run on this machine? None: it is of another one, or that cannot be told."""
    if not _machine() or stated.get("machine") != _machine() or not stated.get("born") or not isinstance(stated.get("pid"), int):
        return None
    return bool(_born(stated["pid"]) == stated["born"])

"""Slurm's commands and what they answer. Never sacct: many clusters keep no accounts. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sap_core.errors import UserError
from slurm.cluster import seconds_of

_PASSING = re.compile(r"(?i)unable to contact|timed out|try again|temporarily|communication|connection refused")
_LIMIT = re.compile(r"(?i)policy|limit|quota")
WAITS = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD")
RUNS = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED")


class Refused(UserError):
    """Slurm said no. `limit`: because of a limit on jobs."""

    def __init__(self, text: str, limit: bool = False) -> None:
        super().__init__(text)
        self.limit = limit


@dataclass(frozen=True)
class Queued:
    """A job, or one task of an array, as squeue shows it."""

    job: str  # 12 or 12_3
    state: str
    reason: str
    elapsed: int  # seconds of this start
    limit: str
    start: str  # when it is expected to start, or has: 2026-11-29T10:00:00, or N/A
    node: str

    @property
    def waits(self) -> bool:
        return self.state in WAITS

    @property
    def runs(self) -> bool:
        return self.state in RUNS


@dataclass(frozen=True)
class Reservation:
    """Nodes that are kept free from `start` on."""

    name: str
    start: float
    nodes: str
    flags: str


def call(*words: str, stdin: str | None = None) -> str:
    """Runs a command of Slurm; tries three times when its daemon could not be reached.

    Raises:
        Refused: there is no such command here, or it failed; its own words are repeated.
    """
    if shutil.which(words[0]) is None:
        raise Refused(f"there is no {words[0]} here; run this on a login node of the cluster")
    for pause in (0.3, 1.0, None):
        try:
            done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise Refused(f"{words[0]} has not answered for 60 s; is the cluster's slurmctld up?") from error
        if done.returncode == 0:
            return done.stdout
        said = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        if pause is None or not _PASSING.search(said):
            break
        time.sleep(pause)
    raise Refused(f"{words[0]} refused: {said}", limit=bool(_LIMIT.search(said)))


def sbatch(script: str) -> str:
    """Submits a script; returns the job's id."""
    return call("sbatch", "--parsable", stdin=script).strip().splitlines()[-1].split(";")[0]


def settings() -> dict[str, str]:
    """`scontrol show config`, by key."""
    return pairs(call("scontrol", "show", "config"))


def pairs(text: str) -> dict[str, str]:
    """The `Key = value` lines of a text."""
    return {key.strip(): value.strip() for key, sign, value in (line.partition("=") for line in text.splitlines()) if sign}


def records(text: str) -> list[dict[str, str]]:
    """The lines of `scontrol --oneliner show ...`: Key=value words. Values with spaces keep their first word."""
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if "=" in line]


def queue(jobs: Iterable[str]) -> list[Queued]:
    """What squeue knows of these jobs, ended ones included while Slurm remembers them; one entry per task of an array."""
    wanted = set(jobs)
    if not wanted:
        return []
    shape = "%i|%T|%r|%M|%l|%S|%N"
    text = call("squeue", "--noheader", "--array", "--states=all", f"--user={os.geteuid()}", f"--format={shape}")
    return [entry for entry in read_queue(text) if entry.job.split("_")[0] in wanted]


def read_queue(text: str) -> list[Queued]:
    """The lines of squeue in the shape that `queue` asks for."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        if len(fields) == 7:
            job, state, reason, elapsed, limit, start, node = fields
            found.append(Queued(job, state, reason, _seconds(elapsed), limit, start, node))
    return found


def _seconds(text: str) -> int:
    """Seconds of a time as squeue writes it: always MM:SS or more, or INVALID for clocks that went back."""
    return seconds_of(text) if re.fullmatch(r"(\d+-)?\d+(:\d+){1,2}", text) else 0


def read_reservations(text: str) -> list[Reservation]:
    """The lines of `scontrol --oneliner show reservation` that say when they begin."""
    found = []
    for record in records(text):
        try:
            start = datetime.fromisoformat(record["StartTime"]).timestamp()
        except (KeyError, ValueError):
            continue
        found.append(Reservation(record.get("ReservationName", "?"), start, record.get("Nodes", ""), record.get("Flags", "")))
    return found


def longest_now(reservations: Sequence[Reservation], now: float) -> tuple[int, Reservation] | None:
    """(seconds until the next reservation begins, that reservation); None where none is to come."""
    coming = sorted((one for one in reservations if one.start > now), key=lambda one: one.start)
    return (int(coming[0].start - now), coming[0]) if coming else None


def limit_of(partition: Mapping[str, str]) -> str | None:
    """The longest time of a partition, None if there is none."""
    found = partition.get("MaxTime", "UNLIMITED")
    return None if found in ("UNLIMITED", "INFINITE") else found

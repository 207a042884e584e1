"""Ask Slurm about jobs, reservations and partitions, and parse the answers. sacct is never used, because many clusters keep no accounting.

Standard library only.
"""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from slurm.cluster import parse_time
from slurm.command import SlurmError, run_command
from slurm.submission import carries

# Job states of squeue. A state that is in none of the lists counts as waiting: what is not known to have ended may still run.
RUNNING_STATES = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED")
ENDED_STATES = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
)  # fmt: skip


@dataclass(frozen=True)
class QueueEntry:
    """A job or array task in the output of squeue."""

    job: str  # 12 or 12_3
    state: str
    reason: str
    elapsed: int  # seconds since this start
    limit: str
    start: str  # expected or actual start time, such as 2026-11-29T10:00:00, or N/A
    node: str
    name: str = ""
    comment: str = ""
    tag: str = ""  # of the submission that the job was found to be of

    @property
    def base(self) -> str:
        """The id without the number of an array task."""
        return self.job.split("_")[0]

    @property
    def pending(self) -> bool:
        """Whether the job waits for its start."""
        return not self.running and self.state not in ENDED_STATES

    @property
    def running(self) -> bool:
        """Whether the job has an allocation."""
        return self.state in RUNNING_STATES


@dataclass(frozen=True)
class Reservation:
    """A reservation of nodes that begins at `start` (seconds since 1970)."""

    name: str
    start: float
    nodes: str
    flags: str


def scontrol_config() -> dict[str, str]:
    """Return the cluster's configuration, as printed by `scontrol show config`."""
    return parse_config(run_command("scontrol", "show", "config"))


def parse_config(text: str) -> dict[str, str]:
    """Parse lines of the form `Key = value`."""
    return {key.strip(): value.strip() for key, sign, value in (line.partition("=") for line in text.splitlines()) if sign}


def parse_records(text: str) -> list[dict[str, str]]:
    """Parse the output of `scontrol --oneliner show`: one record of `Key=value` pairs per line. Of values only the first word is kept."""
    # No library: fields are separated by spaces, and values that contain spaces are not needed here.
    return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in text.splitlines() if "=" in line]


def has_account(user: int) -> bool:
    """Whether the machine knows the name of a user."""
    try:
        return bool(pwd.getpwuid(user))
    except (KeyError, OverflowError):
        return False


def find_tag(user: int, tag: str, *options: str, job: str = "") -> list[QueueEntry]:
    """Return the jobs of a user that carry a tag, or have the id `job`.

    Raises:
        SlurmError: squeue does not answer.
    """
    entries = squeue([user], *options)
    return [one for one in entries if carries(one.name, tag) or carries(one.comment, tag) or (job and one.base == job)]


def squeue(users: Iterable[int], *options: str) -> list[QueueEntry]:
    """Return all jobs of these users, one entry per array task; ended jobs as long as Slurm remembers them.

    Raises:
        SlurmError: squeue does not answer, or its answer cannot be read.
    """
    # All jobs in one call and selected by the caller, because squeue reports a job that it has forgotten as an error. A format of our own,
    # with the texts that may contain a separator at its end. `--states=all` includes jobs that have ended recently; --federation has no
    # effect outside a federation, in which a job may run on another cluster than the one that accepted it.
    columns = "%i|%T|%r|%M|%l|%S|%N|%j|%k"
    command = ("squeue", "--noheader", "--array", *(options or ("--federation",)), "--states=all", f"--format={columns}")
    try:
        text = run_command(*command, f"--user={','.join(map(str, sorted(users)))}")
    except SlurmError as error:
        if "nvalid user" not in str(error):
            raise
        # Of a user without an account here squeue lists no jobs, except for the one who asks.
        known = [str(user) for user in sorted(users) if has_account(user)]
        text = run_command(*command, f"--user={','.join(known)}" if known else "--me")
    entries = parse_squeue(text)
    # Notices of the site are skipped; an error that squeue's wrapper prints to standard output, or another format, is no empty queue.
    if not entries and re.search(r"(?im)^\s*\w+\||error|unable|fatal|failed", text):
        raise SlurmError(f"squeue printed what cannot be read: {' '.join(text.split())[:200]}")
    return entries


def parse_squeue(text: str) -> list[QueueEntry]:
    """Parse the output of squeue in the format that is requested here; skip other lines. Name and comment may be missing."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|", 8)
        # Other lines are notices of the site.
        if len(fields) >= 7 and re.fullmatch(r"\d+([_+]\S+)?", fields[0]):
            job, state, reason, elapsed, limit, start, node, *texts = fields
            found.append(QueueEntry(job, state, reason, _seconds(elapsed), limit, start, node, *texts))
    return found


def _seconds(text: str) -> int:
    """Parse an elapsed time: squeue prints MM:SS or longer, or INVALID if a clock went back."""
    return parse_time(text) if re.fullmatch(r"(\d+-)?\d+(:\d+){1,2}", text) else 0


def parse_reservations(text: str) -> list[Reservation]:
    """Parse the output of `scontrol --oneliner show reservation`; skip records without a start time."""
    found = []
    for record in parse_records(text):
        try:
            # Slurm prints local time without a zone, which is how `timestamp` reads it.
            start = datetime.fromisoformat(record["StartTime"]).timestamp()
        except (KeyError, ValueError):
            continue
        found.append(Reservation(record.get("ReservationName", "?"), start, record.get("Nodes", ""), record.get("Flags", "")))
    return found


def next_reservation(reservations: Sequence[Reservation], now: float) -> tuple[int, Reservation] | None:
    """Return (seconds until the next reservation begins, the reservation), or None if none is coming."""
    # A reservation that has begun is not waited for; its nodes are simply unavailable.
    coming = sorted((one for one in reservations if one.start > now), key=lambda one: one.start)
    return (int(coming[0].start - now), coming[0]) if coming else None


def max_time(partition: Mapping[str, str]) -> str | None:
    """Return the time limit of a partition, None if it is unlimited."""
    found = partition.get("MaxTime", "UNLIMITED")
    return None if found in ("UNLIMITED", "INFINITE") else found

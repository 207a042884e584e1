"""Run Slurm's commands and parse their output. sacct is never used, because many clusters keep no accounting. Standard library only."""

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
from slurm.cluster import parse_time

# Told apart by the message, because Slurm's commands exit with code 1 for every reason.
_TRANSIENT = re.compile(r"(?i)unable to contact|timed out|try again|temporarily|communication|connection refused")
_LIMIT = re.compile(r"(?i)policy|limit|quota")  # of a QOS, an association or a partition

# Job states of squeue, grouped by their meaning for `sap-slurm status`.
PENDING_STATES = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "SUSPENDED", "RESV_DEL_HOLD")
RUNNING_STATES = ("RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING", "STOPPED")


class SlurmError(UserError):
    """A Slurm command failed. `over_limit`: because of a limit on jobs."""

    def __init__(self, text: str, over_limit: bool = False) -> None:
        super().__init__(text)
        self.over_limit = over_limit


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

    @property
    def pending(self) -> bool:
        """Whether the job is in the queue."""
        return self.state in PENDING_STATES

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


def run_command(*arguments: str, stdin: str | None = None) -> str:
    """Run a Slurm command and return its output. It is tried three times while the controller cannot be reached.

    Raises:
        SlurmError: the command is not installed, does not answer for 60 s, or fails; the message repeats the command's own.
    """
    program = arguments[0]
    # Asked before it is run, so that the message names the remedy instead of FileNotFoundError.
    if shutil.which(program) is None:
        raise SlurmError(f"{program} is not installed here; run this on a login node of the cluster")
    # A busy controller answers a moment later; two short pauses cover that without making a real failure slow.
    for pause in (0.3, 1.0, None):
        try:
            done = subprocess.run(arguments, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        except subprocess.TimeoutExpired as error:
            raise SlurmError(f"{program} has not answered for 60 s; check with sinfo that the Slurm controller is up") from error
        if done.returncode == 0:
            return done.stdout
        # Some commands print their error to standard output.
        message = " ".join((done.stderr or done.stdout).split()) or f"exit code {done.returncode}"
        if pause is None or not _TRANSIENT.search(message):
            break
        time.sleep(pause)
    raise SlurmError(f"{program} failed: {message}", over_limit=bool(_LIMIT.search(message)))


def sbatch(script: str) -> str:
    """Submit a batch script; return the job id."""
    # The last line, because plugins of a site may print notices before it; with several clusters it is JOB;CLUSTER. The script is passed by
    # standard input, so no file is left behind.
    return run_command("sbatch", "--parsable", stdin=script).strip().splitlines()[-1].split(";")[0]


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


def queue(jobs: Iterable[str]) -> list[QueueEntry]:
    """Return the squeue entries of these jobs, one per array task. Ended jobs are included as long as Slurm remembers them."""
    wanted = set(jobs)
    if not wanted:
        return []
    # A format of our own with a separator that names do not contain. `--states=all` includes jobs that have ended recently.
    columns = "%i|%T|%r|%M|%l|%S|%N"
    text = run_command("squeue", "--noheader", "--array", "--states=all", f"--user={os.geteuid()}", f"--format={columns}")
    # All jobs of the user in one call and selected here, because squeue reports a job that it has forgotten as an error.
    return [entry for entry in parse_squeue(text) if entry.job.split("_")[0] in wanted]


def parse_squeue(text: str) -> list[QueueEntry]:
    """Parse the output of squeue in the format that `queue` requests; skip other lines."""
    found = []
    for line in text.splitlines():
        fields = line.strip().split("|")
        # Other lines are notices of the site.
        if len(fields) == 7:
            job, state, reason, elapsed, limit, start, node = fields
            found.append(QueueEntry(job, state, reason, _seconds(elapsed), limit, start, node))
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

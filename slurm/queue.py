"""Ask Slurm about jobs, reservations and partitions, and parse the answers. sacct is never used, because many clusters keep no accounting.

Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from slurm.cluster import parse_time
from slurm.command import SlurmError, run_command
from slurm.submission import Submission, adopt, belongs, is_copy, same_cluster

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


@dataclass(frozen=True)
class QueueState:
    """What squeue says about the batch jobs of a store."""

    entries: tuple[QueueEntry, ...] = ()  # jobs that are the store's by cluster, id and tag
    submitted: tuple[Submission, ...] = ()  # the store's submissions, with ids that were found by their tag
    unknown: tuple[str, ...] = ()  # reasons why jobs may exist that are not among the entries
    notes: tuple[str, ...] = ()  # jobs that are not this store's although a record names them
    failed: bool = False  # squeue or scontrol did not answer, so nothing is known of this cluster

    @property
    def active(self) -> list[QueueEntry]:
        """The jobs that wait or run."""
        return [entry for entry in self.entries if entry.pending or entry.running]

    def submission_of(self, entry: QueueEntry) -> Submission:
        """The submission of one of the entries."""
        return next(one for one in self.submitted if one.tag == entry.tag)


def read_queue(store: Path, submitted: Sequence[Submission], ended: Collection[str] = ()) -> QueueState:
    """Return the batch jobs of a store that this cluster knows; `unknown` says what cannot be known from here. Never raises SlurmError.

    Args:
        store: the results folder.
        submitted: its submissions.
        ended: tags of submissions whose tasks are known to have ended, so that nobody has to ask for them on another cluster.
    """
    # A copied folder has records of another store's jobs, which still write there.
    copied = [one for one in submitted if is_copy(store, one)]
    own = [one for one in submitted if one not in copied]
    notes = [f"the records here are of another folder, of which this one is a copy: {_count(copied)} ({_names(copied)})"] if copied else []
    if not own:
        return QueueState(notes=tuple(notes))
    try:
        settings = scontrol_config()
        here = settings.get("ClusterName", "")
        groups: dict[str, list[Submission]] = {}
        for one in own:
            groups.setdefault("" if not one.cluster or same_cluster(one.cluster, here) else one.cluster, []).append(one)
        listed = {"": squeue(groups.get("", []))}
    except SlurmError as error:
        return QueueState(submitted=tuple(own), unknown=(str(error),), notes=tuple(notes), failed=True)
    unknown = _not_shown(groups.get("", []), settings)
    for cluster, jobs in groups.items():
        if cluster:
            asked = [one for one in jobs if one.tag not in ended]
            entries = _ask_other(cluster, asked, here) if asked else []
            unknown += [entries] if isinstance(entries, str) else []
            listed[cluster] = [] if isinstance(entries, str) else entries
    found: list[QueueEntry] = []
    known: list[Submission] = []
    for cluster, jobs in groups.items():
        for one in jobs:
            ours = [replace(entry, tag=one.tag) for entry in listed[cluster] if _is_of(one, entry)]
            known.append(adopt(store, one, ours[0].job) if ours and not one.job else one)
            found += ours
            if not (one.job or ours):
                notes.append(f"the answer to a submission was lost, and no job with its tag {one.tag} is in the queue")
            # The same number, another job: of a controller that counts from 1 again, or of another cluster of the same name.
            if one.tag and not ours and any(entry.job.split("_")[0] == one.job for entry in listed[cluster]):
                notes.append(f"job {one.job} of cluster {cluster or here} is another job: it lacks the tag {one.tag} of this sweep")
    return QueueState(tuple(found), tuple(known), tuple(unknown), tuple(notes))


def _not_shown(local: Sequence[Submission], settings: Mapping[str, str]) -> list[str]:
    """Reasons why squeue may not show jobs of this cluster."""
    unknown = []
    if untagged := [one for one in local if not one.tag]:
        unknown.append(f"{_count(untagged)} ({_names(untagged)}) have no tag, so their jobs cannot be told from others; see squeue --me")
    hidden = [one for one in local if one.user not in (None, os.geteuid())]
    if hidden and "jobs" in settings.get("PrivateData", ""):
        unknown.append(f"{_count(hidden)} ({_names(hidden)}) were made by other users, whose jobs this cluster does not show")
    return unknown


def _ask_other(cluster: str, jobs: Sequence[Submission], here: str) -> list[QueueEntry] | str:
    """The jobs on another cluster, or why they cannot be seen."""
    sentence = (
        f"{_count(jobs)} to cluster {cluster} ({_names(jobs)}) cannot be seen from cluster {here or '?'}; run this on a login node there"
    )
    # Only if it was reached from this cluster before: else a cluster of the same name may be another one.
    if not all(one.via and same_cluster(one.via, here) for one in jobs):
        return sentence
    try:
        return squeue(jobs, f"--clusters={cluster}")
    except SlurmError as error:
        return f"{sentence} ({error})"


def find_tag(user: int, tag: str, *options: str, job: str = "") -> list[QueueEntry]:
    """Return the jobs of a user that carry a tag, or have the id `job`.

    Raises:
        SlurmError: squeue does not answer.
    """
    entries = _ask_squeue([user], options)
    return [entry for entry in entries if tag in entry.name or tag in entry.comment or (job and entry.job.split("_")[0] == job)]


def squeue(submitted: Sequence[Submission], *options: str) -> list[QueueEntry]:
    """Return all jobs of the users who made these submissions, one entry per array task; ended jobs as long as Slurm remembers them.

    Raises:
        SlurmError: squeue does not answer, or its answer cannot be read.
    """
    # All jobs in one call and selected by the caller, because squeue reports a job that it has forgotten as an error.
    return _ask_squeue({os.geteuid() if one.user is None else one.user for one in submitted}, options) if submitted else []


def _ask_squeue(users: Iterable[int], options: Sequence[str]) -> list[QueueEntry]:
    # A format of our own, with the texts that may contain a separator at its end. `--states=all` includes jobs that have ended recently;
    # --federation has no effect outside a federation, in which a job may run on another cluster than the one that accepted it.
    columns = "%i|%T|%r|%M|%l|%S|%N|%j|%k"
    names = ",".join(map(str, sorted(users)))
    where = options or ("--federation",)
    text = run_command("squeue", "--noheader", "--array", *where, "--states=all", f"--user={names}", f"--format={columns}")
    entries = parse_squeue(text)
    # Notices of the site are skipped; an error that squeue's wrapper prints to standard output is no empty queue.
    if not entries and re.search(r"(?i)\||error|unable|fatal|failed", text):
        raise SlurmError(f"squeue printed what cannot be read: {' '.join(text.split())[:200]}")
    return entries


def _is_of(submission: Submission, entry: QueueEntry) -> bool:
    if belongs(submission, entry.job, entry.name, entry.comment):
        return True
    # A site may rewrite both name and comment; the log's name has the tag, too, and only scontrol prints it.
    if not submission.tag or not submission.job or entry.job.split("_")[0] != submission.job:
        return False
    try:
        return bool(re.search(rf"StdOut=\S*{submission.tag}", run_command("scontrol", "--oneliner", "show", "job", entry.job)))
    except SlurmError:
        return False


def _count(submitted: Sequence[Submission]) -> str:
    return "1 submission" if len(submitted) == 1 else f"{len(submitted)} submissions"


def _names(submitted: Sequence[Submission]) -> str:
    return ", ".join(f"job {one.name}" for one in submitted[:5]) + (", ..." if len(submitted) > 5 else "")


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

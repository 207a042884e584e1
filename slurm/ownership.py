"""Which jobs in the queue are a store's own: those that agree in cluster, id and tag. What cannot be seen is unknown, not absent.

Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from slurm.command import SlurmError, run_command
from slurm.queue import QueueEntry, has_account, scontrol_config, squeue
from slurm.submission import (
    FOLDER,
    Submission,
    adopt,
    belongs,
    carries,
    is_copy,
    same_cluster,
    store_ids,
    tag_in,
    tag_of,
    unreadable,
    unrecorded,
)


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
        return next(one for one in self.submitted if (one.tag, one.job) == (entry.tag, entry.base))


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
    damaged = unreadable(store)
    # A store without submissions is of no concern to a machine without Slurm.
    if not own and not damaged and shutil.which("squeue") is None:
        return QueueState(notes=tuple(notes))
    try:
        settings = scontrol_config()
        here = settings.get("ClusterName", "")
        groups: dict[str, list[Submission]] = {}
        for one in own:
            groups.setdefault("" if not one.cluster or same_cluster(one.cluster, here) else one.cluster, []).append(one)
        # Also without a record here: a printed script is recorded when its job starts, and a record may be damaged.
        listed = {"": squeue({os.geteuid(), *_users(groups.get("", []))})}
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
            # Without an id the tag decides; a request that was repeated may have been accepted twice.
            ours = [entry for entry in ours if entry.base == ours[0].base]
            known.append(adopt(store, one, ours[0].job) if ours and not one.job else one)
            found += ours
            if not (one.job or ours):
                notes.append(f"the answer to a submission was lost, and no job with its tag {one.tag} is in the queue")
            if not ours and not cluster and one.user not in (None, os.geteuid()) and not has_account(one.user):
                unknown.append(
                    f"job {one.name} was submitted by user {one.user}, who has no account here, and squeue lists jobs by account"
                )
            # The same number, another job: of a controller that counts from 1 again, or of another cluster of the same name.
            if one.tag and not ours and any(entry.base == one.job for entry in listed[cluster]):
                notes.append(f"job {one.job} of cluster {cluster or here} is another job: it lacks the tag {one.tag} of this sweep")
    for entry in _without_record(store, listed[""], found):
        one = unrecorded(entry.base, here, entry.tag)
        if one not in known:
            why = "it is of a printed script and has not started, or its record is damaged"
            notes.append(f"job {one.job} is this sweep's by its tag {one.tag}, and has no record here: {why}")
            # First, because the last one is taken for the latest.
            known.insert(0, one)
        found.append(entry)
    seen = {entry.tag for entry in found}
    unknown += [_unreadable(store, name, reason) for name, reason in damaged.items() if tag_of(name) not in seen]
    return QueueState(tuple(found), tuple(known), tuple(unknown), tuple(notes))


def _without_record(store: Path, listed: Sequence[QueueEntry], found: Sequence[QueueEntry]) -> list[QueueEntry]:
    """The jobs that wait or run, whose tag begins with the store's own id and that belong to no record."""
    ids, known = store_ids(store), {(entry.job, entry.tag) for entry in found}
    active = [entry for entry in listed if entry.pending or entry.running]
    tagged = [replace(entry, tag=tag) for entry in active if (tag := tag_in((entry.name, entry.comment), ids))]
    return [entry for entry in tagged if (entry.job, entry.tag) not in known]


def _unreadable(store: Path, name: str, reason: str) -> str:
    path = store / FOLDER / f"{name}.json" if name else store / FOLDER
    return f"{path} cannot be read ({reason}), so its jobs may be queued unseen" + (
        "; look for them with squeue --me, and delete the file once they have ended" if name else "; correct its permissions"
    )


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
        return squeue(_users(jobs), f"--clusters={cluster}")
    except SlurmError as error:
        return f"{sentence} ({error})"


def _is_of(submission: Submission, entry: QueueEntry) -> bool:
    if belongs(submission, entry.job, entry.name, entry.comment):
        return True
    # A site may rewrite both name and comment; the log's name has the tag, too, and only scontrol prints it.
    if not submission.tag or not submission.job or entry.base != submission.job:
        return False
    try:
        record = run_command("scontrol", "--oneliner", "show", "job", entry.job)
        return any(carries(path, submission.tag) for path in re.findall(r"StdOut=(.*?)(?=\s+\w+=|\s*$)", record))
    except SlurmError:
        return False


def _users(submitted: Sequence[Submission]) -> set[int]:
    return {os.geteuid() if one.user is None else one.user for one in submitted}


def _count(submitted: Sequence[Submission]) -> str:
    return "1 submission" if len(submitted) == 1 else f"{len(submitted)} submissions"


def _names(submitted: Sequence[Submission]) -> str:
    return ", ".join(f"job {one.name}" for one in submitted[:5]) + (", ..." if len(submitted) > 5 else "")

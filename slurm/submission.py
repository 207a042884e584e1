"""Records of submitted jobs, and the tag by which a batch job is recognised as one of a store. Standard library only.

The number of a job does not identify it: clusters that share a disk count alike, and a controller that lost its state counts from 1 again.
Every submission therefore has a random tag, STORE-SUBMISSION, which begins with the store's own id. It is written to the name of the job,
to its comment (a site may rewrite one of them) and to the name of its log.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sap_core.errors import UserError
from sap_core.files import load_json, save_json

FOLDER = "slurm/submissions"
_IDENTITY = "slurm/store.json"

_TAG = re.compile(r"([0-9a-f]+-[0-9a-f]+)?")
_JOB = re.compile(r"\d*")
_CLUSTER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)?")
_PLAN = re.compile(r"jobs\.jsonl|slurm/plan-[0-9a-f]+\.jsonl")


@dataclass(frozen=True)
class Submission:
    """A submitted job or array: STORE/slurm/submissions/TAG.json. It contains no paths outside the store and no secrets."""

    job: str  # empty while it is not known whether Slurm accepted it
    cluster: str  # ClusterName of the Slurm configuration: several clusters may share a file system
    cluster_file: str  # NAME in cluster=NAME
    mode: str
    tasks: int
    gpus: int  # per task or node
    nodes: int
    partition: str | None
    time: str
    submitted_at: float
    commit: str
    plan: str  # job file, relative to the store
    arguments: list[str]  # of the command line that planned the sweep
    flops_before: float  # forecast FLOPs of the jobs that were done at submission
    tag: str = ""  # empty in records of versions that wrote none: their jobs cannot be recognised
    user: int | None = None  # uid of the submitter: several users may share a store
    via: str = ""  # ClusterName of the login node that submitted to another cluster (sbatch --clusters); empty: `cluster` itself

    @property
    def name(self) -> str:
        """The job's id, or its tag while the id is not known."""
        return self.job or self.tag


def new_tag(store: Path, write: bool = True) -> str:
    """Return the tag of a new submission; the store gets its own id if it has none (`write`)."""
    own = _own_id(store)
    if not own:
        own = _path_digest(store)[:8]
        if write:
            give_id(store, own)
    return f"{own}-{secrets.token_hex(4)}"


def give_id(store: Path, tag: str) -> None:
    """Give a store that has no id of its own the id in a tag (or an id)."""
    if not _own_id(store):
        store.mkdir(parents=True, exist_ok=True)
        save_json(store / _IDENTITY, {"id": tag.split("-")[0], "place": _place(store)})


def comment(tag: str) -> str:
    """Return the comment of a job."""
    return f"sap-sweep:{tag}"


def save(store: Path, submission: Submission) -> None:
    """Write a record."""
    save_json(_path(store, submission), asdict(submission))


def remove(store: Path, submission: Submission) -> None:
    """Delete a record, of a submission that Slurm rejected."""
    with suppress(FileNotFoundError):
        _path(store, submission).unlink()


def _path(store: Path, submission: Submission) -> Path:
    return store / FOLDER / f"{submission.tag or f'{submission.cluster}-{submission.job}'}.json"


def submissions(store: Path, cluster: str | None = None) -> list[Submission]:
    """Return the submissions of a store, oldest first: those of one cluster, or all."""
    found = []
    for path in (store / FOLDER).glob("*.json"):
        # A record of another version or a damaged one must not prevent `status` from showing the others.
        with suppress(OSError, ValueError, TypeError, RecursionError):
            found.append(_checked(Submission(**load_json(path))))
    return sorted((one for one in found if cluster is None or same_cluster(cluster, one.cluster)), key=lambda one: one.submitted_at)


def _checked(one: Submission) -> Submission:
    """The record, if its ids have the form that this program writes.

    Raises:
        ValueError: they have not: the store may be another person's, and these texts become file names and arguments of Slurm's commands.
        TypeError: one is not a text.
    """
    forms = ((_TAG, one.tag), (_JOB, one.job), (_CLUSTER, one.cluster), (_CLUSTER, one.via), (_PLAN, one.plan))
    for form, text in forms:
        if not form.fullmatch(text):
            raise ValueError(f"{text!r} is not of the form {form.pattern}")
    return one


def same_cluster(one: str, other: str) -> bool:
    """Whether two cluster names are the same; Slurm ignores case."""
    return one.casefold() == other.casefold()


def is_copy(store: Path, submission: Submission) -> bool:
    """Whether a record came to this folder with a copy of another store, whose jobs are not this store's."""
    own = _own_id(store)
    return bool(own is not None and submission.tag and submission.tag.split("-")[0] != own)


def belongs(submission: Submission, job: str, name: str, job_comment: str) -> bool:
    """Whether a job that squeue lists for the submission's cluster is the submission's: its id and its tag agree.

    Args:
        submission: the record; without an id (its answer was lost) the tag decides.
        job: id of the job or array task, as printed by squeue.
        name: the job's name.
        job_comment: the job's comment.
    """
    if not submission.tag or not (submission.tag in name or submission.tag in job_comment):
        return False
    return not submission.job or job.split("_")[0] == submission.job


def adopt(store: Path, submission: Submission, job: str) -> Submission:
    """Return the record with the id of the job that was found by its tag, and store it if the folder can be written."""
    known = replace(submission, job=job.split("_")[0])
    # A reader of a shared store may lack the permission; the id is then found anew each time.
    with suppress(UserError, OSError):
        save(store, known)
    return known


def _own_id(store: Path) -> str | None:
    """The id of a store: a digest of the path at which it was submitted first.

    A folder that was moved or is seen through another mount point keeps its inode; a copy has another path and another inode.

    Returns:
        The id; None if the store has none, and "" if its file came from another store.
    """
    here = _place(store)
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = load_json(store / _IDENTITY)
        return str(known["id"]) if any(known["place"][key] == here[key] for key in here) else ""
    return None


def _place(store: Path) -> dict[str, object]:
    place: dict[str, object] = {"path": _path_digest(store)}
    with suppress(OSError):
        place["inode"] = store.stat().st_ino
    return place


def _path_digest(store: Path) -> str:
    # A digest, because a store contains no path.
    return hashlib.sha256(os.fsencode(store.resolve())).hexdigest()[:16]

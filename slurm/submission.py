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
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from sap_core.errors import UserError
from sap_core.files import load_json, save_json

FOLDER = "slurm/submissions"
_IDENTITY = "slurm/store.json"

_TAG = re.compile(r"([0-9a-f]+-[0-9a-f]+)?")
# As `new_tag` makes them. A short one of a crafted record could be part of the name of any job.
_WHOLE_TAG = re.compile(r"[0-9a-f]{8}-[0-9a-f]{8}")
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
    own = store_ids(store)[0]
    if write:
        store.mkdir(parents=True, exist_ok=True)
        own = store_ids(store)[0]
        give_id(store, own)
    return f"{own}-{secrets.token_hex(4)}"


def store_ids(store: Path) -> list[str]:
    """Return the ids with which tags of this folder's submissions may begin: its own, or before it has one those that it would get.

    A script that is printed before the folder exists has an id without its inode. A folder that is made where another one was moved away
    gets another id.
    """
    if own := _own_id(store):
        return [own]
    place = _place(store)
    texts = [f"{place['path']} {place['inode']}"] if "inode" in place else []
    return [hashlib.sha256(text.encode()).hexdigest()[:8] for text in (*texts, str(place["path"]))]


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
    """Return the readable submissions of a store, oldest first: those of one cluster, or all."""
    found = [one for path in (store / FOLDER).glob("*.json") if isinstance(one := _read(path), Submission)]
    return sorted((one for one in found if cluster is None or same_cluster(cluster, one.cluster)), key=lambda one: one.submitted_at)


def unreadable(store: Path) -> dict[str, str]:
    """Map the records that cannot be read (file name without its suffix; "" is the folder) to the reason. Their jobs may be queued."""
    try:
        paths = sorted((store / FOLDER).iterdir())
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"": error.strerror or str(error)}
    read = {path.stem: _read(path) for path in paths if path.suffix == ".json" and not path.name.startswith(".")}
    return {name: one for name, one in read.items() if isinstance(one, str)}


def tag_of(name: str) -> str | None:
    """Return the tag in the file name (without suffix) of a record; None if it is not of the form TAG or TAG-JOB."""
    found = re.fullmatch(rf"({_WHOLE_TAG.pattern})(-\d+)?", name)
    return found[1] if found else None


def unrecorded(job: str, cluster: str, tag: str) -> Submission:
    """Return what is known of a job in the queue that carries a tag of the store, without its record."""
    return Submission(
        job=job, cluster=cluster, cluster_file="NAME", mode="array", tasks=1, gpus=0, nodes=1, partition=None, time="", submitted_at=0.0,
        commit="", plan="jobs.jsonl", arguments=[], flops_before=0.0, tag=tag,
    )  # fmt: skip


def _read(path: Path) -> Submission | str:
    """The record in a file, or the reason why it cannot be read."""
    # A record of another version or a damaged one must not prevent `status` from showing the others.
    try:
        return _checked(Submission(**load_json(path)))
    except (OSError, ValueError, TypeError) as error:
        return " ".join(str(getattr(error, "strerror", None) or error).split())[:200]


_TYPES: dict[str, Any] = {
    "str": str, "str | None": (str, type(None)), "int": int, "int | None": (int, type(None)), "float": (int, float), "list[str]": list,
}  # fmt: skip


def _checked(one: Submission) -> Submission:
    """The record, if its fields have the types and its ids the form that this program writes.

    Raises:
        ValueError: they have not: the store may be another person's, and these texts become file names and arguments of Slurm's commands.
    """
    for item in fields(one):
        value = getattr(one, item.name)
        if not isinstance(value, _TYPES[str(item.type)]) or (isinstance(value, list) and not all(isinstance(each, str) for each in value)):
            raise ValueError(f"{item.name} is {value!r}"[:100])
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
    if not (carries(name, submission.tag) or carries(job_comment, submission.tag)):
        return False
    return job.split("_")[0] == submission.job if submission.job else _WHOLE_TAG.fullmatch(submission.tag) is not None


def tag_in(texts: Iterable[str], ids: Iterable[str]) -> str | None:
    """Return the tag in one of the texts (name and comment of a job) that begins with one of the ids of a store."""
    found = (re.search(rf"(?<![0-9a-f])({'|'.join(ids)})-[0-9a-f]{{8}}(?![0-9a-f])", text) for text in texts)
    return next((one[0] for one in found if one), None)


def carries(text: str, tag: str) -> bool:
    """Whether a name, a comment or the path of a log contains a tag, as a whole."""
    return bool(tag) and re.search(rf"(?<![0-9a-f]){re.escape(tag)}(?![0-9a-f])", text) is not None


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
        # It becomes part of file names.
        if re.fullmatch(r"[0-9a-f]+", known["id"]):
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

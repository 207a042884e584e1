"""Submissions: into the queue, noted in the store, cancelled. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sap_core.files import save_json, save_text
from slurm.array_job import Part
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.queue import Refused, call, sbatch
from slurm.script import scripts, text_of

FOLDER = "slurm/submissions"


@dataclass(frozen=True)
class Submission:
    """One job, or one array, that feeds a sweep: STORE/slurm/submissions/CLUSTER-JOB.json. Holds no folder and nothing secret."""

    job: str
    cluster: str  # Slurm's name of the cluster: several may share a disk
    named: str  # cluster=NAME
    mode: str
    tasks: int
    gpus: int  # of a task or node
    nodes: int
    partition: str | None
    time: str
    submitted_at: float
    commit: str
    plan: str  # the jobs' file, in the store
    words: list[str]
    flops_before: float  # forecast FLOPs of the jobs that were done by then


def submit(
    cluster: Cluster, sweep: Sweep, commit: str, flops_before: float, settings: dict[str, str], say: Callable[[str], None]
) -> list[str]:
    """Puts a sweep into the queue, in as many submissions as the array limit asks for; returns the jobs' ids.

    Where a limit on jobs stands against the tasks, fewer are submitted: each takes over what is left of the others', so fewer tasks do the
    same work.

    Raises:
        Refused: Slurm took none.
    """
    jobs: list[str] = []
    (sweep.store / "logs").mkdir(parents=True, exist_ok=True)
    for part in scripts(cluster, sweep, longest_array(settings)):
        try:
            job, count = _fitting(cluster, sweep, part, say)
        except Refused as error:
            if not jobs or not error.limit:
                raise
            say(f"{error}; the tasks that were submitted do all of the work")
            break
        note = Submission(
            job=job, cluster=settings.get("ClusterName", ""), named=cluster.name, mode=cluster.mode, tasks=count, gpus=cluster.gpus,
            nodes=cluster.nodes if cluster.mode == "ray" else 1, partition=cluster.partition, time=cluster.time, submitted_at=time.time(),
            commit=commit, plan=str(sweep.plan.relative_to(sweep.store)), words=list(sweep.words), flops_before=flops_before,
        )  # fmt: skip
        save_json(sweep.store / FOLDER / f"{note.cluster}-{job}.json", asdict(note))
        jobs.append(job)
        if part is not None and count < part.count:
            break
    return jobs


def _fitting(cluster: Cluster, sweep: Sweep, part: Part | None, say: Callable[[str], None]) -> tuple[str, int]:
    """(job, tasks) of the largest submission that Slurm takes: halved for as long as it refuses because of a limit."""
    while True:
        try:
            return sbatch(text_of(cluster, sweep, part)), part.count if part else 1
        except Refused as error:
            if part is None or part.count == 1 or not error.limit:
                raise
            say(f"{error}; trying {part.count // 2} tasks instead of {part.count}")
            part = Part(part.first, part.count // 2, part.total)


def longest_array(settings: dict[str, str]) -> int | None:
    """The most tasks of one array: indices end one below MaxArraySize."""
    size = settings.get("MaxArraySize", "")
    return max(1, int(size)) if size.isdigit() else None


def submissions(store: Path, cluster: str | None = None) -> list[Submission]:
    """What was submitted for a store, oldest first; of one cluster, or of all."""
    found = []
    for path in (store / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError, TypeError):
            found.append(Submission(**json.loads(path.read_text())))
    return sorted((one for one in found if cluster in (None, one.cluster)), key=lambda one: one.submitted_at)


def cancel(store: Path, jobs: Sequence[str]) -> None:
    """Cancels jobs (12, or 12_3 for a task), and notes it first, so that none asks for a requeue."""
    for job in jobs:
        save_text(store / "slurm" / "cancelled" / job, "")
    call("scancel", *jobs)

"""Submit, record and cancel batch jobs. Standard library only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sap_core.files import save_json, save_text
from slurm.array_job import ArrayChunk
from slurm.batch import Sweep
from slurm.cluster import Cluster
from slurm.queue import SlurmError, run_command, sbatch
from slurm.script import script_text, submission_plan

FOLDER = "slurm/submissions"


@dataclass(frozen=True)
class Submission:
    """A submitted job or array: STORE/slurm/submissions/CLUSTER-JOB.json. It contains no paths outside the store and no secrets."""

    job: str
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


def submit(
    cluster: Cluster, sweep: Sweep, commit: str, flops_before: float, settings: dict[str, str], log: Callable[[str], None]
) -> list[str]:
    """Submit a sweep in as many arrays as MaxArraySize requires; return the job ids.

    If a limit on jobs prevents a submission, fewer tasks are submitted. They run the whole sweep, because each task takes over unfinished
    jobs of other shards.

    Raises:
        SlurmError: Slurm accepted no submission.
    """
    jobs: list[str] = []
    store = sweep.paths.store
    # Slurm does not create the folder of a log.
    (store / "logs").mkdir(parents=True, exist_ok=True)
    for chunk in submission_plan(cluster, max_array_tasks(settings)):
        try:
            job, count = _submit_fitting(cluster, sweep, chunk, log)
        except SlurmError as error:
            # After the first accepted array a limit is no failure: the accepted tasks take over all shards.
            if not jobs or not error.over_limit:
                raise
            log(f"{error}; the submitted tasks run the whole sweep")
            break
        record = Submission(
            job=job, cluster=settings.get("ClusterName", ""), cluster_file=cluster.name, mode=cluster.mode, tasks=count, gpus=cluster.gpus,
            nodes=cluster.nodes if cluster.mode == "ray" else 1, partition=cluster.partition, time=cluster.time, submitted_at=time.time(),
            commit=commit, plan=str(sweep.plan.relative_to(store)), arguments=list(sweep.arguments), flops_before=flops_before,
        )  # fmt: skip
        # Right after its own submission, so that an interruption between two arrays loses the record of neither.
        save_json(store / FOLDER / f"{record.cluster}-{job}.json", asdict(record))
        jobs.append(job)
        # The limit is reached, so a further array would be refused.
        if chunk is not None and count < chunk.count:
            break
    return jobs


def _submit_fitting(cluster: Cluster, sweep: Sweep, chunk: ArrayChunk | None, log: Callable[[str], None]) -> tuple[str, int]:
    """Submit an array, halving its number of tasks while Slurm rejects it because of a limit; return (job id, tasks)."""
    while True:
        try:
            return sbatch(script_text(cluster, sweep, chunk)), chunk.count if chunk else 1
        except SlurmError as error:
            # A single task that is refused has no smaller form; other errors would repeat.
            if chunk is None or chunk.count == 1 or not error.over_limit:
                raise
            log(f"{error}; trying {chunk.count // 2} tasks instead of {chunk.count}")
            # Halving finds an accepted number in few calls. `total` stays, so that the shards of other arrays keep their numbers.
            chunk = ArrayChunk(chunk.first, chunk.count // 2, chunk.total)


def max_array_tasks(settings: dict[str, str]) -> int | None:
    """Return the number of tasks allowed in one array (the largest index is MaxArraySize - 1); None if unknown."""
    size = settings.get("MaxArraySize", "")
    return max(1, int(size)) if size.isdigit() else None


def submissions(store: Path, cluster: str | None = None) -> list[Submission]:
    """Return the submissions of a store, oldest first: those of one cluster, or all."""
    found = []
    for path in (store / FOLDER).glob("*.json"):
        # A record of another version or a damaged one must not prevent `status` from showing the others.
        with suppress(OSError, ValueError, TypeError):
            found.append(Submission(**json.loads(path.read_text())))
    return sorted((one for one in found if cluster in (None, one.cluster)), key=lambda one: one.submitted_at)


def cancel(store: Path, jobs: Sequence[str]) -> None:
    """Cancel jobs (12) or array tasks (12_3). The cancellation is recorded first, so that none of them requests a requeue."""
    for job in jobs:
        # A file per job, which the batch script finds without Python when it decides about a requeue.
        save_text(store / "slurm" / "cancelled" / job, "")
    run_command("scancel", *jobs)

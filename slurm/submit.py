"""Submit and cancel batch jobs. Standard library only."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sap_core.errors import UserError, unknown
from sap_core.files import save_text
from slurm.array_job import ArrayChunk
from slurm.batch import CANCELLED, Sweep
from slurm.cluster import Cluster
from slurm.command import SlurmError, run_command
from slurm.ownership import QueueState
from slurm.sbatch import LostAnswer, sbatch
from slurm.script import script_text, submission_plan
from slurm.submission import Submission, new_tag, remove, same_cluster, save


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
    # Slurm does not create the folder of a log.
    (sweep.paths.store / "logs").mkdir(parents=True, exist_ok=True)
    for chunk in submission_plan(cluster, max_array_tasks(settings)):
        record = _record(cluster, sweep, commit, flops_before, settings)
        try:
            job, count = _submit_fitting(cluster, sweep, chunk, record, log)
        except (SlurmError, KeyboardInterrupt) as error:
            # After the first accepted array a limit is no failure: the accepted tasks take over all shards.
            if not jobs or not isinstance(error, SlurmError) or isinstance(error, LostAnswer) or not error.over_limit:
                if jobs:
                    log(f"submitted before this: {', '.join(jobs)}")
                raise
            log(f"{error}; the submitted tasks run the whole sweep")
            break
        jobs.append(job)
        # The limit is reached, so a further array would be refused.
        if chunk is not None and count < chunk.count:
            break
    return jobs


def _record(cluster: Cluster, sweep: Sweep, commit: str, flops_before: float, settings: Mapping[str, str]) -> Submission:
    """A record without the id and the number of tasks, which are known after the submission."""
    here = settings.get("ClusterName", "")
    # With sbatch --clusters; of several, sbatch's answer names the one that took the job.
    named = next((option.partition("=")[2] for option in cluster.sbatch if option.startswith("--clusters=")), "")
    target = named if named not in ("", "all") and "," not in named and not same_cluster(named, here) else ""
    return Submission(
        job="", cluster=target or here, via=here if target else "", cluster_file=cluster.name, mode=cluster.mode, tasks=1,
        gpus=cluster.gpus, nodes=cluster.nodes if cluster.mode == "ray" else 1, partition=cluster.partition, time=cluster.time,
        submitted_at=time.time(), commit=commit, plan=str(sweep.plan.relative_to(sweep.paths.store)), arguments=list(sweep.arguments),
        flops_before=flops_before, tag=new_tag(sweep.paths.store), user=os.geteuid(),
    )  # fmt: skip


def _submit_fitting(
    cluster: Cluster, sweep: Sweep, chunk: ArrayChunk | None, record: Submission, log: Callable[[str], None]
) -> tuple[str, int]:
    """Submit an array, halving its number of tasks while Slurm rejects it because of a limit; return (job id, tasks)."""
    store = sweep.paths.store
    while True:
        record = replace(record, tasks=chunk.count if chunk else 1)
        # Before the submission, so that an accepted job is found by its tag even if this program is killed before it reads the answer.
        save(store, record)
        try:
            job, where = sbatch(script_text(cluster, replace(sweep, tag=record.tag), chunk), record.tag, log)
        except KeyboardInterrupt:
            log(f"interrupted; sap-slurm status {shlex.quote(str(store))} says whether Slurm accepted the job with the tag {record.tag}")
            raise
        except LostAnswer:
            raise
        except SlurmError as error:
            # A single task that is refused has no smaller form; other errors would repeat.
            if chunk is None or chunk.count == 1 or not error.over_limit:
                remove(store, record)
                raise
            log(f"{error}; trying {chunk.count // 2} tasks instead of {chunk.count}")
            # Halving finds an accepted number in few calls. `total` stays, so that the shards of other arrays keep their numbers.
            chunk = ArrayChunk(chunk.first, chunk.count // 2, chunk.total)
            continue
        # With sbatch --clusters, and in a federation, the job may be another cluster's.
        if where and record.cluster and not same_cluster(where, record.cluster):
            record = replace(record, cluster=where, via=record.via or record.cluster)
        save(store, replace(record, job=job))
        return job, record.tasks


def choose_jobs(state: QueueState, ids: Sequence[str], store: str) -> list[tuple[Submission, str]]:
    """Return the jobs to cancel with their submissions: those named, or all that wait or run.

    Args:
        state: what squeue says; only jobs of the store by cluster, id and tag are among its entries.
        ids: ids of batch jobs (12) or array tasks (12_3); empty: all.
        store: the results folder, as the user would type it.

    Raises:
        UserError: an id that is none of this sweep's, or not in the queue.
    """
    if not ids:
        # Array tasks are reduced to their array, so that one scancel ends it as a whole.
        owners = {(entry.tag, entry.base): state.submission_of(entry) for entry in state.active}
        return [(one, one.job) for one in owners.values()]
    chosen = []
    for job in ids:
        base = job.split("_")[0]
        # Only jobs of this sweep's submissions: a mistyped number must not cancel somebody's other job.
        if not re.fullmatch(r"\d+(_\d+)?", job) or base not in [one.job for one in state.submitted]:
            raise unknown("job", job, [one.job for one in state.submitted if one.job], f"the submissions of {store}")
        found = [entry for entry in state.active if job in (entry.job, entry.base)]
        if not found:
            why = "; ".join(state.unknown) or "it has ended, or its number is another job's now"
            raise UserError(f"no job {job} of this sweep is in the queue of this cluster ({why}); nothing was cancelled")
        chosen.append((state.submission_of(found[0]), job))
    return chosen


def refuse_no_arrays(cluster: Cluster, settings: Mapping[str, str]) -> None:
    """Refuse mode array on a cluster that allows no job arrays.

    Raises:
        UserError: MaxArraySize is 0.
    """
    if cluster.mode == "array" and settings.get("MaxArraySize", "").strip() == "0":
        raise UserError(f"this cluster allows no job arrays (MaxArraySize is 0); set mode: ray in {cluster.name}.yaml, or cluster.mode=ray")


def max_array_tasks(settings: dict[str, str]) -> int | None:
    """Return the number of tasks allowed in one array (the largest index is MaxArraySize - 1); None if unknown."""
    size = settings.get("MaxArraySize", "")
    return max(1, int(size)) if size.isdigit() else None


def cancel(store: Path, sweep_jobs: Sequence[tuple[Submission, str]], log: Callable[[str], None]) -> None:
    """Cancel batch jobs (12) or array tasks (12_3) that are the store's.

    The cancellation is recorded first, so that none of them requests a requeue.

    Args:
        store: the results folder.
        sweep_jobs: the submission of each job, and its id (`choose_jobs`).
        log: gets a line if the cancellation cannot be recorded (a full or read-only disk), which does not prevent it.

    Raises:
        SlurmError: scancel failed; jobs that it may not have cancelled are not recorded as cancelled.
    """
    clusters: dict[str, list[tuple[str, Path]]] = {}
    for submission, job in sweep_jobs:
        task = job.partition("_")[2]
        # By tag: another job of the same number must not be taken for cancelled. A file per job, which bash finds without Python.
        mark = store / CANCELLED / (f"{submission.tag}_{task}" if task else submission.tag)
        clusters.setdefault(submission.cluster if submission.via else "", []).append((job, mark))
    try:
        for mark in (mark for group in clusters.values() for _, mark in group):
            save_text(mark, "")
    except (UserError, OSError) as error:
        log(f"the cancellation is not recorded ({error}); run sap-slurm status to see whether a job was requeued")
    while clusters:
        cluster = next(iter(clusters))
        try:
            run_command("scancel", *([f"--clusters={cluster}"] if cluster else []), *(job for job, _ in clusters[cluster]))
        except SlurmError:
            # Of another user, for example: a job that goes on must be able to request its requeue.
            for mark in (mark for group in clusters.values() for _, mark in group):
                with suppress(OSError):
                    mark.unlink(missing_ok=True)
            raise
        del clusters[cluster]

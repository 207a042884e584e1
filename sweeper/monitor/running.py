"""The epochs of the trainings that run at the moment, from the logs of their jobs, which every backend writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from sweeper.jobs.job import Job

MAX_SHOWN = 3
"""Number of trainings that are named; the others are counted."""

MAX_READ = 64
"""Number of logs that are looked at: the jobs that start first."""

_TAIL_BYTES = 4096
_EPOCH = re.compile(rb"^\S+ \S+ INFO epoch (\d+)", re.MULTILINE)


def running_trainings(waiting: Mapping[str, Job], logs: Path, since: float) -> str:
    """`epoch 3 of 30 (seed 1), epoch 2 of 30 (seed 2)`; "" if no training has ended an epoch.

    Args:
        waiting: jobs that have not ended, by id, in the order in which they start.
        logs: folder of the jobs' logs.
        since: time of the start of the sweep in seconds since the epoch; older logs are of an earlier start.
    """
    found = []
    for job_id, job in [(job_id, job) for job_id, job in waiting.items() if job.job_type == "train"][:MAX_READ]:
        epoch = _last_epoch(logs / f"{job_id}.log", since)
        if epoch is not None:
            # A display ends no sweep, whatever a plug-in's trainer is.
            planned = job.spec.get("trainer", {}).get("settings", {}).get("epochs")
            of = f" of {planned}" if isinstance(planned, int) else ""
            found.append(f"epoch {epoch}{of} ({job.labels['network']}, seed {job.labels['seed']})")
    more = [f"{len(found) - MAX_SHOWN} more trainings"] if len(found) > MAX_SHOWN else []
    return ", ".join([*found[:MAX_SHOWN], *more])


def _last_epoch(log: Path, since: float) -> int | None:
    # A log may vanish, and most jobs have none yet.
    with suppress(OSError):
        if log.stat().st_mtime >= since:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
                epochs = _EPOCH.findall(file.read())
            return int(epochs[-1]) if epochs else None
    return None

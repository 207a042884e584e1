"""How much of a GPU a job gets: the share that was asked for, and more once jobs of its kind have run out of memory beside others.

A job that runs out of memory with less than a whole GPU has not failed yet: its kind's share doubles, to a whole GPU at most, and it runs
again. What was learned is kept beside the rows, because a sweep that is killed and started again would learn it anew every time. Knows no
Ray.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sap_core.files import save_json, storing
from sweeper.jobs.job import Job

WHOLE = 1.0


class Packing:
    """Shares by kind of job, for one sweep."""

    def __init__(self, path: Path, device: str = "cpu", cpu_jobs: Sequence[str] = ()) -> None:
        """
        Args:
            path: where learned shares are kept (`Store.packing`).
            device: where jobs run that are not named by `cpu_jobs`.
            cpu_jobs: kinds of jobs (`select`) or methods (`ssd`) that run on CPUs and take no GPU.
        """
        self._path = path
        self._device = device
        self._cpu_jobs = frozenset(cpu_jobs)
        self._learned = _read(path)

    def on_cpu(self, job: Job) -> bool:
        """Is this a job for a CPU, on whatever device the others run?"""
        return job.job_type in self._cpu_jobs or (job.job_type in ("tune", "search") and job.labels["method"] in self._cpu_jobs)

    def device(self, job: Job) -> str:
        return "cpu" if self.on_cpu(job) else self._device

    def share(self, job: Job) -> float:
        """GPUs for the job: below 1 it shares one. A job on a GPU for which nothing was asked gets a whole one."""
        if self.on_cpu(job):
            return 0.0
        asked = job.resources["gpus"] or (WHOLE if self._device.startswith("cuda") else 0.0)
        return max(asked, self._learned.get(kind_of(job), 0.0)) if asked else 0.0

    def given(self, job: Job) -> Job:
        """The job with its share, which its rows name."""
        return replace(job, resources={**job.resources, "gpus": self.share(job)})

    def lower(self, job: Job, share: float) -> float:
        """Books that the job ran out of memory with `share` of a GPU, beside others; returns the share that its kind has now.

        Jobs of one kind that run out of memory side by side raise it once.
        """
        kind = kind_of(job)
        if share >= self._learned.get(kind, 0.0):
            self._learned[kind] = min(WHOLE, 2 * share)
            with storing(self._path):
                save_json(self._path, self._learned)
        return self._learned[kind]


def kind_of(job: Job) -> str:
    """Jobs that may be expected to need the same memory: one method, trainer or pruner on one network and data set."""
    labels = job.labels
    who = {"train": labels["trainer"], "select": labels["pruner"]}.get(job.job_type, labels["method"])
    return f"{job.job_type}/{labels['dataset']}/{labels['network']}/{who}"


def jobs_per_device(share: float) -> int:
    """How many jobs with this share fit on one GPU."""
    return max(1, int(WHOLE / share + 1e-6)) if share else 1


def _read(path: Path) -> dict[str, float]:
    """The shares learned in earlier starts; a damaged file is as good as none."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return {str(kind): min(WHOLE, float(share)) for kind, share in json.loads(path.read_text()).items()}
    return {}

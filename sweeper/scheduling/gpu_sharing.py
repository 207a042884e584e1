"""Fractional GPU allocation: the requested share, doubled after an out-of-memory error on a shared GPU.

A job that runs out of memory on a shared GPU has not failed yet: the share of its memory class doubles, up to a full GPU, and it is rerun.
Raised shares are stored in the sweep's folder, so that a restarted sweep does not have to run out of memory to learn them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from sap_core.files import load_json, save_json, storing
from sweeper.jobs.job import Job

FULL_GPU = 1.0


class GpuSharing:
    """The GPU shares of one sweep's jobs, by memory class."""

    def __init__(self, path: Path, device: str = "cpu", cpu_jobs: Sequence[str] = ()) -> None:
        """
        Args:
            path: file of the raised shares (`Store.packing`).
            device: device of the jobs that `cpu_jobs` does not name.
            cpu_jobs: job types (`select`) or methods (`ssd`) that run on CPUs and need no GPU.
        """
        self._path = path
        self._device = device
        self._cpu_jobs = frozenset(cpu_jobs)
        self._raised = _read(path)

    def on_cpu(self, job: Job) -> bool:
        """Returns whether `cpu_jobs` names the job's type or method."""
        # Only these types run a method, whose name `cpu_jobs` may contain; the other types are named themselves.
        return job.job_type in self._cpu_jobs or (job.job_type in ("tune", "search") and job.labels["method"] in self._cpu_jobs)

    def device(self, job: Job) -> str:
        return "cpu" if self.on_cpu(job) else self._device

    def share(self, job: Job) -> float:
        """GPUs for the job; below 1 it shares one. A job on a GPU without a requested share gets a full one."""
        if self.on_cpu(job):
            return 0.0
        requested = job.resources["gpus"] or (FULL_GPU if self._device != "cpu" else 0.0)
        # The larger of both: a user may raise the share above the stored one, but a lower request would run out of memory as before.
        return max(requested, self._raised.get(memory_class(job), 0.0)) if requested else 0.0

    def with_share(self, job: Job) -> Job:
        """The job with its current share, which its rows record."""
        # A copy: jobs are immutable, and the plan keeps the requested share.
        return replace(job, resources={**job.resources, "gpus": self.share(job)})

    def raise_share(self, job: Job, share: float) -> float:
        """Doubles the share of the job's memory class after an out-of-memory error with `share`; returns the new share.

        Concurrent jobs of one class that run out of memory with the same share raise it once.

        Raises:
            StorageError: the raised share cannot be stored.
        """
        key = memory_class(job)
        # Jobs that started with the smaller share may fail after the share was raised; they must not raise it once more.
        if share >= self._raised.get(key, 0.0):
            # Doubling reaches a full GPU after few failures: from a share of 1/8 after three.
            self._raised[key] = min(FULL_GPU, 2 * share)
            with storing(self._path):
                # Stored at once, because a sweep that is killed later should not run out of memory again to learn the share.
                save_json(self._path, self._raised)
        return self._raised[key]


def memory_class(job: Job) -> str:
    """Key of jobs that are expected to need the same memory: one method, trainer or pruner on one network and data set."""
    labels = job.labels
    # Settings of one method share a class: memory depends on the network and the batch size far more than on a setting.
    component = {"train": labels["trainer"], "select": labels["pruner"]}.get(job.job_type, labels["method"])
    return f"{job.job_type}/{labels['dataset']}/{labels['network']}/{component}"


def jobs_per_device(share: float) -> int:
    """Number of jobs with this share that fit on one GPU."""
    # 1e-6: three jobs with a share of 1/3 fit, although 1 / (1/3) may round below 3
    return max(1, int(FULL_GPU / share + 1e-6)) if share else 1


def _read(path: Path) -> dict[str, float]:
    """The shares raised in earlier starts; a damaged file counts as missing, because the shares can be learned anew."""
    with suppress(OSError, ValueError, AttributeError, TypeError):
        return {str(key): min(FULL_GPU, float(share)) for key, share in load_json(path).items()}
    return {}

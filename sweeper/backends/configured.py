"""The backend that a configuration asks for, and its number of concurrent jobs. Imports neither torch nor Ray unless they are needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sap_core import machine
from sweeper.jobs.job import SweepPaths

if TYPE_CHECKING:
    from sweeper.config.schema import BackendConfig
    from sweeper.scheduling.schedule import Backend


def make_backend(settings: BackendConfig, paths: SweepPaths, jobs: int, workers: int | None) -> Backend:
    """Return the configured backend; `backend=auto` prints its choice if there are jobs to run.

    Args:
        settings: the group `backend`.
        paths: the folders of the sweep.
        jobs: number of jobs to run.
        workers: number of concurrent jobs; None: the resources of a Ray cluster limit it.

    Raises:
        UserError: the device does not exist on this machine.
    """
    from sweeper.backends.auto_backend import FallbackBackend, choose_backend, ray_is_installed
    from sweeper.backends.local_backend import LocalBackend

    def local() -> LocalBackend:
        return LocalBackend(paths, workers or 1, settings.device, settings.cpu_jobs)

    name, why = choose_backend(settings, jobs, _gpus(settings.device), ray_is_installed())
    if settings.name == "auto" and jobs:
        print(f"backend={name} ({why})", file=sys.stderr)
    if jobs and not settings.address:
        from sweeper.jobs.run_job import check_device

        # Every worker would end with this sentence in its log, and every job would count as failed.
        check_device(settings.device)
    if name == "local":
        # Ray is not imported for the local backend.
        return local()
    from sweeper.backends.ray_backend import RayBackend

    ray = RayBackend(
        paths, workers, settings.device, settings.address, settings.cpu_jobs, start_seconds=settings.start_seconds
    )  # fmt: skip
    # An address is a request for this cluster: its jobs may not fit this machine.
    return FallbackBackend(ray, local) if settings.name == "auto" and not settings.address else ray


def _gpus(device: str) -> int:
    """Number of GPUs that `backend.device` comprises."""
    if device != "cuda":
        return int(device != "cpu")
    import torch

    return torch.cuda.device_count()


def is_limited_by_cluster(settings: BackendConfig) -> bool:
    """Whether the resources of a Ray cluster limit the number of concurrent jobs, rather than a setting."""
    return bool(settings.name != "local" and settings.address and settings.workers is None)


def num_workers(settings: BackendConfig) -> int:
    """Number of concurrent jobs: `backend.workers`, or else one per core, limited by the GPU shares where all jobs need a GPU."""
    if settings.workers is not None:
        return int(settings.workers)
    cores = max(1, machine.cores() // max(1, settings.threads))
    if settings.device != "cpu":
        from sweeper.scheduling.gpu_sharing import jobs_per_device

        # Fractions: several jobs per GPU; whole numbers: several GPUs per job.
        share, gpus = settings.gpus_per_job or 1.0, _gpus(settings.device)
        gpu_jobs = gpus * jobs_per_device(share) if share < 1 else int(gpus / share)
        # Jobs that need no GPU run beside those that do, so then the cores are the limit.
        return cores if settings.cpu_jobs else max(1, min(cores, gpu_jobs))
    return cores

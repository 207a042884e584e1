"""`backend=auto`: chooses between worker processes of this machine and Ray Tune, and goes on without Ray where Ray does not start."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from sweeper.backends.ray_driver import RayUnavailable
from sweeper.config.schema import BackendConfig
from sweeper.scheduling.schedule import Backend, Report, Schedule

if TYPE_CHECKING:
    from sweeper.backends.local_backend import LocalBackend

RAY_JOBS = 1_000
"""Number of jobs from which on Ray is chosen on one machine; its start takes about 15 seconds."""


def choose_backend(settings: BackendConfig, jobs: int, gpus: int, ray_installed: bool) -> tuple[str, str]:
    """Return the backend, `local` or `ray`, and the reason.

    Args:
        settings: the group `backend`.
        jobs: number of jobs to run.
        gpus: number of GPUs that the sweep may use.
        ray_installed: whether Ray can be imported.
    """
    if settings.name != "auto":
        return settings.name, f"backend={settings.name}"
    if settings.address:
        return "ray", f"backend.address={settings.address}"
    if settings.device == "mps":
        return "local", "backend.device=mps"
    # As a plural of "1 job" would read badly, the number comes last.
    why = f"GPUs: {gpus}" if gpus > 1 else f"jobs: {jobs}, at least {RAY_JOBS}" if jobs >= RAY_JOBS else ""
    if not why:
        return "local", f"jobs: {jobs}, fewer than {RAY_JOBS}, on one machine"
    return ("ray", why) if ray_installed else ("local", f"{why}; Ray is not installed")


def ray_is_installed() -> bool:
    """Whether Ray can be imported; does not import it."""
    return importlib.util.find_spec("ray") is not None


class FallbackBackend:
    """Runs jobs with Ray, and with worker processes of this machine if Ray does not start or gives no worker in time."""

    def __init__(self, ray: Backend, local: Callable[[], LocalBackend]) -> None:
        """
        Args:
            ray: the backend to begin with.
            local: makes the other one.
        """  # fmt: skip
        self._ray, self._local = ray, local

    def run(self, schedule: Schedule, report: Report) -> None:
        """See `sweeper.scheduling.schedule.Backend`."""
        try:
            self._ray.run(schedule, report)
        except RayUnavailable as error:
            print(f"backend=local: the sweep goes on with worker processes of this machine, because {error}", file=sys.stderr, flush=True)
            self._local().run(schedule, report)

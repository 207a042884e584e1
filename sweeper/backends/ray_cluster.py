"""Runs the jobs of a snapshot on a Ray cluster: the driver program inside a Slurm allocation. Several may share a store.

python -m sweeper.backends.ray_cluster PLAN --data DIR --store DIR --artifacts DIR --address HOST:PORT [--wait 120]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from sap_core.command_line import path_argument, program
from sap_core.errors import StorageError, UserError
from sap_core.machine import ending_signals
from sap_core.text import one_line
from sweeper.backends.ray_address import is_reachable
from sweeper.backends.ray_backend import RayBackend
from sweeper.backends.ray_driver import RayUnavailable
from sweeper.config.packages import parse_plugins
from sweeper.config.schema import ORDERS, BackendConfig
from sweeper.execute import INTERRUPTED
from sweeper.jobs.job import SweepPaths, read_jobs
from sweeper.jobs.results import store_failure
from sweeper.monitor.progress import Progress
from sweeper.scheduling.schedule import Schedule
from sweeper.store.config_file import read_config
from sweeper.store.store import Store


@program
def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit code: 0 done, 1 a job failed or Ray gave no worker, 2 usage error, 130 stopped with jobs remaining.
    """
    options = _parse(arguments)
    # Slurm ends a step by SIGTERM; before the driver handles signals it has to end like Ctrl-C.
    for number in ending_signals():
        signal.signal(number, _interrupt)
    try:
        return run(options)
    except UserError as error:
        print(f"error: {one_line(str(error))}", file=sys.stderr)
        # A full disk is no mistake in the command. After a failed start the batch job starts Ray and the driver anew, unlike after a usage
        # error, which would be the same at every start.
        return 1 if isinstance(error, StorageError | RayUnavailable) else 2
    except KeyboardInterrupt:
        print("stopped: finished jobs are stored", file=sys.stderr)
        return INTERRUPTED


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        prog="python -m sweeper.backends.ray_cluster",
        description="Runs a file of jobs (sap-slurm freezes it) on a running Ray cluster.",
    )
    parser.add_argument("plan", type=path_argument, help="a file with one JSON job per line")
    parser.add_argument("--data", type=path_argument, required=True, help="folder that contains the data sets")
    parser.add_argument("--store", type=path_argument, required=True, help="the sweep's results folder")
    parser.add_argument("--artifacts", type=path_argument, required=True, help="folder that contains the checkpoints")
    parser.add_argument("--address", required=True, metavar="HOST:PORT", help="the cluster's head; its token is in RAY_AUTH_TOKEN")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--order", default="cells", choices=ORDERS, help="order of the jobs (order= of sap-sweep)")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="time limit for the head to start listening")
    parser.add_argument("--grace", type=float, metavar="SECONDS", help="time that running jobs have for storing their state on SIGTERM")
    parser.add_argument(
        "--plugins", type=parse_plugins, default=(), metavar="PACKAGE,...", help="packages of your own that the jobs may name"
    )
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Runs the jobs that the store does not contain; returns 0, or 1 if a job failed.

    Raises:
        UserError: no cluster answers, or results cannot be stored.
        KeyboardInterrupt: stopped by a signal.
    """
    # In a batch job the head has a random token; without one the driver would meet an open Ray, or none that lets it in.
    if not (os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")):
        raise UserError("RAY_AUTH_TOKEN is not set: set it to the token with which the Ray cluster was started (RAY_AUTH_MODE=token)")
    paths, store = SweepPaths(options.data, options.store, options.artifacts), Store(options.store)
    jobs = list(read_jobs(options.plan, options.plugins))
    finished, problems = store.finished()
    for problem in problems:
        print(problem, file=sys.stderr)
    schedule = Schedule.of(jobs, finished, paths.artifacts, options.order)
    pending = list(schedule.waiting.values())
    total = sum(len(job.runs) for job in jobs)
    # Rows of jobs that are not pending, failed ones included: they need no further work.
    stored = total - sum(len(job.runs) for job in pending)
    print(f"{total} rows planned in {len(jobs)} jobs, {stored} rows stored", file=sys.stderr, flush=True)
    # A store that was copied without its logs has no such folder.
    store.logs.mkdir(parents=True, exist_ok=True)
    with Progress(pending, total, stored, store.logs / "sweep.log") as progress:
        # Before anything starts: parents that failed in earlier starts leave jobs that no worker will ever report.
        for orphan, why in schedule.orphans():
            progress.report(orphan, store_failure(orphan, store, "parent", why))
        if not schedule.empty:
            # The head may still be starting.
            _wait_until(lambda: is_reachable(options.address), options.wait)
            # From the stored configuration rather than from options, so that a batch script and the plan cannot disagree.
            settings = backend_settings(options.store)
            backend = RayBackend(
                paths, settings.workers, options.device, options.address, settings.cpu_jobs, options.grace, settings.start_seconds
            )  # fmt: skip
            backend.run(schedule, progress.report)
    return 1 if schedule.failed else 0


def backend_settings(store: Path) -> BackendConfig:
    """The `backend` group of the stored configuration, with defaults for missing keys.

    Raises:
        UserError: the configuration cannot be read.
    """
    path = store / "config.yaml"
    try:
        stored = read_config(path) if path.exists() else {}
        # A store may have been planned by a version with other keys; unknown ones do not concern this program.
        known = {item.name for item in fields(BackendConfig)}
        return BackendConfig(**{name: value for name, value in (stored.get("backend") or {}).items() if name in known})
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({' '.join(str(error).split())}); freeze the sweep again from its experiment") from error


def _wait_until(ready: Callable[[], bool], seconds: float) -> None:
    """Polls `ready` until it returns True or `seconds` have passed."""
    until = time.monotonic() + seconds
    while not ready() and time.monotonic() < until:
        time.sleep(0.2)


if __name__ == "__main__":
    raise SystemExit(main())

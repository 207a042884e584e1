"""The program that runs jobs: a whole file of them, or one at a time as a driver hands them over (`--serve`). No Ray, no Hydra.

Any number of these programs, and drivers, may work through one file of jobs at once: each job is claimed (sweeper.store.leases).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from sap_core.errors import UserError
from sweeper.config.schema import ORDERS
from sweeper.estimate.duration import RuntimeEstimator, Workload
from sweeper.jobs.job import Job, SweepPaths, read_jobs
from sweeper.jobs.run_job import check_device, execute, tidy_up
from sweeper.monitor.job_lines import WorkerLog
from sweeper.plan.bundle import is_bundle, keep_bundle, read_bundle
from sweeper.scheduling.deadline import Deadline
from sweeper.scheduling.work_queue import WorkQueue
from sweeper.store.leases import Leases
from sweeper.store.store import Store

INTERRUPTED = 130
"""Exit code of a worker that was stopped (SIGTERM, SIGINT) while there was work left, as of `sap-sweep`."""

PATIENCE_SECONDS = 5.0
"""How long a driver's worker waits for a job that another process has, before it answers and is given something else, if there is."""


class Stop:
    """Set by SIGTERM and SIGINT: the running job stores its state and ends."""

    def __init__(self, *signals: signal.Signals) -> None:
        self._asked = threading.Event()
        for number in signals:
            signal.signal(number, lambda *_: self._asked.set())

    def __call__(self) -> bool:
        return self._asked.is_set()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0 done, 1 a job failed, 2 the user's mistake, 130 stopped with work left."""
    options = parse_options(arguments)
    folders = SweepPaths(options.data, options.store, options.artifacts or options.store / "artifacts")
    try:
        check_device(options.device)
        if options.serve:
            return serve(folders, options.device, options.serve)
        return run_file(options, folders)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line of `python -m sweeper.execute`; argparse ends the process with code 2 where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m sweeper.execute",
        description="Runs a file of jobs: a bundle (sap-sweep experiment=NAME export=FILE), or STORE/jobs.jsonl of a sweep. "
        "Several may run on one store at once.",
    )
    parser.add_argument("plan", nargs="?", type=Path, help="a file with one JSON job per line")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--store", type=Path, required=True, help="the sweep's results folder")
    parser.add_argument("--artifacts", type=Path, help="folder of the checkpoints; STORE/artifacts unless given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--shard",
        default="1/1",
        metavar="N/M",
        help="the N-th of M queue first (a baseline and all that stands on it stay together), then what others have left",
    )
    parser.add_argument("--no-steal", action="store_true", help="only that part: leave alone what other queue have left")
    parser.add_argument(
        "--lease", type=float, metavar="SECONDS", help="others may take a job whose owner gave no sign of life for so long (default 120)"
    )
    parser.add_argument(
        "--idle-timeout",
        type=float,
        metavar="SECONDS",
        help="end when nothing could be started for so long, though others still run (default: wait)",
    )
    parser.add_argument("--order", choices=ORDERS, help="which job next (order= of sap-sweep); the bundle's own, or cells, unless given")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="end before so many seconds are over; the same command goes on")
    parser.add_argument(
        "--device-jobs", type=int, default=1, metavar="N", help="how many jobs run at a time on the device, other programs' included"
    )
    parser.add_argument("--serve", type=int, metavar="PID", help="take jobs from the driver PID on standard input, a line each")
    options = parser.parse_args(arguments)
    if not options.serve and options.plan is None:
        parser.error("a job file is needed (or --serve)")
    for option, value in (("--lease", options.lease), ("--idle-timeout", options.idle_timeout)):
        if value is not None and not value > 0:
            parser.error(f"{option} takes a number of seconds above 0")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time; give seconds above 0")
    return value


def run_file(options: argparse.Namespace, folders: SweepPaths) -> int:
    """Runs the jobs of a file that are not in the store: its own part, then what others have left (unless `--no-steal`)."""
    stop = Stop(signal.SIGTERM, signal.SIGINT)
    deadline = Deadline(options.seconds or float("inf"))
    Store(folders.store).check_version()
    jobs, order = _jobs_of(options, folders)
    queue = WorkQueue(jobs, options.shard, folders, order, steal=not options.no_steal)
    queue.report_problems(lambda line: print(line, file=sys.stderr, flush=True))
    if not folders.data.is_dir():
        print(f"--data {folders.data} is no folder: only data sets without files can be read", file=sys.stderr, flush=True)
    leases, estimator = Leases(options.lease), RuntimeEstimator()
    worker_log = WorkerLog(queue.jobs, estimator)
    waited = 0.0
    while not stop() and not queue.all_ended:
        job = queue.next()
        if job is None:
            if (waited := _wait(queue, leases.duration, waited, options.idle_timeout, stop)) < 0 or not deadline.remaining > 0:
                break
            continue
        workload = Workload.of(job.job_type, job.labels)
        if not deadline.fits(job, estimator.estimate(workload, job.forecast_flops)):
            break
        deadline.start_job()
        tried = queue.tried.get(job.job_id, 0)
        result = execute(job, folders, options.device, lambda: stop() or deadline(), options.jobs_on_device, leases=leases, tried=tried)
        queue.record(job, result)
        if result.status == "stopped":
            break
        if result.status != "leased_elsewhere":
            waited = 0.0
            if result.status == "ok":
                estimator.record(workload, job.forecast_flops, result.seconds)
            print(worker_log.line(job, result, queue.remaining_ids()), flush=True)
    if queue.all_ended:
        tidy_up(jobs, folders, leases)
    elif stop():
        return INTERRUPTED
    else:
        print(f"stopped with {queue.remaining_text()}; the same command goes on", flush=True)
    return 1 if queue.failed else 0


def _jobs_of(options: argparse.Namespace, folders: SweepPaths) -> tuple[list[Job], str]:
    """The jobs of the file, and in which order they run; a bundle is kept in the store, for `sap-sweep import`."""
    if not is_bundle(options.plan):
        return list(read_jobs(options.plan)), options.order or "cells"
    bundle = read_bundle(options.plan)
    keep_bundle(options.plan, folders.store)
    return list(bundle.jobs), options.order or bundle.order


def _wait(queue: WorkQueue, lease: float, waited: float, idle: float | None, stop: Stop) -> float:
    """Waits until others may have ended something, and looks; how long nothing could be started by then, -1 for too long."""
    if idle is not None and waited >= idle:
        print(f"nothing to start for {waited:.0f} s", file=sys.stderr)
        return -1.0
    pause = queue.poll_interval(waited, lease)
    _sleep(pause, stop)
    queue.refresh()
    return waited + pause


def _sleep(seconds: float, stop: Stop) -> None:
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(min(0.2, seconds))


def serve(folders: SweepPaths, device: str, driver: int) -> int:
    """Runs jobs from standard input until it closes or the driver is gone; answers each with a JSON line on standard output.

    A line is a JSON mapping: the job, and what `execute` is to be told of it.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; Ctrl-C reaches the whole group
    stop = Stop(signal.SIGTERM)
    end_with(driver)
    for line in sys.stdin:
        if stop():
            break
        _answer(answers, json.loads(line), folders, device, stop)
    return 0


def _answer(answers: TextIO, told: Mapping[str, Any], folders: SweepPaths, device: str, stop: Stop) -> None:
    job = Job.from_json(told["job"])
    try:
        answer = asdict(
            execute(
                job,
                folders,
                device,
                stop,
                told["jobs_on_device"],
                patience=PATIENCE_SECONDS,
                tried=told["tried"],
                oom_retries=told["oom_retries"],
            )
        )
    except UserError as error:
        answer = {"job_id": job.job_id, "fatal": str(error)}
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def end_with(parent: int) -> None:
    """Ends this process as soon as `parent` is not its parent any more: the driver was killed, and the next start owns the store."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())

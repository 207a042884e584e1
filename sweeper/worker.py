"""The program that runs jobs: a whole file of them, or one at a time as a driver hands them over (`--serve`). No Ray, no Hydra."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from sap_core.errors import UserError
from sweeper.bundle import is_bundle, keep_bundle, read_bundle
from sweeper.deadline import Deadline
from sweeper.execute import Folders, check_device, execute, fail
from sweeper.jobs import Job, read_jobs
from sweeper.schedule import Schedule
from sweeper.schema import ORDERS
from sweeper.store import Store


class Stop:
    """Set by SIGTERM: the running job stores its state and ends."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: self._asked.set())

    def __call__(self) -> bool:
        return self._asked.is_set()


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    folders = Folders(options.data, options.store, options.artifacts or options.store / "artifacts")
    try:
        check_device(options.device)
        return (
            serve(folders, options.device, options.serve, options.device_jobs)
            if options.serve
            else run_file(options.plan, folders, options.device, options.only, options.order, options.device_jobs, options.seconds)
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sweeper.execute",
        description="Runs a file of jobs: a bundle (sap-sweep experiment=NAME export=FILE), or STORE/jobs.jsonl of a sweep.",
    )
    parser.add_argument("plan", nargs="?", type=Path, help="a file with one JSON job per line")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--store", type=Path, required=True, help="the sweep's results folder")
    parser.add_argument("--artifacts", type=Path, help="folder of the checkpoints; STORE/artifacts unless given")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--only", default="1/1", metavar="N/M", help="the N-th of M parts; a baseline and all that stands on it stay together"
    )
    parser.add_argument("--order", choices=ORDERS, help="which job next (order= of sap-sweep); the bundle's own, or cells, unless given")
    parser.add_argument("--seconds", type=_seconds, metavar="S", help="end before so many seconds are over; the same command goes on")
    parser.add_argument(
        "--device-jobs", type=int, default=1, metavar="N", help="how many jobs run at a time on the device, other programs' included"
    )
    parser.add_argument("--serve", type=int, metavar="PID", help="take jobs from the driver PID on standard input, one JSON line each")
    options = parser.parse_args(arguments)
    if not options.serve and options.plan is None:
        parser.error("a job file is needed (or --serve)")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time; give seconds above 0")
    return value


def run_file(
    path: Path,
    folders: Folders,
    device: str,
    only: str = "1/1",
    order: str | None = None,
    device_jobs: int = 1,
    seconds: float | None = None,
) -> int:
    """Runs the jobs of a file that are not in the store; returns 0 when none failed, 1 otherwise. `seconds`: when to stop (None: never)."""
    asked, deadline = Stop(), Deadline(float("inf") if seconds is None else seconds)
    store = Store(folders.store)
    if is_bundle(path):
        bundle = read_bundle(path)
        jobs, order = part_of(list(bundle.jobs), only), order or bundle.order
        keep_bundle(path, folders.store)
    else:
        jobs = part_of(list(read_jobs(path)), only)
    finished, problems = store.finished()
    for problem in problems:
        print(problem, file=sys.stderr)
    schedule = Schedule.of(jobs, finished, folders.artifacts, order or "cells")
    _fail_orphans(schedule, store)
    while not asked() and (job := schedule.next()) is not None:
        if not deadline.fits(job):
            schedule.put_back(job.job_id)
            break
        deadline.begins()
        result = execute(job, folders, device, lambda: asked() or deadline(), device_jobs)
        if result.status == "stopped":
            schedule.put_back(job.job_id)
            break
        deadline.ended(job, result.seconds)
        print(f"{job.job_id} {job.kind} {result.status}: {result.rows} rows, {result.seconds:.1f} s", flush=True)
        schedule.finish(job.job_id, result.status == "ok", result.error)
        _fail_orphans(schedule, store)
    if schedule.waiting:
        print(f"stopped with {len(schedule.waiting)} jobs to go; the same command goes on", flush=True)
    return 1 if schedule.failed else 0


def _fail_orphans(schedule: Schedule, store: Store) -> None:
    for orphan, why in schedule.orphans():
        fail(orphan, store, "parent", why)


def part_of(jobs: list[Job], only: str) -> list[Job]:
    """The N-th of M parts of the jobs: chains are dealt out whole, so that no part waits for another."""
    try:
        number, parts = (int(word) for word in only.split("/"))
        if not 1 <= number <= parts:
            raise ValueError(only)
    except ValueError as error:
        raise UserError(f"--only {only} is no part; give N/M with 1 <= N <= M, for example 1/4") from error
    root: dict[str, str] = {}
    for job in jobs:
        root[job.job_id] = root.get(job.parents[0], job.parents[0]) if job.parents else job.job_id
    order = {name: place for place, name in enumerate(dict.fromkeys(root.values()))}
    return [job for job in jobs if order[root[job.job_id]] % parts == number - 1]


def serve(folders: Folders, device: str, driver: int, device_jobs: int) -> int:
    """Runs jobs from standard input until it closes or the driver is gone; answers each with a JSON line on standard output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; Ctrl-C reaches the whole group
    stop = Stop()
    end_with(driver)
    for line in sys.stdin:
        if stop():
            break
        _answer(answers, Job.from_json(line), folders, device, stop, device_jobs)
    return 0


def _answer(answers: TextIO, job: Job, folders: Folders, device: str, stop: Stop, device_jobs: int) -> None:
    try:
        answer = asdict(execute(job, folders, device, stop, device_jobs))
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

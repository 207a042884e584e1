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
from sweeper.execute import Folders, execute, fail
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
    folders = Folders(options.data, options.store, options.artifacts)
    try:
        return (
            serve(folders, options.device, options.serve)
            if options.serve
            else run_file(options.plan, folders, options.device, options.only, options.order, options.device_jobs)
        )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sweeper.execute", description="Runs a file of jobs (sap-sweep writes it as STORE/jobs.jsonl)."
    )
    parser.add_argument("plan", nargs="?", type=Path, help="a file with one JSON job per line")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--store", type=Path, required=True, help="the sweep's results folder")
    parser.add_argument("--artifacts", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument(
        "--only", default="1/1", metavar="N/M", help="the N-th of M parts; a baseline and all that stands on it stay together"
    )
    parser.add_argument("--order", default="cells", choices=ORDERS, help="which job next (order= of sap-sweep)")
    parser.add_argument(
        "--device-jobs", type=int, default=1, metavar="N", help="how many jobs run at a time on the device, other programs' included"
    )
    parser.add_argument("--serve", type=int, metavar="PID", help="take jobs from the driver PID on standard input, a line each")
    options = parser.parse_args(arguments)
    if not options.serve and options.plan is None:
        parser.error("a job file is needed (or --serve)")
    return options


def run_file(path: Path, folders: Folders, device: str, only: str = "1/1", order: str = "cells", device_jobs: int = 1) -> int:
    """Runs the jobs of a file that are not in the store; returns 0 when none failed, 1 otherwise."""
    stop = Stop()
    store = Store(folders.store)
    jobs = part_of(list(read_jobs(path)), only)
    finished, problems = store.finished()
    for problem in problems:
        print(problem, file=sys.stderr)
    schedule = Schedule.of(jobs, finished, folders.artifacts, order)
    _fail_orphans(schedule, store)
    while not stop() and (job := schedule.next()) is not None:
        result = execute(job, folders, device, stop, device_jobs)
        if result.status == "stopped":
            break
        print(f"{job.job_id} {job.kind} {result.status}: {result.rows} rows, {result.seconds:.1f} s", flush=True)
        schedule.finish(job.job_id, result.status == "ok", result.error)
        _fail_orphans(schedule, store)
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


def serve(folders: Folders, device: str, driver: int) -> int:
    """Runs jobs from standard input until it closes or the driver is gone; answers each with a JSON line on standard output.

    A line is how often the job has found no room on a shared device, how many run on it at a time, and the job as JSON.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides; Ctrl-C reaches the whole group
    stop = Stop()
    end_with(driver)
    for line in sys.stdin:
        if stop():
            break
        tries, device_jobs, text = line.split(" ", 2)
        _answer(answers, Job.from_json(text), folders, device, stop, int(device_jobs), int(tries))
    return 0


def _answer(answers: TextIO, job: Job, folders: Folders, device: str, stop: Stop, device_jobs: int, tries: int) -> None:
    try:
        answer = asdict(execute(job, folders, device, stop, device_jobs, tries=tries))
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

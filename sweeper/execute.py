# PYTHON_ARGCOMPLETE_OK: activate-global-python-argcomplete completes `python -m sweeper.execute`.
"""The program `python -m sweeper.execute`: runs a file of jobs, or single jobs for a driver (`--serve`). Needs neither Ray nor Hydra.

Workers of the local backend, tasks of a Slurm array and machines that received a bundle all run it. Any number of these programs, and a
`sap-sweep`, may work on one store concurrently, because every job is leased (sweeper.store.leases).
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
from typing import Any, TextIO

from sap_core.command_line import Parser, examples, path_argument, plain_warnings, program, report_error
from sap_core.completion import answer_shell
from sap_core.errors import UserError
from sap_core.guard import check_start
from sap_core.instruction_sets import use_reproducible
from sap_core.location import version_line
from sap_core.machine import ending_signals
from sweeper.config.packages import parse_plugins
from sweeper.config.schema import ORDERS
from sweeper.estimate.duration import RuntimeEstimator, Workload
from sweeper.jobs.job import Job, SweepPaths, read_jobs
from sweeper.jobs.job_leases import remove_stale_leases
from sweeper.monitor.job_lines import WorkerLog
from sweeper.plan.bundle import copy_bundle, is_bundle, read_bundle
from sweeper.scheduling.deadline import Deadline
from sweeper.scheduling.work_queue import WorkQueue
from sweeper.store.leases import LEASE_SECONDS, Leases
from sweeper.store.store import Store

INTERRUPTED = 130
"""Exit code of a worker that was stopped by SIGTERM, SIGHUP or SIGINT with jobs remaining, as of `sap-sweep`."""

# Long enough for a short job of another sweep to end, and short enough that the worker is soon free for other work.
LEASE_WAIT_SECONDS = 5.0
"""How long a driver's worker waits for a job that another process has leased before it asks the driver for a different one."""


class Stop:
    """A flag that the given signals set; the running job then stores its state and ends."""

    def __init__(self, *signals: signal.Signals) -> None:
        self._requested = threading.Event()
        for number in signals:
            # Only a flag: a handler may run in the middle of any statement, so the job itself looks at it at the end of an epoch.
            signal.signal(number, lambda *_: self._requested.set())

    def __call__(self) -> bool:
        return self._requested.is_set()


@program
def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    Returns:
        The exit code: 0 done, 1 a job or the disk failed, 2 usage error, 130 stopped with jobs remaining.
    """
    try:
        check_start()
        answer_shell(lambda words: (parser(), 0))
        options = parse_options(arguments)
        # Imported after the checks: it loads torch, which takes seconds and ends the process in a working directory that was deleted.
        from sweeper.jobs.run_job import check_device

        paths = SweepPaths(options.data, options.store, options.artifacts or options.store / "artifacts")
        # Before the store is opened, so that a wrong device is one sentence and not a failed row of every job.
        check_device(options.device)
        with plain_warnings():
            return serve(paths, options.device, options.serve) if options.serve else run_file(options, paths)
    except (UserError, OSError) as error:
        return report_error(error)


def parser() -> Parser:
    """Return the argument parser of `python -m sweeper.execute`; has no side effects."""
    parser = Parser(
        "python -m sweeper.execute",
        "Runs a file of jobs: a bundle (sap-sweep export experiment=NAME --output FILE), or STORE/jobs.jsonl of a sweep. "
        "Several may run on one store concurrently.",
    )
    parser.add_argument("--version", action="version", version=version_line(), help="print the version and the folder of the code")
    parser.add_argument("plan", nargs="?", type=path_argument, help="a file with one JSON job per line")
    parser.add_argument("--data", type=path_argument, required=True, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--store", type=path_argument, required=True, metavar="DIR", help="the sweep's results folder")
    parser.add_argument("--artifacts", type=path_argument, metavar="DIR", help="folder of the checkpoints (default: STORE/artifacts)")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, cuda:N or mps (default: cpu)")
    parser.add_argument(
        "--shard", default="1/1", metavar="N/M",
        help="run the N-th of M shards first (default: 1/1), then jobs of the others; a baseline and what depends on it are one shard",
    )  # fmt: skip
    parser.add_argument("--no-steal", action="store_true", help="run only the jobs of the own shard")
    parser.add_argument(
        "--lease", type=float, metavar="SECONDS",
        help=f"other workers take a job over when its owner has not renewed its lease for this long (default: {LEASE_SECONDS:g})",
    )  # fmt: skip
    parser.add_argument(
        "--idle-timeout", type=float, metavar="SECONDS",
        help="end when no job could be started for this long, although other workers still run some (default: wait for them)",
    )  # fmt: skip
    parser.add_argument("--order", choices=ORDERS, help="which job is next, as order= of sap-sweep (default: the bundle's, or cells)")
    parser.add_argument(
        "--seconds", type=_seconds, metavar="S", help="time limit: end before S seconds have passed; the same command resumes"
    )  # fmt: skip
    parser.add_argument(
        "--device-jobs", dest="jobs_on_device", type=int, default=1, metavar="N",
        help="concurrent jobs on the device, those of other programs included (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--plugins", type=_packages, default=(), metavar="NAME,...",
        help="packages of your own whose classes the jobs may name, or their paths; what the file lists does not count",
    )  # fmt: skip
    parser.add_argument("--serve", type=int, metavar="PID", help="read jobs of the driver PID from standard input, one per line")
    parser.epilog = examples(
        "python -m sweeper.execute demo.jsonl --data data --store back",
        "python -m sweeper.execute demo.jsonl --data data --store back --shard 2/4 --seconds 3600",
        note="Exit code: 0 done, 1 a job or the disk failed, 2 a usage error, 130 stopped with jobs remaining; the same command resumes.",
    )
    return parser


def parse_options(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line of `python -m sweeper.execute`.

    Raises:
        UserError: an option is unknown, or its value is not allowed.
    """
    own = parser()
    options = own.parse_args(arguments)
    # argparse cannot make a positional argument depend on an option.
    if not options.serve and options.plan is None:
        own.error("a job file is required (or --serve)")
    for option, value in (("--lease", options.lease), ("--idle-timeout", options.idle_timeout)):
        if value is not None and not value > 0:
            own.error(f"{option} takes a number of seconds above 0")
    return options


def _seconds(text: str) -> float:
    value = float(text)
    # NaN fails this comparison as well.
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is not a duration; give a number of seconds above 0")
    return value


def _packages(text: str) -> tuple[str, ...]:
    try:
        return parse_plugins(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run_file(options: argparse.Namespace, paths: SweepPaths) -> int:
    """Run the jobs of a file that are not in the store: the own shard first, then jobs of the others (unless `--no-steal`).

    Returns:
        The exit code, as `main`.

    Raises:
        UserError: the job file, the shard or the store is invalid.
    """
    # It loads torch, as in `main`.
    from sweeper.config.target import check_components
    from sweeper.jobs.run_job import execute

    # First of all: Slurm may send its warning while the plan is still being read.
    stop = Stop(*ending_signals(), signal.SIGINT)
    deadline = Deadline(options.seconds or float("inf"))
    # Before the jobs are read: rows of two schema versions must not be mixed in one folder.
    Store(paths.store).check_version()
    jobs, order = _read_jobs(options, paths)
    # All of them before the first one runs.
    for planned in jobs:
        check_components(planned.spec, [run.entry for run in planned.runs])
    if any(job.reproducible for job in jobs):
        # In time: torch is loaded but has computed nothing. Every job checks it.
        use_reproducible()
    queue = WorkQueue(jobs, options.shard, paths, order, steal=not options.no_steal)
    queue.report_problems(lambda line: print(line, file=sys.stderr, flush=True))
    # A message and no error, because generated data sets need no folder.
    if not paths.data.is_dir():
        print(f"--data {paths.data} is not a folder: only data sets without files can be read", file=sys.stderr, flush=True)
    # Leases of this process alone, because their duration is an option of the command.
    leases, estimator = Leases(options.lease), RuntimeEstimator()
    worker_log = WorkerLog(queue.jobs, estimator)
    waited = 0.0
    while not stop() and not queue.all_ended:
        job = queue.next()
        # Other workers run what is left or its parents: wait for them, because they may die and leave their jobs behind.
        if job is None:
            if (waited := _wait(queue, leases.duration, waited, options.idle_timeout, stop)) < 0 or not deadline.remaining > 0:
                break
            continue
        workload = Workload.of(job.job_type, job.labels)
        # Ends here rather than trying a shorter job: the order of the schedule is kept, and the next start continues with this one.
        if not deadline.fits(job, estimator.estimate(workload, job.forecast_flops)):
            break
        deadline.start_job()
        result = execute(
            job, paths, options.device, lambda: stop() or deadline(), options.jobs_on_device, leases=leases,
            known_failures=queue.known_failures.get(job.job_id, 0),
        )  # fmt: skip
        queue.record(job, result)
        if result.status == "stopped":
            break
        # A job that another worker has leased is no progress of this one, so the idle time goes on.
        if result.status != "leased_elsewhere":
            waited = 0.0
            if result.status == "ok":
                # Failed jobs end early and would make the estimates too short.
                estimator.record(workload, job.forecast_flops, result.seconds)
            print(worker_log.line(job, result, queue.remaining_ids()), flush=True)
    # Leases of workers that died between storing and releasing; whoever ends the sweep removes them.
    if queue.all_ended:
        remove_stale_leases(jobs, paths, leases)
    elif stop():
        return INTERRUPTED
    else:
        print(f"stopped with {queue.remaining_text()}; the same command resumes", flush=True)
    return 1 if queue.failed else 0


def _read_jobs(options: argparse.Namespace, paths: SweepPaths) -> tuple[list[Job], str]:
    """The jobs of the file and their order. A bundle is copied into the store, for `sap-sweep import`."""
    if not is_bundle(options.plan):
        return list(read_jobs(options.plan, options.plugins)), options.order or "cells"
    bundle = read_bundle(options.plan, options.plugins)
    # The plan of a bundle travels back with the results, so that the import can check that both belong together.
    copy_bundle(options.plan, paths.store)
    return list(bundle.jobs), options.order or bundle.order


def _wait(queue: WorkQueue, lease_duration: float, waited: float, idle_timeout: float | None, stop: Stop) -> float:
    """Wait for other workers, then refresh the queue. Returns the total time without work, or -1 after the idle timeout."""
    if idle_timeout is not None and waited >= idle_timeout:
        print(f"no job could be started for {waited:.0f} s", file=sys.stderr)
        return -1.0
    pause = queue.poll_interval(waited, lease_duration)
    # In short steps, because a signal does not shorten time.sleep: its handler only sets a flag.
    _sleep(pause, stop)
    queue.refresh()
    return waited + pause


def _sleep(seconds: float, stop: Stop) -> None:
    until = time.monotonic() + seconds
    while not stop() and time.monotonic() < until:
        time.sleep(min(0.2, seconds))


def serve(paths: SweepPaths, device: str, driver: int) -> int:
    """Run jobs from standard input until it is closed or the driver ends; answer each with one line of JSON on standard output.

    Each line is a JSON mapping: `job`, and the arguments `jobs_on_device`, `known_failures` and `oom_retries` of
    `sweeper.jobs.run_job.execute`.
    """
    # The driver reads descriptor 1. It is duplicated before everything that prints is redirected to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # The output of libraries must not mix with the answers.
    os.dup2(2, 1)
    # Ctrl-C reaches the whole process group, but stopping is the driver's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = Stop(*ending_signals())
    # A pipe is closed only when all processes that inherited it have ended, so end of file alone would miss a killed driver.
    exit_with_parent(driver)
    for line in sys.stdin:
        # A job may have been stopped; one that was sent after it must not start.
        if stop():
            break
        _answer(answers, json.loads(line), paths, device, stop)
    return 0


def _answer(answers: TextIO, request: Mapping[str, Any], paths: SweepPaths, device: str, stop: Stop) -> None:
    from sweeper.jobs.run_job import execute

    job = Job.from_json(request["job"])
    try:
        result = execute(
            job, paths, device, stop, request["jobs_on_device"], wait_seconds=LEASE_WAIT_SECONDS,
            known_failures=request["known_failures"], oom_retries=request["oom_retries"],
        )  # fmt: skip
        answer = asdict(result)
    except UserError as error:
        answer = {"job_id": job.job_id, "fatal": str(error)}
    answers.write(json.dumps(answer) + "\n")
    # Else the answer would wait in the buffer, and the driver for it.
    answers.flush()


def exit_with_parent(parent: int) -> None:
    """End this process as soon as its parent is no longer `parent`: the driver was killed, and its next start must not find old workers."""

    def watch() -> None:
        # The kernel gives orphans another parent at once, also after a SIGKILL of the driver, which could not tell anybody.
        while os.getppid() == parent:
            time.sleep(0.2)
        # Without cleanup: sys.exit would only end this thread, and the job must not store rows that a new driver does not expect.
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    raise SystemExit(main())

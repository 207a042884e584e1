"""A sweep of 10,000 jobs that do nothing: time of planning, scheduling, status and compaction.

`python -m benchmarks.scale [--jobs 10000] [--quick]`; a minute and a half. CPU time of one process, and wall time. Planning is composing,
checking, counting FLOPs, making the plan and writing it. The schedule's rate excludes files; that of stub jobs includes leases and rows, in
one process with two fsyncs per file. Status is read from file names and the plan, once with a file per job, once compacted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks.ray_jobs import METHOD
from sap_core.records import Planned
from sweeper.commands.compact import compact
from sweeper.config.compose import compose_all
from sweeper.config.schema import ORDERS
from sweeper.jobs import run_job as execution
from sweeper.jobs.context import JobContext, JobOutcome
from sweeper.jobs.job import Job, SweepPaths, write_jobs
from sweeper.jobs.run_job import execute
from sweeper.monitor.job_counts import sweep_counts
from sweeper.plan.cell import check_cell
from sweeper.plan.feasibility import check_feasibility
from sweeper.plan.plan import Plan, make_plan
from sweeper.scheduling.schedule import Schedule
from sweeper.store.store import Store, write_records

T = TypeVar("T")


def timed(name: str, work: Callable[[], T], per: int = 0) -> T:
    """Prints the seconds of `work`, with `per` also its rate, and returns its result."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    rate = f", {per / wall:.0f}/s" if per else ""
    print(f"{name}: {processor:.2f} s of CPU, {wall:.2f} s{rate}", flush=True)
    return result


def planned(count: int, folder: Path) -> Plan:
    """Plans and writes a baseline and `count` jobs on it, as `sap-sweep` does."""
    overrides = ["experiment=demo", "methods=[unchanged]", "plugins=[benchmarks]", "seeds=[1]", "model.width=2", "trainer.epochs=1"]
    composed = compose_all([*overrides, "--config-dir", str(folder)])
    cells = [check_cell(cell, composed.config) for cell in composed.cells]
    for cell in cells:
        check_feasibility(cell)
    plan = make_plan(composed.config, cells, {})
    write_jobs(folder / "store" / "jobs.jsonl", plan.jobs)
    write_records(folder / "store" / "plan.parquet", plan.rows, Planned)
    return plan


def schedule_all(jobs: Sequence[Job], order: str, folder: Path) -> None:
    schedule = Schedule.of(jobs, {}, folder, order)
    while (job := schedule.next()) is not None:
        schedule.finish(job.job_id, True)
        schedule.orphans()
    assert len(schedule.done) == len(jobs)


def run_stubs(jobs: Sequence[Job], folders: SweepPaths) -> None:
    """Runs every job through `execute`, with its lease and its row, but without any work."""

    def nothing(job: Job, context: JobContext, note: Callable[[str], None]) -> JobOutcome:
        return JobOutcome([{"val_noisy_acc": 0.5} for _ in job.runs], [True] * len(job.runs))

    before, execution.run_job_type = execution.run_job_type, nothing
    try:
        for job in jobs:
            assert execute(job, folders).status == "ok"
    finally:
        execution.run_job_type = before


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="few jobs, to check that it runs")
    options = parser.parse_args(arguments)
    count = 12 if options.quick else options.jobs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "method").mkdir()
        (folder / "method" / "unchanged.yaml").write_text(METHOD.format(numbers=", ".join(map(str, range(count)))), encoding="utf-8")
        jobs = timed(f"plan of {count} jobs", lambda: planned(count, folder)).jobs
        for order in ORDERS:
            timed(f"schedule, order={order}", lambda order=order: schedule_all(jobs, order, folder), len(jobs))  # type: ignore[misc]
        folders = SweepPaths(folder / "data", folder / "store", folder / "artifacts")
        timed("stub jobs with leases and rows", lambda: run_stubs(jobs[1:], folders), count)
        store = Store(folders.store)
        assert timed("status, a file per job", lambda: sweep_counts(store)).total.done == count
        timed("compaction", lambda: compact(store), count)
        print(f"files of rows: {len(list(store.rows.glob('*.parquet')))}")
        assert timed("status, compacted", lambda: sweep_counts(store)).total.done == count
        assert len(timed("resume finds all done", store.finished)[0]) == count


if __name__ == "__main__":
    main()

"""Throughput of trivial jobs through the Ray backend: 675 jobs of one setting each, with their rows.

`python -m benchmarks.ray_jobs [--jobs 675] [--workers 2] [--quick]`; a minute. A job loads its baseline (a network of 600 weights, trained
before), returns it unchanged as its correction, scores it on the digits and writes its row and its series. The start time runs from the
call of the backend to the end of the first job, so it contains the start of Ray, the workers' import of torch and their first loading of
the data. Wall time.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Hashable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pyarrow.parquet as pq
from torch import nn

from sap_core.api import Need, Passes, Run, Sizes, Task
from sweeper.backends.ray_backend import RayBackend
from sweeper.config.compose import compose_all
from sweeper.jobs.job import Job, Result, SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.plan.cell import check_cell
from sweeper.plan.plan import make_plan
from sweeper.scheduling.schedule import Schedule

METHOD = """name: unchanged
corrector: {{_target_: benchmarks.ray_jobs.Unchanged, number: 0}}
spaces: {{many: {{number: {{grid: [{numbers}]}}}}}}
"""


@dataclass(frozen=True)
class Unchanged:
    """Returns the network unchanged; every setting is its own family."""

    name: ClassVar[str] = "unchanged"
    version: ClassVar[int] = 1

    number: int = 0

    def needs(self) -> frozenset[Need]:
        return frozenset()

    def family(self) -> Hashable:
        return self.number

    def computation(self) -> Hashable:
        return self.number

    @classmethod
    def correct(cls, settings: Sequence[Unchanged], model: nn.Module, task: Task, run: Run) -> Iterator[tuple[int, nn.Module]]:
        for position in range(len(settings)):
            with run.meter("correct", used_by=[position]):
                corrected = deepcopy(model)
            yield position, corrected

    @classmethod
    def forecast(cls, settings: Sequence[Unchanged], sizes: Sizes) -> Passes:
        return Passes()


def planned(count: int, folder: Path) -> Sequence[Job]:
    """Returns the jobs of a baseline and of `count` corrections of it."""
    (folder / "method").mkdir()
    (folder / "method" / "unchanged.yaml").write_text(METHOD.format(numbers=", ".join(map(str, range(count)))), encoding="utf-8")
    overrides = ["experiment=demo", "methods=[unchanged]", "plugins=[benchmarks]", "seeds=[1]", "model.width=2", "trainer.epochs=1"]
    composed = compose_all([*overrides, "--config-dir", str(folder)])
    return make_plan(composed.config, [check_cell(cell, composed.config) for cell in composed.cells], {}).jobs


def run_jobs(count: int, workers: int, folder: Path) -> list[float]:
    """Returns the seconds from the start of the backend to the end of each job, after checking that every row exists exactly once."""
    train, *jobs = planned(count, folder)
    folders = SweepPaths(folder / "data", folder / "store", folder / "artifacts")
    assert execute(train, folders).status == "ok"
    ended: list[float] = []
    start = time.monotonic()

    def report(job: Job, result: Result) -> None:
        assert (result.status, result.rows) == ("ok", 1), result.error
        ended.append(time.monotonic() - start)

    RayBackend(folders, workers).run(Schedule.of(jobs, {train.job_id: "ok"}, folders.artifacts), report)
    files = list((folders.store / "rows").glob("[!.]*.parquet"))
    rows = [row["run_id"] for path in files for row in pq.read_table(path, columns=["run_id"]).to_pylist()]
    assert sorted(rows) == sorted(run.run_id for job in (train, *jobs) for run in job.runs)
    return ended


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=675)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="few jobs, to check that it runs")
    options = parser.parse_args(arguments)
    count = 6 if options.quick else options.jobs
    with tempfile.TemporaryDirectory() as folder:
        ended = run_jobs(count, options.workers, Path(folder))
    rate = (len(ended) - 1) / (ended[-1] - ended[0])
    times = f"start {ended[0]:.1f} s, then {rate:.1f} jobs/s, {ended[-1]:.1f} s in all"
    print(f"{count} jobs, {options.workers} workers: {times}; all rows stored once")


if __name__ == "__main__":
    main()

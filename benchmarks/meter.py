"""Cost of metering: two families of the demo with the real meter against one whose methods do nothing, and nanoseconds per record.

`python -m benchmarks.meter [--repeats 7] [--quick]`; a minute. The families run as in a sweep (validation, test set and probes included),
on an untrained network: the arithmetic is the same. The number of a family's records times the time of one is an estimate that other
processes do not disturb; the difference of the two runs is mostly noise.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks._timing import cpu_seconds
from sap_core.construct import construct
from sap_core.cost import CostMeter, CostRecord, Costs, Phase
from sap_core.data.assemble import assemble_task
from sap_core.evaluation.evaluator import Evaluator
from sap_core.evaluation.family import run_family
from sap_core.run import PlainRun
from sweeper.config.compose import compose_all
from sweeper.jobs.job import Job
from sweeper.plan.cell import check_cell
from sweeper.plan.plan import make_plan

NOTHING = CostRecord("correct", (0,))


class NoMeter(CostMeter):
    """Records nothing."""

    @contextmanager
    def __call__(self, phase: Phase, used_by: Sequence[int] | None = None) -> Iterator[CostRecord]:
        yield NOTHING

    def count(self, forwards: int = 0, backwards: int = 0, flops: float = 0.0) -> None:
        pass

    def costs(self, flops_forward: float = 0.0, flops_backward: float = 0.0) -> list[Costs]:
        return []


class CountingMeter(CostMeter):
    """Counts the calls of `count`."""

    counts = 0

    def count(self, forwards: int = 0, backwards: int = 0, flops: float = 0.0) -> None:
        self.counts += 1
        super().count(forwards, backwards, flops)


def families(quick: bool) -> dict[str, Job]:
    """Returns the first job of each search in the demo's plan."""
    composed = compose_all(["experiment=demo", "methods=[scrub,sap]", *(["model.width=2"] if quick else [])])
    cells = [check_cell(cell, composed.config) for cell in composed.cells]
    found: dict[str, Job] = {}
    for job in make_plan(composed.config, cells, {}).jobs:
        if job.job_type == "tune":
            found.setdefault(job.labels["method"], job)
    return found


def runner(job: Job, quick: bool) -> Callable[[type[CostMeter]], CostMeter]:
    """Runs the family once with a meter of the given class, and returns it."""
    spec = {key: job.spec["baseline"][key] for key in ("dataset", "noise", "model", "preprocess", "seed", "limit")}
    prepared = assemble_task(spec, Path(), torch.device("cpu"))
    evaluator, model = Evaluator(prepared), prepared.task.build(0).eval()
    settings = [construct(run.entry) for run in job.runs if run.entry is not None][: 2 if quick else None]

    def run(kind: type[CostMeter]) -> CostMeter:
        plain = PlainRun(len(settings))
        plain.meter = meter = kind(len(settings))
        for _ in run_family(settings, model, prepared.task, plain, lambda net, which: evaluator.score_corrected(net, meter, which)):
            pass
        meter.costs(1.0, 2.0)
        return meter

    return run


def nanoseconds(times: int) -> tuple[float, float]:
    """CPU time of booking one piece, its place in the final sums included, and of one count."""
    meter = CostMeter(16)

    def pieces() -> None:
        for _ in range(times):
            with meter("correct"):
                pass
        meter.costs()

    def counts() -> None:
        with meter("correct"):
            for _ in range(times):
                meter.count(forwards=1)

    return cpu_seconds(pieces) / times * 1e9, cpu_seconds(counts) / times * 1e9


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to check that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    piece, count = nanoseconds(1000 if options.quick else 100_000)
    print(f"one record {piece:.0f} ns (used by 16 settings), one count {count:.0f} ns")
    for name, job in families(options.quick).items():
        run = runner(job, options.quick)
        counted = run(CountingMeter)
        assert isinstance(counted, CountingMeter)
        taken: dict[type[CostMeter], list[float]] = {CostMeter: [], NoMeter: []}
        for turn in range(1 if options.quick else options.repeats):
            for kind in sorted(taken, key=lambda kind: kind.__name__, reverse=bool(turn % 2)):
                start = time.process_time()
                run(kind)
                taken[kind].append(time.process_time() - start)
        real, none = statistics.median(taken[CostMeter]), statistics.median(taken[NoMeter])
        metered = len(counted.records) * piece * 1e-9 + counted.counts * count * 1e-9
        print(
            f"{name}: {len(counted.records)} records and {counted.counts} counts, estimated {metered / none:.3%} of {none:.3f} CPU s; "
            f"measured {real / none - 1:+.2%} (medians of {len(taken[NoMeter])}, which spread by "
            f"{(max(taken[NoMeter]) - min(taken[NoMeter])) / none:.0%})"
        )


if __name__ == "__main__":
    main()

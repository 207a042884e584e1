"""Forecasts the cost of a plan: FLOPs from pass counts, hours from an assumed speed, disk space from parameter counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from analysis.store.labels import counted
from sap_core.api import Passes
from sap_core.records import Planned
from sweeper.config.component import Component
from sweeper.jobs.job import Job
from sweeper.plan.probe import probe

_GPU_FLOPS = 1.5e13
"""Assumed float32 FLOP/s of a data-centre GPU on such networks; not measured."""

_ROW_FILE_BYTES = 14_000
"""Measured: one Parquet file of a family's rows (mostly schema)."""


@dataclass(frozen=True)
class Flops:
    """A network's FLOPs per sample and direction (None: unknown), and its number of parameters."""

    forward: float | None
    backward: float | None
    parameters: int

    def total(self, passes: Passes) -> float | None:
        """FLOPs of these sample passes; None if those of a pass among them are unknown."""
        total = 0.0
        for count, each in ((passes.forwards, self.forward), (passes.backwards, self.backward)):
            if count and each is None:
                return None
            total += count * (each or 0.0)
        return total


def flops_of(model: Component, dataset: Component) -> Flops:
    """The FLOPs of a network on the inputs of a data set.

    Raises:
        UserError: the network cannot work on the data set; see `sweeper.plan.probe`.
    """
    found = probe(model, dataset)
    forward, backward = (None if math.isnan(each) else each for each in (found.forward, found.backward))
    return Flops(forward, backward, sum(parameter.numel() for parameter in found.network.parameters()))


def known_sum(flops: Iterable[float | None]) -> float | None:
    """The sum; None if a term is unknown."""
    terms = list(flops)
    return None if None in terms else sum(each for each in terms if each is not None)


@dataclass(frozen=True)
class SearchSummary:
    """One search of a plan, on all its baselines."""

    name: str
    counts: str  # per baseline: settings (distinct computations), such as "675 (675 distinct)"; or trials and search seeds
    baselines: int
    rows: int
    jobs: int
    flops: float | None  # None: unknown


def summarise_searches(rows: Sequence[Planned]) -> list[SearchSummary]:
    """The searches of a plan, in its order; the baselines are listed as `vanilla`."""
    # The budget is part of the key, because one search may run at several budgets.
    members: dict[str, list[Planned]] = {}
    for row in rows:
        how = f" {row.search} {row.search_budget}" if row.search else ""
        # Rows of one search are found by the names that rows store, so that this also works on a stored plan.
        members.setdefault(row.method + (f"@{row.space}" if row.space else "") + how, []).append(row)
    found = []
    for name, group in members.items():
        baselines = len({row.baseline_id for row in group})
        # Counted on one baseline, because the others run the same settings.
        distinct = len({row.computation_id for row in group if row.baseline_id == group[0].baseline_id})
        counts = f"{len(group) // baselines} ({distinct} distinct)"
        if group[0].search:
            counts = f"{distinct} trials, seeds: {len({row.search_seed for row in group})}"
        flops = known_sum(row.forecast_flops for row in group)
        found.append(SearchSummary(name, counts, baselines, len(group), len({row.job_id for row in group}), flops))
    return found


def describe_plan(jobs: Sequence[Job], rows: Sequence[Planned], parameters: int, flops_per_second: float, device: str) -> str:
    """The text of a dry run: cells, jobs, settings per search, forecast of FLOPs, hours and disk space."""
    cells = Counter(row.cell for row in rows if row.method == "vanilla")
    types = Counter(job.job_type for job in jobs)
    flops = known_sum(job.forecast_flops for job in jobs)
    seeds = len({row.seed for row in rows})
    lines = [f"{counted(len(cells), 'cell')}, {counted(seeds, 'seed')}: {counted(len(jobs), 'job')}, {counted(len(rows), 'row')}"]
    lines += [f"  {job_type:<7} {count:>7} jobs" for job_type, count in types.items()]
    lines += ["", f"{'search':<24} {'per baseline':<28} {'baselines':>9} {'rows':>8} {'jobs':>7} {'share of FLOPs':>15}"]
    for search in summarise_searches(rows):
        share = "unknown" if flops is None or search.flops is None else f"{search.flops / flops if flops else 0.0:.1%}"
        lines.append(f"{search.name:<24} {search.counts:<28} {search.baselines:>9} {search.rows:>8} {search.jobs:>7} {share:>15}")
    # float32 checkpoints of the baselines, and one file of rows per job
    disk = sum(1 for job in jobs if job.job_type == "train") * parameters * 4 + len(jobs) * _ROW_FILE_BYTES
    lines += ["", f"forecast: {_describe_flops(jobs, flops, flops_per_second, device)}; {_size(disk)} on disk"]
    return "\n".join(lines)


def _describe_flops(jobs: Sequence[Job], flops: float | None, flops_per_second: float, device: str) -> str:
    if flops is None:
        unknown = {f"{job.labels['network']} on {job.labels['dataset']}" for job in jobs if job.forecast_flops is None}
        known = sum(job.forecast_flops or 0.0 for job in jobs)
        some = f" (those of the other jobs: {known:.3g})" if known else ""
        return f"unknown FLOPs and hours, because the passes of {', '.join(sorted(unknown))} could not be counted{some}"
    on_gpu = device.startswith("cuda")
    hours = f"{_hours(flops / flops_per_second)} {'GPU' if on_gpu else 'worker'}-hours"
    # A nominal speed: the table of run times below it rests on measurements where there are any.
    speed = f"{hours} at a nominal {flops_per_second:.2g} FLOP/s (backend.flops_per_second)"
    # On a CPU the GPU time is printed as well, because jobs can be exported.
    other = "" if on_gpu else f", or {_hours(flops / _GPU_FLOPS)} GPU-hours at {_GPU_FLOPS:.2g} FLOP/s"
    return f"{flops:.3g} FLOPs, {speed}{other}"


def _hours(seconds: float) -> str:
    """Hours with two decimals below 10, and without any from 100 on: 0.20, 91.1, 136,585."""
    hours = seconds / 3600
    return f"{hours:,.{0 if hours >= 100 else 1 if hours >= 10 else 2}f}" if hours >= 0.005 else "under 0.01"


def _size(size: float) -> str:
    """Bytes as GB, or as MB if they are less than one GB."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"

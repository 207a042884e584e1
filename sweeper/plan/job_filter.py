"""Filters the jobs of a plan by `only=`. Ids do not depend on the filter.

only='network=resnet18 noise.rate=0.25 method=sap,scrub'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sap_core.errors import UserError, unknown

if TYPE_CHECKING:
    from sweeper.jobs.job import Job

_COLUMNS = {
    "dataset": "dataset", "noise": "noise", "noise.rate": "noise_rate", "network": "network", "model": "network", "trainer": "trainer",
    "pruner": "pruner", "method": "method", "space": "space", "seed": "seed", "search": "search",
}  # fmt: skip

JobFilter = Mapping[str, tuple[str, ...]]
"""Column -> accepted values."""


def parse_filter(text: str | None) -> JobFilter | None:
    """Parse the value of `only=`; None without one.

    Raises:
        UserError: a term that is not KEY=VALUE[,VALUE], or an unknown key.
    """
    if not text:
        return None
    accepted: dict[str, tuple[str, ...]] = {}
    for term in text.split():
        key, sign, values = term.partition("=")
        if not sign or not values:
            raise UserError(f"only={text!r}: '{term}' is not KEY=VALUE[,VALUE]; keys: {', '.join(_COLUMNS)}")
        if key not in _COLUMNS:
            raise unknown("key", key, _COLUMNS, "only")
        # Conditions on several keys are combined by AND; the values of one key are alternatives.
        accepted[_COLUMNS[key]] = tuple(values.split(","))
    return accepted


def filter_jobs(jobs: Sequence[Job], accepted: JobFilter) -> tuple[Job, ...]:
    """The matching jobs and all jobs that they depend on, in the plan's order.

    Raises:
        UserError: a value that no job has, or no job matches.
    """
    for column, values in accepted.items():
        # A misspelt value would otherwise select nothing, or silently half of what was meant.
        present = {_text(job.labels[column]) for job in jobs} - {"None", "vanilla"}
        for value in values:
            if _normalise(value) not in present:
                raise unknown(f"value of only={column}", value, sorted(present))
    # The filter looks at labels, which are part of no id, so a filtered sweep and the complete one share their rows.
    by_id = {job.job_id: job for job in jobs}
    kept: set[str] = set()
    for job in jobs:
        if all(_text(job.labels[column]) in map(_normalise, values) for column, values in accepted.items()):
            # Parents are included, or the matching jobs could not start.
            queue = [job.job_id]
            while queue:
                name = queue.pop()
                kept.add(name)
                queue += by_id[name].parents
    if not kept:
        raise UserError("only= matches no job; remove a condition (sap-sweep ... dry_run=true lists the jobs without only=)")
    return tuple(job for job in jobs if job.job_id in kept)


def matching_cells(jobs: Sequence[Job], accepted: JobFilter) -> frozenset[int]:
    """The numbers of the cells that the matching jobs belong to, without those that only share a parent with them.

    Raises:
        UserError: as `filter_jobs`.
    """
    filter_jobs(jobs, accepted)
    found = [job for job in jobs if all(_text(job.labels[key]) in map(_normalise, values) for key, values in accepted.items())]
    return frozenset(cell for job in found for cell in job.cells)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _normalise(value: str) -> str:
    """Write numbers as labels do, so that 0.10 matches 0.1."""
    try:
        # Integers are left alone: as floats, long seeds would lose digits in :g.
        return value if value.isdigit() else f"{float(value):g}"
    except ValueError:
        return value

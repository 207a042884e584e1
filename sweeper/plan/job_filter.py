"""`only=`: narrows an experiment to some of its jobs without changing an id.

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


def parse_filter(text: str | None) -> JobFilter | None:
    """Column -> wanted values.

    Raises:
        UserError: a word that is not KEY=VALUE[,VALUE], or an unknown key.
    """
    if not text:
        return None
    wanted: dict[str, tuple[str, ...]] = {}
    for word in text.split():
        key, sign, values = word.partition("=")
        if not sign or not values:
            raise UserError(f"only={text!r}: '{word}' is not KEY=VALUE[,VALUE]; keys: {', '.join(_COLUMNS)}")
        if key not in _COLUMNS:
            raise unknown("key", key, _COLUMNS, "only")
        wanted[_COLUMNS[key]] = tuple(values.split(","))
    return wanted


def filter_jobs(jobs: Sequence[Job], wanted: JobFilter) -> tuple[Job, ...]:
    """The jobs that match, and the jobs they stand on.

    Raises:
        UserError: a value that no job has, or nothing matches.
    """
    for column, values in wanted.items():
        present = {_text(job.labels[column]) for job in jobs} - {"None", "vanilla"}
        for value in values:
            if _number(value) not in present:
                raise unknown(f"value of only={column}", value, sorted(present))
    by_id = {job.job_id: job for job in jobs}
    kept: set[str] = set()
    for job in jobs:
        if all(_text(job.labels[column]) in map(_number, values) for column, values in wanted.items()):
            queue = [job.job_id]
            while queue:
                name = queue.pop()
                kept.add(name)
                queue += by_id[name].parents
    if not kept:
        raise UserError("only= leaves nothing to run; loosen it (sap-sweep ... dry_run=true shows what there is)")
    return tuple(job for job in jobs if job.job_id in kept)


def _text(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _number(value: str) -> str:
    """0.10 and 0.1 are one value."""
    try:
        return value if value.isdigit() else f"{float(value):g}"
    except ValueError:
        return value

"""Counts the jobs or the rows of a sweep by type and state, for reports, the HTML page and the `sap-slurm` commands.

Imports only the standard library, because `sap-slurm` runs on login nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The numbers of jobs (or rows) of one type by state; `planned` is `done + failed + missing`."""

    name: str  # train | select | tune | search
    planned: int = 0
    done: int = 0  # stored with status ok
    failed: int = 0  # stored with status failed
    given_up: int = 0  # failed, with no attempts remaining

    @property
    def missing(self) -> int:
        """Waiting or running: no result is stored yet."""
        return self.planned - self.done - self.failed

    @property
    def to_do(self) -> int:
        """Missing, or failed with attempts remaining."""
        return self.planned - self.done - self.given_up


def count(planned: Iterable[str], stored: Iterable[tuple[str, str]], given_up: Iterable[str] = ()) -> tuple[Counts, ...]:
    """Counts jobs or rows by type, in the order in which the types first occur.

    Args:
        planned: the type of each planned job or row.
        stored: the (type, status) of each stored job or row; the status is ok or failed.
        given_up: the type of each failed job or row with no attempts remaining.
    """
    # Types keep the order of the plan: train, select, tune.
    sizes, states, without_attempts = Counter(planned), Counter(stored), Counter(given_up)
    return tuple(Counts(name, size, states[name, "ok"], states[name, "failed"], without_attempts[name]) for name, size in sizes.items())


def count_jobs(types: Mapping[str, str], statuses: Mapping[str, str], given_up: Collection[str] = ()) -> tuple[Counts, ...]:
    """Counts the jobs of a plan by type.

    Args:
        types: maps the id of every planned job to its type.
        statuses: maps ids of stored jobs to ok or failed; jobs that are not in the plan are not counted.
        given_up: ids of failed jobs with no attempts remaining.
    """
    stored = {job_id: status for job_id, status in statuses.items() if job_id in types}
    # A job that was given up and has been imported or rerun since counts as done.
    exhausted = [types[job_id] for job_id in given_up if stored.get(job_id) == "failed"]
    return count(types.values(), [(types[job_id], status) for job_id, status in stored.items()], exhausted)


def total(counts: Iterable[Counts]) -> Counts:
    """The sum over types, under the name `all`."""
    found = list(counts)
    numbers = [[one.planned, one.done, one.failed, one.given_up] for one in found]
    return Counts("all", *map(sum, zip(*numbers, strict=True)))

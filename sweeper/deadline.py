"""Stops work before a time limit: jobs end at an epoch, and jobs that would not end in time are not begun."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeper.jobs import Job

SPARE_SECONDS = 2.0
"""For storing what a stopped job has, and for the interpreter's end."""

RESUMED = ("train",)
"""Kinds of jobs that go on from their last checkpoint; others begin again, so that stopping them loses work."""


class Deadline:
    """Says when to stop, so that all is over `seconds` after now. It is asked after every epoch, and between settings.

    The longest time between two questions of a job is taken for the next one's, so the last epoch ends before the limit and not after it.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds - SPARE_SECONDS
        self._asked = clock()
        self._longest = 0.0
        self._seconds_per_flop: dict[tuple[str, str], float] = {}
        self._began_any = False

    @property
    def left(self) -> float:
        """Seconds."""
        return self._end - self._clock()

    def __call__(self) -> bool:
        now = self._clock()
        self._longest = max(self._longest, now - self._asked)
        self._asked = now
        return now + self._longest >= self._end

    def fits(self, job: Job) -> bool:
        """Is it worth beginning? The first job of a start always is; else one that would be stopped and begin again another time is not."""
        expected = self._seconds_per_flop.get(_alike(job), 0.0) * job.forecast_flops
        return self.left > 0 and (not self._began_any or job.kind in RESUMED or expected < self.left)

    def begins(self) -> None:
        """A job begins: earlier jobs' epochs say nothing of its."""
        self._asked, self._longest, self._began_any = self._clock(), 0.0, True

    def ended(self, job: Job, seconds: float) -> None:
        """A job took so long: what the next one like it is judged by."""
        if job.forecast_flops > 0:
            self._seconds_per_flop[_alike(job)] = seconds / job.forecast_flops


def _alike(job: Job) -> tuple[str, str]:
    return job.kind, str(job.labels["method"])

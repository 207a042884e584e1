"""Stops work before a time limit: jobs end at an epoch, and jobs that would not end in time are not begun."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeper.estimate.duration import Estimate
from sweeper.jobs.job import Job

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

    def fits(self, job: Job, estimate: Estimate | None) -> bool:
        """Is it worth beginning? The first job of a start always is; else one that would be stopped and begin again another time is not.

        Only an estimate from jobs of the same method counts: a job that might fit is tried.
        """
        expected = estimate.seconds if estimate is not None and estimate.basis == "same method" else 0.0
        return self.left > 0 and (not self._began_any or job.job_type in RESUMED or expected < self.left)

    def begins(self) -> None:
        """Resets the epoch-time estimate for a new job."""
        self._asked, self._longest, self._began_any = self._clock(), 0.0, True

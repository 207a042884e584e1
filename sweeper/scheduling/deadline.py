"""Stops work before a time limit: running jobs end after an epoch, and jobs that would not finish in time are not started."""

from __future__ import annotations

import time
from collections.abc import Callable

from sweeper.estimate.duration import Estimate
from sweeper.jobs.job import Job

RESERVE_SECONDS = 2.0
"""Seconds reserved for storing the state of a stopped job and for the interpreter's exit."""

RESUMABLE = ("train",)
"""Job types that continue from their last checkpoint. Others restart from the beginning, so stopping them loses work."""


class Deadline:
    """A stop condition: calling it returns True when the current job has to end.

    Jobs call it after every epoch and between settings. The next interval is predicted by the longest one of the same job, so that the
    last epoch ends before the limit rather than after it.

    Args:
        seconds: time until everything has to be over.
        clock: a monotonic clock, in seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # The reserve is taken off once, here, so that no later comparison can forget it.
        self._end = clock() + seconds - RESERVE_SECONDS
        self._asked = clock()
        self._longest = 0.0
        self._began_any = False

    @property
    def remaining(self) -> float:
        """Seconds until the limit, less the reserve."""
        return self._end - self._clock()

    def __call__(self) -> bool:
        now = self._clock()
        # The longest interval, not the mean: an epoch may include an evaluation or a checkpoint that others do not.
        self._longest = max(self._longest, now - self._asked)
        # Before the comparison: the next interval begins now, whatever the answer.
        self._asked = now
        # The job ends one interval early rather than in the middle of an epoch, whose work a kill would lose.
        return now + self._longest >= self._end

    def fits(self, job: Job, estimate: Estimate | None) -> bool:
        """Returns whether a job should be started.

        The first job of a process always is, so that every start makes progress. Later ones are, unless they would be stopped and restart
        from the beginning next time. Only estimates from jobs of the same method count; the others are too uncertain to refuse a job.
        """
        # A training may be stopped at any epoch and resumed, so it is always worth starting.
        expected = estimate.seconds if estimate is not None and estimate.basis == "same method" else 0.0
        # The first job is not judged by its estimate, so that a start makes progress even if every job is expected to exceed the limit.
        return self.remaining > 0 and (not self._began_any or job.job_type in RESUMABLE or expected < self.remaining)

    def start_job(self) -> None:
        """Resets the epoch-time estimate for a new job."""
        self._asked, self._longest, self._began_any = self._clock(), 0.0, True

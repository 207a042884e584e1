"""What stands between Ray Tune and the schedule: which trial next, what became of it, and stopping in good order. Knows no Ray."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

from sweeper.execute import Result
from sweeper.local_backend import GRACE_SECONDS, fail_dead, settle_result
from sweeper.schedule import Report, Schedule
from sweeper.store import Store

STOP = ".stop"
"""The file in the store that asks running jobs to store their state and end."""


class Driver:
    """What the searcher and the callback share: the schedule and its books. Tune stores copies of both for a restore that is never used;
    this object goes into them as nothing.
    """

    def __init__(self, schedule: Schedule, store: Store, report: Report) -> None:
        self.schedule, self.store, self.report = schedule, store, report
        self.jobs = dict(schedule.waiting)
        self.attempts: dict[str, int] = {}
        self.tried = store.tried()
        self.fatal: str | None = None
        self.stopping = False
        self._stop_file = store.root / STOP

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(None), ())

    def suggest(self) -> str | None:
        """The id of a job that can start, "" when none ever will, None when all wait."""
        ending = self.fatal or self.stopping
        job = None if ending else self.schedule.next()
        if job is None:
            return None if self.schedule.running and not ending else ""
        self.attempts[job.job_id] = self.store.attempts(job.job_id)
        return job.job_id

    def result(self, job_id: str, answer: dict[str, Any]) -> None:
        if "fatal" in answer:
            self.fatal = answer["fatal"]
            self._ask_to_end()
        else:
            settle_result(self.schedule, self.store, self.jobs[job_id], Result(**answer), self.report)

    def died(self, job_id: str) -> None:
        job = self.jobs[job_id]
        settle_result(self.schedule, self.store, job, fail_dead(job, self.store, self.attempts[job_id], "its Ray actor died"), self.report)

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Inside, the first Ctrl-C or SIGTERM starts no more jobs and gives the running ones some seconds; a second one ends at once."""

        def interrupt(*_: object) -> None:
            if self.stopping:
                raise KeyboardInterrupt
            self.stopping = True
            self._ask_to_end()
            signal.setitimer(signal.ITIMER_REAL, GRACE_SECONDS)

        self._stop_file.unlink(missing_ok=True)
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in before.items():
                signal.signal(number, handler)
            self._stop_file.unlink(missing_ok=True)

    def _ask_to_end(self) -> None:
        with contextlib.suppress(OSError):
            self._stop_file.touch()

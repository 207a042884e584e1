"""What a person sees while a sweep runs: done, total, ETA and the best so far on a terminal, one line per event in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sap_core.files import storing
from sweeper.estimate.duration import RuntimeEstimator, Workload, flops_by_workload
from sweeper.jobs.job import Job, Result
from sweeper.monitor.job_lines import clock, job_line, reason, update_best

QUIET_SECONDS = 15.0
"""Without a terminal, a progress line is printed at most this often."""


class Progress:
    """A context manager; call `report` after each job.

    Args:
        jobs: those to run.
        planned: rows of the sweep.
        held: rows that were in the store before.
        log: file to which events are appended.
        estimator: estimates the remaining time; the jobs that finish are added to it.
        workers: jobs that run at a time; None where only the cluster knows: as many as have kept busy so far.
    """

    def __init__(
        self, jobs: Iterable[Job], planned: int, held: int, log: Path, estimator: RuntimeEstimator | None = None, workers: int | None = None
    ) -> None:
        self.planned, self.done, self.failed = planned, held, 0
        self.best: dict[str, float] = {}
        self._estimator = estimator or RuntimeEstimator()
        self._workers = workers
        self._flops_left = flops_by_workload((Workload.of(job.job_type, job.labels), job.forecast_flops) for job in jobs)
        self._worker_seconds = 0.0
        self._start = self._spoke = time.monotonic()
        self._console = Console(stderr=True, highlight=False)
        self._live = (
            Live(get_renderable=self._renderable, console=self._console, refresh_per_second=1) if self._console.is_terminal else None
        )
        with storing(log):
            self._log = log.open("a", buffering=1)

    def __enter__(self) -> Progress:
        self._event(f"start: {self.planned} rows planned, {self.done} held")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._draw(last=True)
        if self._live:
            self._live.stop()
        self._event(f"end: {self.done} of {self.planned} rows, {self.failed} failed" + (f"; {kind.__name__}: {error}" if kind else ""))
        with suppress(OSError):
            self._log.close()

    def report(self, job: Job, result: Result) -> None:
        """A job has ended."""
        self.done += len(job.runs)
        self.failed += result.failed
        self._worker_seconds += result.seconds
        workload = Workload.of(job.job_type, job.labels)
        self._flops_left[workload] = max(0.0, self._flops_left[workload] - job.forecast_flops)
        if result.status == "ok":
            self._estimator.record(workload, job.forecast_flops, result.seconds)
        update_best(self.best, result)
        line = job_line(job, result) + reason(result)
        self._event(line)
        if result.train_acc is not None or result.status == "failed":
            self._console.print(line, markup=False, soft_wrap=True)
        self._draw()

    def text(self) -> str:
        """The progress line."""
        elapsed = time.monotonic() - self._start
        workers = self._workers or (self._worker_seconds / elapsed if elapsed else 0.0)
        left = self._estimator.remaining_seconds(self._flops_left, workers)
        best = "  ".join(f"{method} {score:.4f}" for method, score in sorted(self.best.items(), key=lambda item: -item[1]))
        return (
            f"{self.done}/{self.planned} rows  failed {self.failed}  elapsed {clock(elapsed)}  ETA {clock(left)}"
            f"{'  |  best val_noisy: ' + best if best else ''}"
        )

    def _renderable(self) -> Text:
        return Text(self.text(), overflow="fold")

    def _draw(self, last: bool = False) -> None:
        if self._live:
            self._live.refresh()
        elif last or time.monotonic() - self._spoke >= QUIET_SECONDS:
            self._spoke = time.monotonic()
            print(self.text(), file=sys.stderr, flush=True)

    def _event(self, line: str) -> None:
        with suppress(OSError):  # a full disk is told by the job that could not store its rows
            self._log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')} {line}\n")

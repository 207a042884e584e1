"""The progress display of a sweep: completed rows, ETA and best scores on the terminal, and one line per event in a log file."""

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

from sap_core.files import check_log, storing
from sap_core.text import one_line
from sweeper.estimate.duration import RuntimeEstimator, Workload, flops_by_workload
from sweeper.jobs.job import Job, Result
from sweeper.monitor.job_lines import error_suffix, format_duration, result_line, update_best
from sweeper.monitor.running import running_trainings

# In a batch log every line stays, unlike on a terminal where it is overwritten.
QUIET_SECONDS = 15.0
"""Minimum interval between progress lines when standard error is not a terminal."""

LOOK_SECONDS = 2.0
"""Minimum interval between two looks at the logs of running trainings, for a terminal."""


class Progress:
    """A context manager that displays progress while it is active; call `report` after each job.

    Args:
        jobs: the jobs to run.
        planned: number of rows of the sweep.
        stored: number of rows that were in the store at the start.
        log: file to which events are appended.
        estimator: estimates the remaining time; finished jobs are added to it.
        workers: number of concurrent jobs; None (it depends on the cluster): the average number of busy workers.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        planned: int,
        stored: int,
        log: Path,
        estimator: RuntimeEstimator | None = None,
        workers: int | None = None,
    ) -> None:
        self.planned, self.done, self.failed = planned, stored, 0
        self.best: dict[str, float] = {}
        self._estimator = estimator or RuntimeEstimator()
        self._workers = workers
        self._waiting = {job.job_id: job for job in jobs}
        self._running, self._looked, self._logs, self._began = "", 0.0, log.parent, time.time()
        work = [(Workload.of(job.job_type, job.labels), job.forecast_flops) for job in self._waiting.values()]
        # Jobs of unknown FLOPs are counted apart: as soon as all of them have ended, the remaining time is known.
        self._remaining_flops = flops_by_workload((workload, flops) for workload, flops in work if flops is not None)
        self._remaining_unknown = sum(flops is None for _, flops in work)
        self._worker_seconds = 0.0
        # A monotonic clock: the wall clock may be set while a long sweep runs.
        self._start = self._last_printed = time.monotonic()
        # On standard error, because standard output belongs to results that other programs read.
        self._console = Console(stderr=True, highlight=False)
        self._live = (
            Live(get_renderable=self._renderable, console=self._console, refresh_per_second=1) if self._console.is_terminal else None
        )
        with storing(log):
            # Line-buffered, so that `tail -f` sees each event and a kill loses none. Appended, because a resumed sweep continues its log.
            check_log(log)
            self._log = log.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Progress:
        self._event(f"start: {self.planned} rows planned, {self.done} stored")
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The last state is shown in any case, because the interval between lines may have hidden it.
        self._draw(last=True)
        if self._live:
            self._live.stop()
        self._event(f"end: {self.done} of {self.planned} rows, {self.failed} failed" + (f"; {kind.__name__}: {error}" if kind else ""))
        with suppress(OSError):
            self._log.close()

    def report(self, job: Job, result: Result) -> None:
        """Records an ended job and updates the display."""
        # Planned rows rather than written ones, so that a failed job counts as ended and the count reaches the total.
        self.done += len(job.runs)
        self._waiting.pop(job.job_id, None)
        self.failed += result.failed
        self._worker_seconds += result.seconds
        workload = Workload.of(job.job_type, job.labels)
        if job.forecast_flops is None:
            self._remaining_unknown -= 1
        else:
            # Clamped, because differences of rounded sums may fall just below zero.
            self._remaining_flops[workload] = max(0.0, (self._remaining_flops[workload] or 0.0) - job.forecast_flops)
        # Failed jobs end early and would make the estimates too short.
        if result.status == "ok":
            self._estimator.record(workload, job.forecast_flops, result.seconds)
        update_best(self.best, result)
        line = result_line(job, result) + error_suffix(result)
        self._event(line)
        # Only rare and important events are printed above the display; the log has all of them.
        if result.train_acc is not None or result.status == "failed" or result.note:
            # Error messages may contain [brackets].
            self._console.print(line, markup=False, soft_wrap=True)
        self._draw()

    def text(self) -> str:
        """The progress line."""
        elapsed = time.monotonic() - self._start
        # On a cluster the number of workers changes; the mean of busy workers follows it.
        workers = self._workers or (self._worker_seconds / elapsed if elapsed else 0.0)
        eta = None if self._remaining_unknown else self._estimator.remaining_seconds(self._remaining_flops, workers)
        best = "  ".join(f"{method} {score:.4f}" for method, score in sorted(self.best.items(), key=lambda item: -item[1]))
        return (
            f"{self.done}/{self.planned} rows  failed {self.failed}  elapsed {format_duration(elapsed)}  ETA {format_duration(eta)}"
            f"{'  |  best val_noisy: ' + best if best else ''}"
        )

    def _renderable(self) -> Text:
        # Called every second by the thread of the display. The files may be on a network file system.
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._running, self._looked = running_trainings(dict(self._waiting), self._logs, self._began), time.monotonic()
        return Text("  |  ".join(filter(None, [self.text(), self._running])), overflow="fold")

    def _draw(self, last: bool = False) -> None:
        if self._live:
            self._live.refresh()
        elif last or time.monotonic() - self._last_printed >= QUIET_SECONDS:
            self._last_printed = time.monotonic()
            print(self.text(), file=sys.stderr, flush=True)

    def _event(self, line: str) -> None:
        # A full disk is reported by the job that cannot store its rows.
        with suppress(OSError):
            self._log.write(_stamped(line))


def log_lines(log: Path, lines: Iterable[str]) -> None:
    """Append lines to a log of events.

    Raises:
        StorageError: the file cannot be written.
    """
    check_log(log)
    with storing(log), log.open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(_stamped(line) for line in lines)


def _stamped(line: str) -> str:
    return f"{datetime.now(UTC).isoformat(timespec='seconds')} {one_line(line)}\n"

"""The progress display."""

from __future__ import annotations

import time

import pytest

from sweeper.estimate.duration import RuntimeEstimator
from sweeper.jobs.job import Result
from sweeper.monitor import progress as module
from sweeper.monitor.progress import Progress


@pytest.fixture
def clock(monkeypatch):
    """Sets the elapsed time."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def at(seconds):
        now[0] = 1000.0 + seconds

    return at


@pytest.fixture
def jobs(make_job):
    return [
        make_job("aa", job_type="train", method="vanilla", space=None, forecast_flops=30.0),
        make_job("bb", runs=4, forecast_flops=10.0),
    ]


def test_the_line_counts_rows_and_forecasts_by_work(tmp_path, clock, jobs):
    with Progress(jobs, planned=10, stored=5, log=tmp_path / "sweep.log") as progress:
        assert progress.text() == "5/10 rows  failed 0  elapsed 0:00  ETA ?"
        clock(60)
        progress.report(jobs[0], Result("aa", "ok", rows=1, seconds=60.0, best={"vanilla": 0.5}, train_acc=1.0))
        assert progress.text() == "6/10 rows  failed 0  elapsed 1:00  ETA 0:20  |  best val_noisy: vanilla 0.5000"
        clock(4000)  # no job for a long time: the cluster keeps fewer workers busy
        assert progress.text().startswith("6/10 rows  failed 0  elapsed 1:06:40  ETA 22:13")
        progress.report(jobs[1], Result("bb", "failed", rows=4, failed=4, best={"sap": 0.75}, error="boom", error_type="error"))
        assert progress.text() == "10/10 rows  failed 4  elapsed 1:06:40  ETA 0:00  |  best val_noisy: sap 0.7500  vanilla 0.5000"


def test_forecasts_and_the_number_of_workers_give_an_eta_from_the_start(tmp_path, clock, jobs):
    with Progress(jobs, 5, 0, tmp_path / "sweep.log", RuntimeEstimator(assumed=2.0), workers=2) as progress:
        assert progress.text().endswith("ETA 0:40")
        clock(60)
        progress.report(jobs[0], Result("aa", "ok", rows=1, seconds=240.0))  # four times as slow as assumed
        assert progress.text().endswith("ETA 0:40")


def test_the_best_score_never_decreases(tmp_path, jobs):
    with Progress(jobs, 5, 0, tmp_path / "sweep.log") as progress:
        for score in (0.5, 0.75, 0.6):
            progress.report(jobs[1], Result("bb", "ok", rows=4, best={"sap": score}))
        assert progress.best == {"sap": 0.75}


def test_fits_and_failures_are_printed_and_every_event_is_logged(tmp_path, capfd, jobs):
    log = tmp_path / "sweep.log"
    with Progress(jobs, 5, 0, log) as progress:
        progress.report(jobs[0], Result("aa", "ok", rows=1, seconds=2.5, train_acc=0.99725))
        progress.report(jobs[1], Result("bb", "failed", rows=4, failed=4, error="[bold] boom", error_type="oom"))
        progress.report(jobs[1], Result("bb", "ok", rows=4))
    said = capfd.readouterr().err
    assert "aa train vanilla seed 1: ok, 1 row, 2.5 s, training accuracy 0.9972 on the given labels\n" in said
    assert "bb tune sap@alpha16 seed 1: failed, 4 rows, 0.0 s; oom: [bold] boom\n" in said
    assert said.count("bb tune") == 1
    lines = log.read_text().splitlines()
    assert [line.split(" ", 1)[1][:9] for line in lines] == ["start: 5 ", "aa train ", "bb tune s", "bb tune s", "end: 9 of"]
    assert lines[2].endswith("oom: [bold] boom")


def test_without_a_terminal_it_prints_seldom_and_at_the_end(tmp_path, capfd, clock, jobs):
    with Progress(jobs, 5, 0, tmp_path / "sweep.log") as progress:
        for moment in (1, 2, module.QUIET_SECONDS + 1, module.QUIET_SECONDS + 2):
            clock(moment)
            progress.report(jobs[1], Result("bb", "ok", rows=4))
    assert capfd.readouterr().err.count(" rows  failed 0") == 2


def test_an_error_that_ends_the_sweep_is_logged_and_reraised(tmp_path):
    log = tmp_path / "sweep.log"
    with pytest.raises(RuntimeError, match="disk"), Progress([], 5, 0, log):
        raise RuntimeError("disk")
    assert log.read_text().endswith("end: 0 of 5 rows, 0 failed; RuntimeError: disk\n")


def test_the_remaining_time_is_unknown_while_a_job_of_unknown_flops_remains(tmp_path, clock, make_job):
    jobs = [make_job("aa", forecast_flops=30.0), make_job("bb", forecast_flops=None), make_job("cc", forecast_flops=10.0)]
    with Progress(jobs, planned=3, stored=0, log=tmp_path / "sweep.log", workers=1) as progress:
        clock(60)
        progress.report(jobs[0], Result("aa", "ok", rows=1, seconds=60.0))
        assert "ETA ?" in progress.text()
        progress.report(jobs[1], Result("bb", "ok", rows=1, seconds=5.0))
        assert "ETA 0:20" in progress.text()

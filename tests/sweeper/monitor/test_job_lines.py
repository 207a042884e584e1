"""Log lines of a worker without a display."""

from __future__ import annotations

import pytest

from sweeper.estimate.duration import RuntimeEstimator, Workload
from sweeper.jobs.job import Result
from sweeper.monitor.job_lines import WorkerLog, error_suffix, format_duration


def test_a_line_contains_counts_best_score_and_eta(make_job):
    jobs = [
        make_job("aa", job_type="train", method="vanilla", space=None, forecast_flops=30.0),
        make_job("bb", runs=4, forecast_flops=10.0),
        make_job("cc", runs=4, forecast_flops=20.0),
    ]
    estimator = RuntimeEstimator()
    worker_log = WorkerLog(jobs, estimator)
    estimator.record(Workload.of(jobs[0].job_type, jobs[0].labels), 30.0, 60.0)
    line = worker_log.line(jobs[0], Result("aa", "ok", 1, seconds=60.0, best={"vanilla": 0.5}, train_acc=1.0), ["bb", "cc"])
    fit = "training accuracy 1.0000 on the given labels"
    assert line == f"[1/3] aa train vanilla seed 1: ok, 1 row, 60.0 s, {fit}; best vanilla 0.5000; ETA 1:00"
    estimator.record(Workload.of(jobs[1].job_type, jobs[1].labels), 10.0, 20.0)
    line = worker_log.line(jobs[1], Result("bb", "ok", 4, seconds=20.0, best={"sap": 0.75}), ["cc"])
    assert line == "[2/3] bb tune sap@alpha16 seed 1: ok, 4 rows, 20.0 s; best sap 0.7500; ETA 0:40"
    line = worker_log.line(jobs[2], Result("cc", "failed", 4, 4, 0.1, "no file '/data'", "error", {"sap": 0.7}), [])
    assert line == "[3/3] cc tune sap@alpha16 seed 1: failed, 4 rows, 0.1 s; best sap 0.7500; error: no file '/data'; ETA 0:00"


def test_a_message_sends_nothing_to_the_terminal(make_job):
    job = make_job("aa")
    result = Result("aa", "failed", 4, 4, 0.1, "no file '\x1b]0;title\x07\n[red]'", "error", note="\x1b[2J")
    assert error_suffix(result) == "; error: no file '\\x1b]0;title\\x07 [red]'; note: \\x1b[2J"
    assert WorkerLog([job], RuntimeEstimator()).line(job, result, []).isprintable()


@pytest.mark.parametrize(("seconds", "text"), [(None, "?"), (0.4, "0:00"), (61, "1:01"), (3661, "1:01:01")])
def test_format_duration(seconds, text):
    assert format_duration(seconds) == text

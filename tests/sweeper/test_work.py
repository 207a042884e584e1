"""What jobs of all kinds share: columns of what a method chose, and warnings in the job's log."""

from __future__ import annotations

import logging
import warnings
from types import SimpleNamespace

import torch

from sap_core.cost import CostMeter
from sweeper.execute import _warnings_in
from sweeper.jobrun import JobRun
from sweeper.work import chosen_columns

EVALUATOR = SimpleNamespace(trusted=lambda index: {"trusted_precision": len(index) / 10})


def test_what_a_method_trusted_and_forgot_without_being_told_is_counted():
    run = JobRun(CostMeter(3), None)
    run.trusted(torch.arange(4), [0, 1])
    run.forgotten(torch.arange(7), [1])
    found = [chosen_columns(run, which, EVALUATOR) for which in range(3)]
    trusted = {"num_trusted": 4, "trusted_precision": 0.4}
    assert found == [trusted, {**trusted, "num_forget": 7}, {}]


def test_a_warning_stands_in_the_jobs_log_and_is_shown_as_ever(caplog, recwarn):
    log, before = logging.getLogger("job.test"), warnings.showwarning
    with caplog.at_level(logging.WARNING), _warnings_in(log):
        warnings.warn("the weights are those under its key 'net'", stacklevel=1)
    assert "under its key 'net'" in caplog.text
    assert "under its key 'net'" in str(recwarn.list[0].message)
    assert warnings.showwarning is before

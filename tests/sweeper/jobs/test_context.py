"""Columns that all job types share: selected samples and information; warnings in the log of a job."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from sap_core.api import Need
from sap_core.cost import CostMeter
from sweeper.jobs.context import selection_columns, used_information
from sweeper.jobs.run_context import JobRun
from sweeper.jobs.run_job import log_warnings

EVALUATOR = SimpleNamespace(score_trusted=lambda index: {"trusted_label_precision": len(index) / 10})


def test_samples_that_a_method_itself_selects_are_counted():
    run = JobRun(CostMeter(3), None)
    run.report_trusted(torch.arange(4), [0, 1])
    run.report_forgotten(torch.arange(7), [1])
    found = [selection_columns(run, which, EVALUATOR) for which in range(3)]
    trusted = {"num_trusted": 4, "trusted_label_precision": 0.4}
    assert found == [trusted, {**trusted, "num_forget": 7}, {}]


@dataclass(frozen=True)
class Setting:
    wants: frozenset = frozenset()
    selects: bool = False
    num_trusted: int = 5  # a name that means nothing

    def needs(self):
        return self.wants

    def selects_samples(self):
        return self.selects


@pytest.mark.parametrize(
    ("setting", "reports", "served", "found", "found_by_file"),
    [
        (Setting(), False, (), "none", "none"),
        (Setting(selects=True), False, (), "scored", "scored"),
        (Setting(), True, (), "scored", "scored"),
        (Setting(), True, (Need.FORGET,), "oracle", "verified_file"),
        (Setting(frozenset({Need.FORGET})), True, (Need.FORGET,), "oracle", "verified_file"),
        (Setting(frozenset({Need.TRUE_LABELS}), selects=True), False, (), "oracle", "oracle"),
    ],
)
@pytest.mark.parametrize("report", ["report_trusted", "report_forgotten"])
def test_information_is_declared_or_used_whichever_is_more(setting, reports, served, found, found_by_file, report):
    run = JobRun(CostMeter(2), None)
    if reports:
        getattr(run, report)(torch.arange(4), [1])
    for file, said in (("", found), ("audit.csv", found_by_file)):
        dataset = SimpleNamespace(audit_file=file)
        assert used_information(setting, run, 1, dataset, served) == {"information": said}


def test_a_warning_is_copied_to_the_log_of_the_job(caplog, recwarn):
    log, before = logging.getLogger("job.test"), warnings.showwarning
    with caplog.at_level(logging.WARNING), log_warnings(log):
        warnings.warn("using the weights under its key 'net'", stacklevel=1)
    assert "under its key 'net'" in caplog.text
    assert "under its key 'net'" in str(recwarn.list[0].message)
    assert warnings.showwarning is before

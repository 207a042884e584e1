"""Estimated seconds of jobs, from the run times of similar jobs, with intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.estimate.duration import BASES, COVERAGE, Conditions, Estimate, RuntimeEstimator, Workload, flops_by_workload

SAP = Workload("tune sap grid", "small_cnn", "digits")


def estimator(*measured, **settings):
    """An estimator that has recorded (workload, seconds of 1e9 FLOPs[, conditions])."""
    made = RuntimeEstimator(**settings)
    for workload, seconds, *conditions in measured:
        made.record(workload, 1e9, seconds, *conditions)
    return made


@pytest.mark.parametrize(
    ("other", "basis"),
    [
        (SAP, "same method"),
        (replace(SAP, method="tune ssd grid"), "same network"),
        (replace(SAP, network="vgg", dataset="cifar10"), "other jobs"),
        (replace(SAP, network="vgg"), "other jobs"),
    ],
)
def test_the_most_similar_measured_jobs_count(other, basis):
    found = estimator((other, 3.0)).estimate(SAP, 2e9)
    assert found == Estimate(pytest.approx(6.0), pytest.approx(6.0 / BASES[basis]), pytest.approx(6.0 * BASES[basis]), basis)


def test_one_job_of_the_same_method_counts_more_than_many_others():
    near, far = (SAP, 1.0), (replace(SAP, method="tune ssd grid"), 9.0)
    assert estimator(far, far, near).estimate(SAP, 1e9).seconds == pytest.approx(1.0)


def test_a_network_without_measurements_is_calibrated():
    made = estimator((replace(SAP, network="vgg"), 9.0), calibrated={("small_cnn", "digits"): 2e-9})
    assert (made.estimate(SAP, 1e9).seconds, made.estimate(SAP, 1e9).basis) == (2.0, "calibrated")
    assert made.has_measured("vgg", "digits")
    assert not made.has_measured("small_cnn", "digits")


def test_without_measurements_a_speed_is_assumed_and_the_interval_is_wide():
    found = RuntimeEstimator(assumed=1e-10).estimate(SAP, 1e10)
    assert (found.seconds, found.basis) == (1.0, "assumed")
    assert found.high / found.low > 10


def test_without_an_assumption_nothing_is_estimated_but_jobs_without_flops():
    assert RuntimeEstimator().estimate(SAP, 1e10) is None
    assert RuntimeEstimator().estimate(SAP, 0.0).seconds == 0.0


def test_within_similar_jobs_the_best_conditions_count():
    different, same, now = (SAP, 9.0, Conditions.DIFFERENT), (SAP, 5.0, Conditions.SAME), (SAP, 1.0)
    assert estimator(different).estimate(SAP, 1e9).seconds == pytest.approx(9.0)
    assert estimator(same, different).estimate(SAP, 1e9).seconds == pytest.approx(5.0)
    assert estimator(now, same, different).estimate(SAP, 1e9).seconds == pytest.approx(1.0)


def test_the_latest_jobs_count():
    """A machine that becomes twice as slow."""
    assert estimator(*[(SAP, 1.0)] * 100, *[(SAP, 2.0)] * 64).estimate(SAP, 1e9).seconds == pytest.approx(2.0)


def test_a_job_without_flops_or_seconds_is_not_recorded():
    made = RuntimeEstimator()
    made.record(SAP, 0.0, 5.0)
    made.record(SAP, 1e9, 0.0)
    assert made.estimate(SAP, 1e9) is None


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_at_least_the_nominal_share_of_the_similar_jobs_lies_inside(seconds):
    made = estimator(*((SAP, one) for one in seconds))
    found = made.estimate(SAP, 1e9)
    assert found.high / found.seconds >= BASES["same method"] * (1 - 1e-9)
    assert np.mean([found.low * (1 - 1e-9) <= one <= found.high * (1 + 1e-9) for one in seconds]) >= COVERAGE


def test_sums_add_the_ends_and_have_the_weakest_basis():
    parts = [Estimate(1.0, 0.5, 2.0, "same method"), Estimate(2.0, 1.0, 4.0, "calibrated"), Estimate(0.0, 0.0, 0.0, "assumed")]
    assert Estimate.sum(parts) == Estimate(3.0, 1.5, 6.0, "calibrated")
    assert Estimate.sum([]).seconds == 0.0


def test_the_remaining_time_is_that_of_all_workers():
    train = replace(SAP, method="train sgd grid")
    made = estimator((SAP, 1.0), (train, 3.0))
    left = flops_by_workload([(SAP, 1e9), (train, 1e9), (train, 1e9)])
    assert left == {SAP: 1e9, train: 2e9}
    assert made.remaining_seconds(left, workers=2) == pytest.approx(3.5)
    assert made.remaining_seconds({}) == 0.0
    assert RuntimeEstimator().remaining_seconds(left) is None
    assert made.remaining_seconds(left, workers=0) is None


def test_baselines_are_compared_by_their_trainer_and_searches_by_their_sampler(make_job):
    labels = make_job("aa").labels
    assert Workload.of("tune", labels) == SAP
    assert Workload.of("train", labels | {"method": "vanilla"}) == replace(SAP, method="train sgd grid")
    assert Workload.of("search", labels | {"search": "tpe"}) == replace(SAP, method="search sap tpe")


def test_neither_torch_nor_pyarrow_is_loaded(shell):
    modules = "sweeper.estimate.duration, sweeper.estimate.measurements, slurm.status"
    done = shell("-c", f"import sys, {modules}; sys.exit(bool({{'torch', 'ray'}} & set(sys.modules)))")
    assert done.returncode == 0, done.stderr

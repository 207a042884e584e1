"""Stopping before a time limit."""

from __future__ import annotations

import pytest

from sweeper.estimate.duration import Estimate
from sweeper.scheduling.deadline import RESERVE_SECONDS, Deadline


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_last_epoch_ends_before_the_limit(clock):
    deadline = Deadline(100 + RESERVE_SECONDS, clock)
    deadline.start_job()
    for now in (10, 20, 40, 60):  # the longest epoch took 20
        clock.now = now
        assert not deadline()
    clock.now = 79.9
    assert not deadline()
    clock.now = 80
    assert deadline(), "one more like the longest would end at 100"


def test_epoch_times_are_reset_for_a_new_job(clock):
    deadline = Deadline(100 + RESERVE_SECONDS, clock)
    clock.now = 60
    assert deadline()
    deadline.start_job()
    clock.now = 61
    assert not deadline()


def test_without_a_limit_it_never_stops(clock):
    deadline = Deadline(float("inf"), clock)
    clock.now = 1e12
    assert not deadline()


def likely(seconds, basis="same method"):
    return Estimate(seconds, seconds / 2, seconds * 2, basis)


def test_a_job_that_would_be_stopped_and_restarted_is_not_started(clock, make_job):
    deadline = Deadline(100 + RESERVE_SECONDS, clock)
    short, long = make_job("aa", forecast_flops=1e9), make_job("bb", forecast_flops=2e9)
    train, other = make_job("cc", job_type="train", forecast_flops=9e9), make_job("dd", forecast_flops=9e9, method="scrub")
    assert deadline.fits(long, likely(80)), "the first of a start is always tried"
    deadline.start_job()
    clock.now = 40
    assert deadline.fits(short, likely(40))
    assert not deadline.fits(long, likely(80)), "80 s, and 60 are left"
    assert deadline.fits(train, likely(80)), "goes on from its checkpoint"
    assert deadline.fits(other, None), "nothing is known"
    assert deadline.fits(other, likely(80, "same network")), "no job of its method was measured"
    clock.now = 100
    assert not deadline.fits(train, likely(1))

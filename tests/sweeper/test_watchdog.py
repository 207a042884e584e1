"""A job that runs past its time: the watchdog and the job never both write its rows."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from sweeper import execute


@pytest.fixture
def done(monkeypatch):
    """What the watchdog did, instead of doing it."""
    done = []

    def fail(job, store, kind, why, attempt):
        time.sleep(0.1)
        done.append((kind, why, attempt))

    monkeypatch.setattr(execute, "fail", fail)
    monkeypatch.setattr(execute.os, "_exit", done.append)
    return done


def job(seconds):
    return SimpleNamespace(timeout_seconds=seconds)


def test_a_job_past_its_time_becomes_failed_rows_before_it_can_write_its_own(done):
    with execute._watchdog(job(0.02), None, 2):
        time.sleep(0.06)  # ends while the watchdog is at work
    assert done == [("killed", "ran past its time of 0.02 s (backend.timeout_seconds)", 2), execute.TIMED_OUT]


@pytest.mark.parametrize("seconds", [None, 0.1])
def test_a_job_in_time_is_left_in_peace(done, seconds):
    with execute._watchdog(job(seconds), None, 1):
        pass
    time.sleep(0.3)
    assert done == []
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_the_process_ends_even_if_the_rows_cannot_be_stored(done, monkeypatch):
    def full(*_):
        raise OSError("no space")

    monkeypatch.setattr(execute, "fail", full)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    with execute._watchdog(job(0.02), None, 1):
        time.sleep(0.2)
    assert done == [execute.TIMED_OUT]

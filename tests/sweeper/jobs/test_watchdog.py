"""Time limits of jobs: the watchdog and the job never both write its rows."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from sweeper.jobs import run_job as execute


@pytest.fixture
def ended(monkeypatch):
    """The actions of the watchdog, recorded instead of performed."""
    done = []
    monkeypatch.setattr(execute, "store_failure", lambda job, store, kind, why, attempt: done.append((kind, why, attempt)))
    monkeypatch.setattr(execute.os, "_exit", lambda code: done.append(code))
    return done


def job(seconds):
    return SimpleNamespace(timeout_seconds=seconds)


def test_a_job_beyond_its_time_limit_stores_failed_rows_and_its_process_ends(ended):
    with execute.watchdog(job(0.02), None, 2):
        time.sleep(0.2)
    assert ended == [("killed", "exceeded its time limit of 0.02 s (backend.timeout_seconds)", 2), execute.TIMED_OUT]


def test_a_job_that_ends_too_late_waits_for_the_watchdog(ended, monkeypatch):
    begun = threading.Event()

    def slow(*_):
        begun.set()
        time.sleep(0.1)
        ended.append("stored")

    monkeypatch.setattr(execute, "store_failure", slow)
    with execute.watchdog(job(0.02), None, 1):
        assert begun.wait(5)
    assert ended == ["stored", execute.TIMED_OUT]  # a real exit ends the process here, before the job could write


@pytest.mark.parametrize("seconds", [None, 0.05])
def test_a_job_in_time_leaves_no_watchdog_behind(ended, seconds):
    with execute.watchdog(job(seconds), None, 1):
        pass
    time.sleep(0.1)
    assert ended == []
    assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer) and thread.is_alive()]


def test_the_process_ends_even_if_the_rows_cannot_be_stored(ended, monkeypatch):
    def full(*_):
        raise execute.Stopped("as good as any error")

    monkeypatch.setattr(execute, "store_failure", full)
    monkeypatch.setattr(threading, "excepthook", lambda arguments: None)
    with execute.watchdog(job(0.02), None, 1):
        time.sleep(0.2)
    assert ended == [execute.TIMED_OUT]


HANGING = """
import ctypes, sys
from types import SimpleNamespace
from sweeper.jobs import run_job as execute

execute.GRACE_SECONDS = 0.5
execute.store_failure = lambda *arguments: print("the first watchdog ran", flush=True)
with execute.watchdog(SimpleNamespace(timeout_seconds=0.2), None, 1):
    ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
print("the job ended", flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the C library by Linux's ways")
def test_a_job_that_holds_the_interpreters_lock_is_ended():
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=55)
    assert done.returncode == 1, "faulthandler's exit code; the first watchdog's is another"
    assert done.stdout == ""
    assert "Timeout" in done.stderr
    assert 'File "<string>", line 9' in done.stderr, "the stacks say where it hung"
    assert time.monotonic() - start < 50

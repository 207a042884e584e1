"""The start of Ray: its time limit, signals, folders and paths. Without Ray."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sap_core.machine import ending_signals, parents
from sweeper.backends import ray_paths
from sweeper.backends.ray_address import init_error
from sweeper.backends.ray_start import TimedOut, end_new_descendants, hangup_blocked, time_limit


def test_a_block_beyond_its_time_limit_is_interrupted_and_signals_are_as_before():
    handler = signal.getsignal(signal.SIGALRM)
    with pytest.raises(TimedOut), time_limit(0.05):
        time.sleep(30)
    with time_limit(30):
        pass
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_limit_that_is_over_interrupts_at_once():
    with pytest.raises(TimedOut), time_limit(-5):
        time.sleep(30)


def test_the_time_limit_passes_handlers_of_errors():
    def start_again():
        with pytest.raises(ZeroDivisionError):  # catches `Exception` alone, as Ray does
            raise ZeroDivisionError
        try:
            time.sleep(30)
        except Exception:
            return

    with pytest.raises(TimedOut), time_limit(0.05):
        start_again()


STUCK = """
import ctypes
from sap_core.machine import parents
from sweeper.backends.ray_start import end_if_stuck, time_limit

with end_if_stuck(0.1, set(parents()), "it did not start", step=0.2), time_limit(0.1):
    mutex = ctypes.create_string_buffer(256)
    while True:
        ctypes.CDLL(None).pthread_mutex_lock(mutex)  # the second call never returns, and no signal interrupts it
"""


def test_a_call_that_no_signal_interrupts_ends_the_process_with_its_sentence():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", STUCK], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (2, "error: it did not start\n")


def test_processes_of_a_block_ignore_a_hangup_and_this_one_receives_it():
    received = []
    before = signal.signal(signal.SIGHUP, lambda *_: received.append(1))
    try:
        with hangup_blocked():
            child = subprocess.Popen([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
            child.stdout.readline()
            child.send_signal(signal.SIGHUP)
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == [1]
        assert child.poll() is None
    finally:
        signal.signal(signal.SIGHUP, before)
        child.kill()
        child.wait()


def test_a_hangup_that_is_ignored_stays_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert ending_signals() == (signal.SIGTERM,)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ending_signals() == (signal.SIGTERM, signal.SIGHUP)
    monkeypatch.delattr(signal, "SIGHUP")
    assert ending_signals() == (signal.SIGTERM,)


def test_only_descendants_that_are_new_are_ended():
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(sleep) as old, subprocess.Popen(["bash", "-c", "sleep 60 & wait"]) as new:
        while len([pid for pid, parent in parents().items() if parent == new.pid]) < 1:
            time.sleep(0.02)
        grandchild = next(pid for pid, parent in parents().items() if parent == new.pid)
        end_new_descendants({old.pid})
        assert new.wait() == -signal.SIGTERM
        assert grandchild not in parents()
        assert old.poll() is None
        old.kill()


@pytest.mark.parametrize("error", [TimedOut(), MemoryError(), TimeoutError("GCS did not answer"), KeyError("getpwuid(): uid not found: 7")])
def test_a_failed_start_of_any_kind_is_a_sentence_that_offers_the_other_backend(error):
    sentence = init_error(None, error, 90)
    assert sentence.startswith("Ray could not be started (")
    assert sentence.endswith("); use backend=local, or fix the cause")
    assert "(; " not in sentence
    assert "()" not in sentence.replace("getpwuid()", "")


@pytest.fixture
def temporary(monkeypatch):
    """Sets TMPDIR and the folders that cannot be written."""

    def make(folder, denied=()):
        monkeypatch.setattr("tempfile.tempdir", str(folder))
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: str(path) not in denied and access(path, mode))

    return make


def test_ray_uses_tmpdir_where_tmp_cannot_be_written(temporary, tmp_path):
    short = Path(f"/tmp/t{os.getpid()}")
    short.mkdir()
    try:
        temporary(short, denied=["/tmp"])
        assert ray_paths.ray_parent_folder() == short
    finally:
        short.rmdir()


@pytest.mark.parametrize("name", ["a folder", "fol(der", "of/a/project/with/a/very/long/name", "gone"])
def test_a_tmpdir_that_ray_cannot_use_is_passed_over(temporary, tmp_path, name):
    folder = tmp_path / name
    if name != "gone":
        folder.mkdir(parents=True)
    temporary(folder)
    assert ray_paths.ray_parent_folder() == Path("/tmp")


def test_without_any_folder_the_sentence_names_tmpdir(temporary, tmp_path):
    temporary(tmp_path / "of/a/long/name", denied=["/tmp", "/var/tmp", "/dev/shm"])
    with pytest.raises(OSError, match=r"at most 24 bytes; .* set TMPDIR"):
        ray_paths.ray_parent_folder()


@pytest.mark.parametrize("name", ["with space", "br(ack)et", "quo'te", "dollar$HOME", "semi;colon", "ümlaut", "star*"])
def test_an_interpreter_that_a_shell_would_misread_is_reached_through_a_link(tmp_path, name):
    (tmp_path / name).symlink_to(sys.prefix)
    program = "from sweeper.backends.ray_paths import *; print(plain_interpreter())\nimport os\nwith plain_ray():\n"
    program += "    import ray; print(ray.__file__); print(sys.executable, flush=True)\n"
    program += "    os.system(f'{sys.executable} -c \"import ray; print(ray.__file__)\"')"
    done = subprocess.run([tmp_path / name / "bin" / "python", "-c", program], capture_output=True, encoding="utf-8", env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    paths = done.stdout.split("\n")[:-1]
    assert len(paths) == 4
    for path in paths:
        assert ray_paths.is_plain(path), path
        # The links end with the process that made them.
        assert not Path(path).exists()


def test_an_interpreter_with_a_plain_path_is_used_as_it_is(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/opt/python/bin/python3")
    assert ray_paths.plain_interpreter() == "/opt/python/bin/python3"

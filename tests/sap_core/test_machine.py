"""Questions to the operating system, also where Linux's answers are missing."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sap_core import machine


@pytest.fixture
def no_proc(monkeypatch, tmp_path):
    """A system without /proc, such as macOS."""
    monkeypatch.setattr(machine, "PROC", tmp_path / "proc")
    machine.boot_id.cache_clear()
    yield
    machine.boot_id.cache_clear()


@pytest.fixture
def child():
    """A process that sleeps."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_cores_without_an_affinity_mask_are_those_of_the_machine(monkeypatch):
    assert machine.cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert machine.cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert machine.cores() == 1


def test_memory_is_unknown_where_neither_sysconf_nor_sysctl_tells(monkeypatch):
    assert machine.memory_bytes() > 2**28
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.memory_bytes() is None


def test_memory_from_sysctl(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sysconf")
    (tmp_path / "sysctl").write_text('#!/bin/sh\n[ "$2" = hw.memsize ] && echo 17179869184\n')
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.memory_bytes() == 2**34


@pytest.mark.parametrize(("system", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_peak_without_proc_is_getrusages_in_its_unit(no_proc, monkeypatch, system, unit):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(sys, "platform", system)
    machine.reset_peak_resident()
    assert machine.peak_resident_bytes() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_the_peak_without_the_module_resource_is_zero(no_proc, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert machine.peak_resident_bytes() == 0


def test_the_boot_id_without_proc_is_macos_session(no_proc, monkeypatch, tmp_path):
    (tmp_path / "sysctl").write_text('#!/bin/sh\n[ "$2" = kern.bootsessionuuid ] && echo 4F2A\n')
    (tmp_path / "sysctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.boot_id() == "4F2A"


def test_the_boot_id_is_unknown_where_nothing_tells(no_proc, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert machine.boot_id() == ""


@pytest.mark.parametrize("proc", [True, False])
def test_a_process_has_one_start_time_until_it_ends(proc, child, request):
    if not proc:
        request.getfixturevalue("no_proc")
    born = machine.start_time(child.pid)
    assert born
    assert machine.start_time(child.pid) == born
    assert machine.parents()[child.pid] == os.getpid()
    child.kill()
    # Not collected yet: a zombie, which has ended.
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert machine.start_time(child.pid) is None
    assert child.pid not in machine.parents()
    child.wait()
    assert machine.start_time(child.pid) is None


def test_a_process_that_proc_hides_has_not_ended(no_proc, monkeypatch):
    def denied(pid, number):
        raise PermissionError

    monkeypatch.setattr(os, "kill", denied)
    assert machine.start_time(1) == ""


@pytest.mark.parametrize("pid", [2**22 + 12345, 2**70])
def test_a_number_of_no_process_has_no_start_time(pid):
    assert not machine.start_time(pid)


NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")
CACHES = ("XDG_CACHE_HOME", "MPLCONFIGDIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR")


@pytest.fixture
def account(monkeypatch, tmp_path):
    """The environment of an account, whose changes are undone; temporary files go to tmp_path."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in (*NAMES, *CACHES, "HOME"):
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    return monkeypatch


def unlisted(*_):
    raise KeyError("uid not found")


def test_an_account_without_entry_and_home_gets_a_name_and_private_caches(account, tmp_path):
    account.setattr("pwd.getpwuid", unlisted)
    machine.complete_account()
    assert getpass.getuser() == f"uid{os.getuid()}"
    assert str(Path.home()) == os.environ["HOME"] == "/nonexistent"
    folder = tmp_path / f"sap-sweep-{os.getuid()}"
    assert {os.environ[name] for name in CACHES} == {str(folder)}
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_complete_account_is_left_alone(account, tmp_path):
    account.setenv("HOME", str(tmp_path))
    account.setenv("USER", "someone")
    before = dict(os.environ)
    machine.complete_account()
    assert dict(os.environ) == before


def test_variables_of_the_user_are_kept(account):
    account.setenv("HOME", "/nonexistent/home")
    account.setenv("MPLCONFIGDIR", "/mine")
    machine.complete_account()
    assert os.environ["MPLCONFIGDIR"] == "/mine"
    assert os.environ["XDG_CACHE_HOME"] != "/mine"


@pytest.mark.parametrize("kind", ["link", "open"])
def test_a_folder_that_others_may_have_made_is_not_used(account, tmp_path, kind):
    account.setenv("HOME", "/nonexistent")
    folder = tmp_path / f"sap-sweep-{os.getuid()}"
    if kind == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    machine.complete_account()
    assert "MPLCONFIGDIR" not in os.environ


def test_times_of_ps_do_not_depend_on_the_time_zone(no_proc, child, monkeypatch):
    found = set()
    for zone in ("UTC", "Asia/Tokyo"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        found.add(machine.start_time(child.pid))
    monkeypatch.undo()
    time.tzset()
    assert len(found) == 1

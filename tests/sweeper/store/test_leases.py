"""Leases: at most one live owner at a time, independently of wall clocks; slow owners do no harm."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sap_core.errors import StorageError, UserError
from sweeper.store.leases import Leases, acquire_all, acquire_or_owner, lease_duration, leased_names

HOME = Path(__file__).parents[3]
LEASE = 0.8


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stated(folder, name="job", number=1):
    return json.loads((folder / f"{name}.{number}.lease").read_text())


def two():
    """Two processes that observe only each other's counters, as on two machines."""
    return Leases(LEASE, check_processes=False), Leases(LEASE, check_processes=False)


def acquire_waiting(leases, path, seconds=10.0):
    """The lease, as soon as it can be acquired."""
    end = time.monotonic() + seconds
    while (lease := leases.acquire(path)) is None:
        assert time.monotonic() < end, "not acquired in time"
        time.sleep(0.02)
    return lease


def suspend(leases):
    """Suspend a process: its counter stops, although it still believes that it owns its leases."""
    with leases._lock:  # noqa: SLF001 - a stopped process without another process
        held, leases._active = leases._active, set()  # noqa: SLF001
    return held


def resume(leases, held):
    """Resume a suspended process: its thread renews at once."""
    with leases._lock:  # noqa: SLF001
        leases._active = held  # noqa: SLF001
    for lease in held:
        lease._renew()  # noqa: SLF001


def test_a_forked_process_is_the_owner_of_what_it_acquires(tmp_path):
    """It inherits the memory of its parent, whose number is not its own."""
    with Leases().acquire(tmp_path / "parent"):
        assert stated(tmp_path, "parent")["pid"] == os.getpid()
    child = os.fork()
    if not child:
        Leases().acquire(tmp_path / "child")
        os._exit(0)
    os.waitpid(child, 0)
    assert stated(tmp_path, "child")["pid"] == child
    with Leases().acquire(tmp_path / "child") as lease:
        assert lease.number == 2


def test_a_live_owner_keeps_its_lease_and_releases_it(tmp_path):
    one, other = two()
    with one.acquire(tmp_path / "job") as lease:
        until = time.monotonic() + 3 * LEASE
        while time.monotonic() < until:
            assert other.acquire(tmp_path / "job") is None
            time.sleep(0.02)
        assert lease.is_valid()
        assert not lease.is_lost()
        assert stated(tmp_path)["count"] >= 8
        assert other.owner(tmp_path / "job") == f"process {os.getpid()} on {stated(tmp_path)['host']}"
        assert leased_names(tmp_path) == {"job"}
    assert names(tmp_path) == []
    with other.acquire(tmp_path / "job"):
        assert one.acquire(tmp_path / "job") is None


def test_an_owner_that_does_not_renew_loses_its_lease_for_good(tmp_path):
    slow, other = two()
    lease = slow.acquire(tmp_path / "job")
    held = suspend(slow)
    start = time.monotonic()
    assert other.acquire(tmp_path / "job") is None, "the first attempt only starts the observation"
    taken = acquire_waiting(other, tmp_path / "job")
    assert time.monotonic() - start >= LEASE
    assert taken.number == 2
    resume(slow, held)
    assert not lease.is_valid()
    assert lease.is_lost()
    assert taken.is_valid()
    assert stated(tmp_path, number=2)["owner"] == other.token
    lease.release()
    assert taken.is_valid(), "a former owner releases only its own file"
    taken.release()
    assert names(tmp_path) == []


def test_a_former_owner_does_not_release_a_later_lease_of_the_same_number(tmp_path):
    slow, other = two()
    lease = slow.acquire(tmp_path / "job")
    suspend(slow)
    other.acquire(tmp_path / "job")
    acquire_waiting(other, tmp_path / "job").release()
    again = other.acquire(tmp_path / "job")
    assert again.number == lease.number == 1
    lease.release()
    assert again.is_valid()
    assert not lease.is_valid()


def test_a_takeover_is_withdrawn_if_the_owner_renews_in_between(tmp_path, monkeypatch):
    """The owner renews between the other's observation and its takeover: the other withdraws."""
    slow, other = two()
    lease = slow.acquire(tmp_path / "job")
    held = suspend(slow)
    other.acquire(tmp_path / "job")
    time.sleep(1.2 * LEASE)
    create = type(lease)._create  # noqa: SLF001 - the moment between two steps of taking over

    def late(self):
        resume(slow, held)
        return create(self)

    monkeypatch.setattr(type(lease), "_create", late)
    assert other.acquire(tmp_path / "job") is None
    monkeypatch.undo()
    assert lease.is_valid()
    assert names(tmp_path) == ["job.1.lease"]
    lease.release()


def test_only_one_of_many_contenders_takes_over(tmp_path):
    dead = Leases(LEASE, check_processes=False)
    dead.acquire(tmp_path / "job")
    suspend(dead)
    heirs = [Leases(LEASE, check_processes=False) for _ in range(20)]
    assert [heir.acquire(tmp_path / "job") for heir in heirs] == [None] * 20
    time.sleep(1.2 * LEASE)
    assert sum(heir.acquire(tmp_path / "job") is not None for heir in heirs) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_wall_clocks_that_differ_by_an_hour_do_no_harm(tmp_path, monkeypatch, hours):
    owner, other = two()
    lease = owner.acquire(tmp_path / "job")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    other.acquire(tmp_path / "job")
    os.utime(tmp_path / "job.1.lease", (real() + 3600 * hours,) * 2)
    until = time.monotonic() + 2 * LEASE
    while time.monotonic() < until:
        assert other.acquire(tmp_path / "job") is None
        time.sleep(0.02)
    assert lease.is_valid()
    suspend(owner)
    assert acquire_waiting(other, tmp_path / "job").number == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 3}', "\x00\xff"])
def test_an_incomplete_lease_file_is_taken_over_after_its_duration(tmp_path, text):
    (tmp_path / "job.1.lease").write_bytes(text.encode("latin-1"))
    leases = Leases(LEASE)
    start = time.monotonic()
    assert leases.acquire(tmp_path / "job") is None
    assert leases.owner(tmp_path / "job") == "an unknown process"
    acquire_waiting(leases, tmp_path / "job").release()
    assert time.monotonic() - start >= LEASE
    assert names(tmp_path) == []


def test_the_owners_duration_counts_not_the_observers(tmp_path):
    owner, hasty = Leases(60.0, check_processes=False), Leases(0.05, check_processes=False)
    with owner.acquire(tmp_path / "job"):
        hasty.acquire(tmp_path / "job")
        time.sleep(0.3)
        assert hasty.acquire(tmp_path / "job") is None


HOLD = """
import sys, time
from pathlib import Path
from sweeper.store.leases import Leases
lease = Leases(float(sys.argv[2])).acquire(Path(sys.argv[1]))
print(lease.number, flush=True)
sys.stdin.readline()
print(lease.is_valid(), flush=True)
lease.release()
"""


def holding(path, lease):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path, str(lease)], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    return process


def test_a_killed_process_of_this_machine_is_recognised_at_once(tmp_path):
    with holding(tmp_path / "job", 3600) as process:
        leases = Leases(3600)
        assert leases.acquire(tmp_path / "job") is None
        assert leases.owner_runs_here(tmp_path / "job")
        process.kill()
        deadline = time.monotonic() + 10
        while (lease := leases.acquire(tmp_path / "job")) is None:  # before anybody asked how it ended, too
            assert time.monotonic() < deadline
    lease.release()
    assert names(tmp_path) == []


def test_a_suspended_process_loses_its_lease_and_does_no_harm_when_it_resumes(tmp_path):
    with holding(tmp_path / "job", LEASE) as process:
        process.send_signal(signal.SIGSTOP)
        other = Leases(LEASE)
        lease = acquire_waiting(other, tmp_path / "job")
        process.send_signal(signal.SIGCONT)
        time.sleep(LEASE)
        assert lease.is_valid()
        out, _ = process.communicate("\n", timeout=20)
        assert out == "False\n"
        assert lease.is_valid()
        assert stated(tmp_path, number=2)["owner"] == other.token
        lease.release()
    assert names(tmp_path) == []


def test_acquire_all_acquires_all_or_none(tmp_path):
    one, other = two()
    with one.acquire(tmp_path / "b"):
        with acquire_all(other, [tmp_path / "a", tmp_path / "b"]) as held:
            assert held.startswith(f"process {os.getpid()} on ")
            assert leased_names(tmp_path) == {"b"}
        with acquire_all(other, [tmp_path / "a", tmp_path / "c"]) as held:
            assert [lease.path.name for lease in held] == ["a", "c"]
            assert leased_names(tmp_path) == {"a", "b", "c"}
        assert leased_names(tmp_path) == {"b"}


def test_a_live_owner_on_another_machine_is_reported_and_a_dead_one_replaced(tmp_path, monkeypatch):
    owner, other = two()
    monkeypatch.setattr("sweeper.store.leases._CHECK_SECONDS", 0.02)
    monkeypatch.setattr("sweeper.store.leases.boot_id", lambda: "")  # owners are on machines of their own
    said = []
    lease = owner.acquire(tmp_path / "driver")
    assert acquire_or_owner(other, tmp_path / "driver", said.append).startswith(f"process {os.getpid()} on ")
    assert len(said) == 1
    assert lease.is_valid()
    suspend(owner)
    taken = acquire_or_owner(other, tmp_path / "driver", said.append)
    assert taken.number == lease.number + 1


def test_renewals_continue_after_a_full_disk_has_room_again(tmp_path, monkeypatch):
    leases = Leases(LEASE, check_processes=False)
    with leases.acquire(tmp_path / "job") as lease:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        time.sleep(LEASE / 2)
        before = stated(tmp_path)["count"]
        monkeypatch.undo()
        time.sleep(LEASE)
        assert stated(tmp_path)["count"] > before
        assert lease.is_valid()


def test_names_with_a_common_prefix_are_different_resources(tmp_path):
    leases = Leases(60.0)
    with leases.acquire(tmp_path / "aa"), leases.acquire(tmp_path / "aa-0"), leases.acquire(tmp_path / "aa.b"):
        assert leased_names(tmp_path) == {"aa", "aa-0", "aa.b"}
        assert leases.acquire(tmp_path / "aa.b") is None
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".aa.1.lease").touch()
    assert leased_names(tmp_path) == set()
    assert leased_names(tmp_path / "none") == set()


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        Leases(60.0).acquire(tmp_path / "file" / "job")


@pytest.mark.parametrize("text", ["-1", "0", "soon", "nan", "inf"])
def test_an_invalid_duration_is_refused(monkeypatch, text):
    monkeypatch.setenv("SAP_SWEEP_LEASE_SECONDS", text)
    with pytest.raises(UserError, match=f"SAP_SWEEP_LEASE_SECONDS={text} is not a duration"):
        lease_duration()

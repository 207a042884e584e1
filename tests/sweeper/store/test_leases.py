"""Claims: one live owner at a time, whatever clocks say, and slow owners do no harm."""

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
from sweeper.store.leases import Claims, all_or_none, claimed_names, lease_seconds, take_from_dead

HOME = Path(__file__).parents[3]
LEASE = 0.8


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def stated(folder, name="job", number=1):
    return json.loads((folder / f"{name}.{number}.claim").read_text())


def two():
    """Two owners that see only each other's counters, as on two machines."""
    return Claims(LEASE, see_dead=False), Claims(LEASE, see_dead=False)


def patiently(claims, path, seconds=10.0):
    """The claim, as soon as it can be had."""
    end = time.monotonic() + seconds
    while (claim := claims.take(path)) is None:
        assert time.monotonic() < end, "not to be had"
        time.sleep(0.02)
    return claim


def silence(claims):
    """What a stopped process does: its counter stands still, though it goes on owning."""
    with claims._lock:  # noqa: SLF001 - a stopped process without another process
        held, claims._held = claims._held, set()  # noqa: SLF001
    return held


def wake(claims, held):
    """It goes on as if nothing had been: the thread raises its counter at once."""
    with claims._lock:  # noqa: SLF001
        claims._held = held  # noqa: SLF001
    for claim in held:
        claim._raise_counter()  # noqa: SLF001


def test_a_live_owner_keeps_its_claim_and_gives_it_back(tmp_path):
    one, other = two()
    with one.take(tmp_path / "job") as claim:
        until = time.monotonic() + 3 * LEASE
        while time.monotonic() < until:
            assert other.take(tmp_path / "job") is None
            time.sleep(0.02)
        assert claim.mine()
        assert not claim.lost()
        assert stated(tmp_path)["count"] >= 8
        assert other.holder(tmp_path / "job") == f"process {os.getpid()} on {stated(tmp_path)['host']}"
        assert claimed_names(tmp_path) == {"job"}
    assert names(tmp_path) == []
    with other.take(tmp_path / "job"):
        assert one.take(tmp_path / "job") is None


def test_an_owner_that_gives_no_sign_loses_its_claim_and_cannot_take_it_back(tmp_path):
    slow, other = two()
    claim = slow.take(tmp_path / "job")
    held = silence(slow)
    start = time.monotonic()
    assert other.take(tmp_path / "job") is None, "the first look only begins the watch"
    taken = patiently(other, tmp_path / "job")
    assert time.monotonic() - start >= LEASE
    assert taken.number == 2
    wake(slow, held)
    assert not claim.mine()
    assert claim.lost()
    assert taken.mine()
    assert stated(tmp_path, number=2)["owner"] == other.owner
    claim.release()
    assert taken.mine(), "a loser that gives back gives back what is its own"
    taken.release()
    assert names(tmp_path) == []


def test_a_loser_does_not_release_what_came_after_it_under_its_number(tmp_path):
    slow, other = two()
    claim = slow.take(tmp_path / "job")
    silence(slow)
    other.take(tmp_path / "job")
    patiently(other, tmp_path / "job").release()
    again = other.take(tmp_path / "job")
    assert again.number == claim.number == 1
    claim.release()
    assert again.mine()
    assert not claim.mine()


def test_who_is_taken_over_while_only_slow_is_noticed(tmp_path, monkeypatch):
    """The owner raises its counter between the other's look and its taking over: the other withdraws."""
    slow, other = two()
    claim = slow.take(tmp_path / "job")
    held = silence(slow)
    other.take(tmp_path / "job")
    time.sleep(1.2 * LEASE)
    create = type(claim)._create  # noqa: SLF001 - the moment between two steps of taking over

    def late(self):
        wake(slow, held)
        return create(self)

    monkeypatch.setattr(type(claim), "_create", late)
    assert other.take(tmp_path / "job") is None
    monkeypatch.undo()
    assert claim.mine()
    assert names(tmp_path) == ["job.1.claim"]
    claim.release()


def test_only_one_of_many_takes_over(tmp_path):
    dead = Claims(LEASE, see_dead=False)
    dead.take(tmp_path / "job")
    silence(dead)
    heirs = [Claims(LEASE, see_dead=False) for _ in range(20)]
    assert [heir.take(tmp_path / "job") for heir in heirs] == [None] * 20
    time.sleep(1.2 * LEASE)
    assert sum(heir.take(tmp_path / "job") is not None for heir in heirs) == 1


@pytest.mark.parametrize("hours", [-1, 1])
def test_wall_clocks_that_differ_by_an_hour_do_no_harm(tmp_path, monkeypatch, hours):
    owner, other = two()
    claim = owner.take(tmp_path / "job")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    other.take(tmp_path / "job")
    os.utime(tmp_path / "job.1.claim", (real() + 3600 * hours,) * 2)
    until = time.monotonic() + 2 * LEASE
    while time.monotonic() < until:
        assert other.take(tmp_path / "job") is None
        time.sleep(0.02)
    assert claim.mine()
    silence(owner)
    assert patiently(other, tmp_path / "job").number == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"owner": 3}', "\x00\xff"])
def test_a_claim_that_was_not_written_to_its_end_is_taken_over_after_a_lease(tmp_path, text):
    (tmp_path / "job.1.claim").write_bytes(text.encode("latin-1"))
    claims = Claims(LEASE)
    start = time.monotonic()
    assert claims.take(tmp_path / "job") is None
    assert claims.holder(tmp_path / "job") == "an unknown process"
    patiently(claims, tmp_path / "job").release()
    assert time.monotonic() - start >= LEASE
    assert names(tmp_path) == []


def test_a_watcher_goes_by_the_lease_that_the_owner_states(tmp_path):
    owner, hasty = Claims(60.0, see_dead=False), Claims(0.05, see_dead=False)
    with owner.take(tmp_path / "job"):
        hasty.take(tmp_path / "job")
        time.sleep(0.3)
        assert hasty.take(tmp_path / "job") is None


HOLD = """
import sys, time
from pathlib import Path
from sweeper.store.leases import Claims
claim = Claims(float(sys.argv[2])).take(Path(sys.argv[1]))
print(claim.number, flush=True)
sys.stdin.readline()
print(claim.mine(), flush=True)
claim.release()
"""


def holding(path, lease):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, path, str(lease)], cwd=HOME, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "1\n"
    return process


def test_a_process_of_this_machine_that_was_killed_is_seen_at_once(tmp_path):
    with holding(tmp_path / "job", 3600) as process:
        claims = Claims(3600)
        assert claims.take(tmp_path / "job") is None
        assert claims.alive_here(tmp_path / "job")
        process.kill()
        deadline = time.monotonic() + 10
        while (claim := claims.take(tmp_path / "job")) is None:  # before anybody asked how it ended, too
            assert time.monotonic() < deadline
    claim.release()
    assert names(tmp_path) == []


def test_a_stopped_process_loses_its_claim_wakes_and_does_no_harm(tmp_path):
    with holding(tmp_path / "job", LEASE) as process:
        process.send_signal(signal.SIGSTOP)
        other = Claims(LEASE)
        claim = patiently(other, tmp_path / "job")
        process.send_signal(signal.SIGCONT)
        time.sleep(LEASE)
        assert claim.mine()
        out, _ = process.communicate("\n", timeout=20)
        assert out == "False\n"
        assert claim.mine()
        assert stated(tmp_path, number=2)["owner"] == other.owner
        claim.release()
    assert names(tmp_path) == []


def test_all_or_none(tmp_path):
    one, other = two()
    with one.take(tmp_path / "b"):
        with all_or_none(other, [tmp_path / "a", tmp_path / "b"]) as held:
            assert held.startswith(f"process {os.getpid()} on ")
            assert claimed_names(tmp_path) == {"b"}
        with all_or_none(other, [tmp_path / "a", tmp_path / "c"]) as held:
            assert [claim.path.name for claim in held] == ["a", "c"]
            assert claimed_names(tmp_path) == {"a", "b", "c"}
        assert claimed_names(tmp_path) == {"b"}


def test_a_live_owner_elsewhere_is_told_after_a_beat_and_a_dead_one_taken_over_after_a_lease(tmp_path, monkeypatch):
    owner, other = two()
    monkeypatch.setattr("sweeper.store.leases._LOOK_SECONDS", 0.02)
    monkeypatch.setattr("sweeper.store.leases._machine", lambda: "")  # owners are on machines of their own
    said = []
    claim = owner.take(tmp_path / "driver")
    assert take_from_dead(other, tmp_path / "driver", said.append).startswith(f"process {os.getpid()} on ")
    assert len(said) == 1
    assert claim.mine()
    silence(owner)
    taken = take_from_dead(other, tmp_path / "driver", said.append)
    assert taken.number == claim.number + 1


def test_a_counter_that_cannot_be_raised_for_a_while_goes_on_when_it_can(tmp_path, monkeypatch):
    claims = Claims(LEASE, see_dead=False)
    with claims.take(tmp_path / "job") as claim:

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        time.sleep(LEASE / 2)
        before = stated(tmp_path)["count"]
        monkeypatch.undo()
        time.sleep(LEASE)
        assert stated(tmp_path)["count"] > before
        assert claim.mine()


def test_names_that_begin_alike_are_different_things(tmp_path):
    claims = Claims(60.0)
    with claims.take(tmp_path / "aa"), claims.take(tmp_path / "aa-0"), claims.take(tmp_path / "aa.b"):
        assert claimed_names(tmp_path) == {"aa", "aa-0", "aa.b"}
        assert claims.take(tmp_path / "aa.b") is None
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".aa.1.claim").touch()
    assert claimed_names(tmp_path) == set()
    assert claimed_names(tmp_path / "none") == set()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot write"):
        Claims(60.0).take(tmp_path / "file" / "job")


@pytest.mark.parametrize("text", ["-1", "0", "soon", "nan", "inf"])
def test_a_lease_that_is_none_is_said(monkeypatch, text):
    monkeypatch.setenv("SAP_SWEEP_LEASE_SECONDS", text)
    with pytest.raises(UserError, match=f"SAP_SWEEP_LEASE_SECONDS={text} is no time"):
        lease_seconds()

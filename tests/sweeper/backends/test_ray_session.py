"""Session folders of killed drivers are removed; those of running drivers, of other users or with unknown state are kept."""

from __future__ import annotations

import errno
import fcntl
import subprocess
import sys

from sweeper.backends.ray_session import remove_stale, session_folder

OWNER = "import sys; from pathlib import Path; from sweeper.backends.ray_session import session_folder\n"
OWNER += "with session_folder(Path(sys.argv[1])) as folder: print(folder, flush=True); sys.stdin.read()"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_killed_owners_folder_is_removed_and_a_living_ones_is_not(tmp_path):
    command = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        folder = owner.stdout.readline().strip()
        remove_stale(tmp_path)
        assert [str(path) for path in tmp_path.iterdir()] == [folder]
        owner.kill()
        owner.wait()
        assert len(names(tmp_path)) == 1
    with session_folder(tmp_path) as mine:
        remove_stale(tmp_path)
        assert list(tmp_path.iterdir()) == [mine]
    assert names(tmp_path) == []


def test_folders_of_unknown_state_are_kept(tmp_path):
    (tmp_path / "sap-ray-without").mkdir()
    (tmp_path / "sap-ray-file").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".owner").touch()
    (tmp_path / "sap-ray-link").symlink_to(elsewhere)
    (tmp_path / "sap-ray-trap").mkdir()
    (tmp_path / "sap-ray-trap" / ".owner").symlink_to(elsewhere / ".owner")
    remove_stale(tmp_path)
    assert names(tmp_path) == ["elsewhere", "sap-ray-file", "sap-ray-link", "sap-ray-trap", "sap-ray-without"]
    assert names(elsewhere) == [".owner"]


def test_without_locks_a_folder_serves_and_is_removed_by_its_owner_alone(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with session_folder(tmp_path) as mine:
        monkeypatch.undo()
        remove_stale(tmp_path)
        assert list(tmp_path.iterdir()) == [mine]
    assert names(tmp_path) == []

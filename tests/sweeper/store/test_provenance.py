"""The origin of results: commits, versions and fingerprints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest

from sweeper.store import provenance

GIT = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small checkout of its own that provenance takes for ours."""
    home = tmp_path / "checkout"
    for package in ("sap_core", "conf", "analysis"):
        (home / package).mkdir(parents=True)
        (home / package / "a.py").write_text("x = 1\n")
    (home / "conf" / "a.yaml").write_text("x: 1\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, *words], cwd=home, check=True)
    monkeypatch.setattr(provenance, "CODE", home)
    monkeypatch.setattr(provenance, "HOME", home)
    return home


def test_the_commit_and_whether_files_differ_from_it(checkout):
    head = subprocess.run([*GIT, "rev-parse", "HEAD"], cwd=checkout, capture_output=True, text=True, check=True).stdout
    assert provenance.commit.__wrapped__() == head[:12]
    (checkout / "new.txt").write_text("untracked files are the user's own")
    assert provenance.commit.__wrapped__() == head[:12]
    (checkout / "conf" / "a.yaml").write_text("x: 2\n")
    assert provenance.commit.__wrapped__() == head[:12] + "+"


def test_outside_a_checkout_it_is_the_version(checkout, monkeypatch):
    monkeypatch.setattr(provenance, "CODE", checkout / "sap_core")  # installed inside a checkout of something else
    assert provenance.commit.__wrapped__().startswith("version ")
    shutil.rmtree(checkout / ".git")
    monkeypatch.setattr(provenance, "CODE", checkout)
    assert provenance.commit.__wrapped__().startswith("version ")


def test_an_installed_copy_has_no_commit_whatever_repository_it_lies_in(checkout, monkeypatch):
    monkeypatch.setattr(provenance, "IN_CHECKOUT", False)  # pip install --target in the root of the user's repository
    first = provenance.commit.__wrapped__()
    assert re.fullmatch(r"version \S+, code [0-9a-f]{12}", first)
    (checkout / "sap_core" / "a.py").write_text("x = 2\n")
    assert provenance.commit.__wrapped__() != first, "two builds of one version are told apart"


def test_git_variables_of_a_hook_do_not_name_another_repository(checkout, monkeypatch, tmp_path):
    head = provenance.commit.__wrapped__()
    other = tmp_path / "other"
    other.mkdir()
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run([*GIT, *words], cwd=other, check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert provenance.commit.__wrapped__() == head
    monkeypatch.setenv("GIT_WORK_TREE", str(checkout))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert provenance.commit.__wrapped__() == head


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")
def test_the_checkout_of_another_user_has_a_commit(checkout):
    head = provenance.commit.__wrapped__()
    for path in (checkout, checkout / ".git"):
        os.chown(path, 65534, 65534)
    assert provenance.commit.__wrapped__() == head


def test_without_git_or_when_it_hangs_it_is_the_version(checkout, monkeypatch):
    for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 20)):
        monkeypatch.setattr(provenance, "_git", lambda *words, error=error: (_ for _ in ()).throw(error))
        assert provenance.commit.__wrapped__().startswith("version ")


def test_the_fingerprint_is_of_code_and_configuration(checkout):
    first = provenance.code_fingerprint()
    (checkout / "conf" / "notes.txt").write_text("no code")
    (checkout / "analysis" / "a.py").write_text("tables change no plan")
    assert provenance.code_fingerprint() == first
    seen = {first}
    for change in (
        lambda: (checkout / "conf" / "a.yaml").write_text("x: 2\n"),
        lambda: (checkout / "conf" / "a.yaml").rename(checkout / "conf" / "b.yaml"),
    ):
        change()
        seen.add(provenance.code_fingerprint())
    assert len(seen) == 3


def test_a_file_under_the_same_name_shows_by_its_state(checkout):
    (checkout / "net.pth").write_bytes(b"one")
    before = provenance.file_state("net.pth")
    assert before == provenance.file_state(str(checkout / "net.pth"))
    (checkout / "net.pth").write_bytes(b"another")
    assert before != provenance.file_state("net.pth")
    assert provenance.file_state("gone.pth") is provenance.file_state(None) is provenance.file_state(3) is None

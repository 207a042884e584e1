"""Atomic writing of files."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from sap_core.command_line import report_error
from sap_core.errors import StorageError, WrongPath
from sap_core.files import load_json, replacing, save_json, save_text, sync


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def half_way(path):
    """Writes and fails."""
    with replacing(path) as temporary:
        temporary.write_text("ha")
        raise RuntimeError("half way")


def test_a_successful_block_leaves_only_the_file_in_its_folder(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert names(path.parent) == ["a.txt"]


def test_the_temporary_name_starts_with_a_dot_and_contains_host_and_process(tmp_path):
    with replacing(tmp_path / "rows.parquet") as temporary:
        temporary.touch()
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".rows.parquet.")
        assert socket.gethostname() in temporary.name
        assert str(os.getpid()) in temporary.name


def test_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="half way"):
        half_way(tmp_path / "a.txt")
    assert names(tmp_path) == []


def test_block_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    save_text(path, "old")
    with pytest.raises(RuntimeError):
        half_way(path)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("name", ["file/a.txt", "file/below/a.txt", "folder", f"{'x' * 300}.csv", "loop/a.txt"])
def test_a_path_that_cannot_be_a_file_is_a_mistake_of_the_command(name, tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(WrongPath, match="name another file or folder") as caught:
        save_text(tmp_path / name, "text")
    assert "disk space" not in str(caught.value)
    assert report_error(caught.value) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EFBIG, errno.ENOTCONN, errno.ETIMEDOUT])
def test_a_failing_disk_is_no_mistake_of_the_command(number, tmp_path):
    with pytest.raises(StorageError, match="free disk space") as caught, replacing(tmp_path / "a.txt"):
        raise OSError(number, os.strerror(number))
    assert report_error(caught.value) == report_error(OSError(number, os.strerror(number))) == 1


def test_block_that_writes_nothing_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(StorageError, match="No such file"), replacing(tmp_path / "a.txt"):
        pass
    assert names(tmp_path) == []


def test_json_reads_back(tmp_path):
    save_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert load_json(tmp_path / "a.json") == {"a": [1.5, None], "b": 1}
    save_json(tmp_path / "empty.json", {})
    assert load_json(tmp_path / "empty.json") == {}


def test_json_of_a_version_without_checksums_is_read(tmp_path):
    (tmp_path / "a.json").write_text('{"a": 1}')
    assert load_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, '{"a": "\udcff"}'])
def test_what_is_no_json_object_is_a_value_error(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=r"."):
        load_json(tmp_path / "a.json")


def test_a_path_that_cannot_be_written_is_a_storage_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file/a.txt"):
        save_text(tmp_path / "file" / "a.txt", "x")


def refuse(monkeypatch, number, name="fsync"):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, name, call)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EBADF])
def test_a_file_system_without_fsync_is_no_error(tmp_path, monkeypatch, number):
    refuse(monkeypatch, number)
    save_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").read_text() == "x"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fails_to_sync_is_an_error(tmp_path, monkeypatch, number):
    refuse(monkeypatch, number)
    with pytest.raises(StorageError, match="cannot write"):
        save_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_opened_is_not_synced(tmp_path, monkeypatch):
    (tmp_path / "a.txt").touch()
    refuse(monkeypatch, errno.EACCES, "open")
    sync(tmp_path)
    with pytest.raises(PermissionError):
        sync(tmp_path / "a.txt")


def test_text_is_utf_8_whatever_the_locale(tmp_path, monkeypatch):
    monkeypatch.setattr("locale.getpreferredencoding", lambda *_: "ascii")
    # A name that is not valid UTF-8, as Python reads it from a folder.
    save_text(tmp_path / "a.txt", "\u00b1 \udcff")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb1 \\udcff"

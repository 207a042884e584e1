"""Full or read-only disks: a one-line error, exit code 2, and finished jobs are kept."""

from __future__ import annotations

import errno
import os
import subprocess
from contextlib import contextmanager

import pytest
import torch
from safetensors import SafetensorError

from sap_core import checkpoint
from sap_core.errors import StorageError
from sap_core.files import save_text

WORDS = ("experiment=going_wrong", "methods=[goes_wrong@fine]", "backend.workers=1")


@contextmanager
def small_disk(folder, size):
    """A file system of `size` at `folder`; skips where none may be mounted."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk needs root: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def assert_one_sentence(end, *parts, code=1):
    assert end.code == code, end
    last = end.err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert all(part in last for part in parts), last
    assert "Traceback" not in end.err


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
def test_a_full_disk_keeps_finished_jobs_and_the_next_start_continues(bench, backend):
    words = (*WORDS, f"backend={backend}", f"paths.artifacts={bench.root / f'artifacts_{backend}'}")
    with small_disk(bench.root / backend, "160k") as disk:
        assert_one_sentence(bench.run(backend, *words), str(disk), "No space left", "all jobs finished so far are stored")
        store = bench.store(backend)
        kept = store.stamps()
        assert 0 < len(kept) < 7
        assert all(row["status"] == "ok" for row in store.rows())
        subprocess.run(["mount", "-o", "remount,size=10m", disk], check=True)
        assert bench.run(backend, *words).code == 0
        store.assert_whole()
        assert {name: store.stamps()[name] for name in kept} == kept
        store.wait_until_gone()


@pytest.mark.slow
def test_a_full_disk_of_artifacts_fails_no_job(bench):
    with small_disk(bench.root / "small", "4k") as disk:
        end = bench.run("full_artifacts", *WORDS, f"paths.artifacts={disk}")
        assert_one_sentence(end, str(disk), "No space left")
        assert not bench.store("full_artifacts").files()


@pytest.mark.slow
def test_a_read_only_disk_is_refused(bench):
    with small_disk(bench.root / "readonly", "1m") as disk:
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert_one_sentence(
            bench.run("readonly/sweep", *WORDS), f"the results folder {disk}/sweep cannot be written (Read-only file system)"
        )


@pytest.mark.slow
def test_a_results_folder_below_a_file_is_refused(bench):
    (bench.root / "file").write_text("")
    assert_one_sentence(bench.run("file/sweep", *WORDS), "cannot be written (Not a directory)", "paths.results", code=2)


def test_whatever_fails_while_a_file_is_written_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_in_rust(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write .*/text \(No space left on device\)"):
        save_text(tmp_path / "text", "content")
    monkeypatch.setattr(checkpoint, "save_file", full_in_rust)
    with pytest.raises(StorageError, match=r"cannot write .*/state \(.*No space left on device"):
        checkpoint.save_state(tmp_path / "state", {"tensor": torch.zeros(2)})
    assert list(tmp_path.iterdir()) == []

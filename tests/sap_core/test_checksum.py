"""Checksums within files: every damaged byte is noticed, in every format."""

from __future__ import annotations

import hashlib
import os
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from analysis.store.parquet import read_file
from sap_core.checkpoint import load_state, save_state
from sap_core.checksum import ZEROS, Checksum, checksum, checksum_of, footer_is_intact, is_intact, seal, stored_digest
from sap_core.errors import DamagedFile
from sap_core.files import load_json, load_text, save_json, save_yaml
from sap_core.records import Point
from sweeper.jobs.job import Job, write_jobs
from sweeper.store.store import write_records

JOB = Job("0123456789abcdef", "train", {"a": 1}, (), {"seed": 1})
WRITERS = {
    "0123456789abcdef.parquet": lambda path: write_records(path, [Point("0123456789abcdef", "r", "loss", 1, 0.5)], Point),
    "model.safetensors": lambda path: save_state(path, {"model": {"w": torch.ones(3)}, "networks": 0}),
    "meta.json": lambda path: save_json(path, {"columns": {"test_acc": 0.5}}),
    "jobs.jsonl": lambda path: write_jobs(path, [JOB]),
    "config.yaml": lambda path: save_yaml(path, "name: größer\n"),
}


@pytest.fixture(params=WRITERS)
def file(request, tmp_path):
    path = tmp_path / request.param
    WRITERS[request.param](path)
    return path


def test_a_written_file_is_intact_and_contains_its_digest(file):
    assert checksum(file) is Checksum.INTACT
    assert len(stored_digest(file)) == 32
    assert file.read_bytes().count(stored_digest(file).encode()) == 1


def test_equal_content_has_equal_bytes(file):
    before = file.read_bytes()
    WRITERS[file.name](file)
    assert file.read_bytes() == before


def test_every_flipped_bit_is_noticed(file):
    intact = file.read_bytes()
    for index in range(len(intact)):
        for bit in range(8):
            damaged = intact[:index] + bytes([intact[index] ^ 1 << bit]) + intact[index + 1 :]
            assert checksum_of(damaged, file) is Checksum.DAMAGED, (index, bit)


def test_every_truncation_and_every_inserted_or_lost_byte_is_noticed(file):
    intact = file.read_bytes()
    for index in range(len(intact)):
        for damaged in (intact[:index], intact[:index] + b"\0" + intact[index:], intact[:index] + intact[index + 1 :]):
            # What ends within its mark cannot be told from a file without a checksum, and is no file that a reader accepts.
            assert checksum_of(damaged, file) is Checksum.DAMAGED or len(damaged) < 50, index


@pytest.mark.parametrize("name", ["meta.json", "jobs.jsonl", "config.yaml"])
def test_a_text_file_without_its_first_or_last_lines_is_noticed(name, tmp_path):
    WRITERS[name](tmp_path / name)
    lines = (tmp_path / name).read_bytes().splitlines(keepends=True)
    for number in range(1, len(lines)):
        for kept in (lines[number:], lines[:-number], [*lines[: number - 1], *lines[number:]]):
            (tmp_path / name).write_bytes(b"".join(kept))
            with pytest.raises(ValueError):
                load_json(tmp_path / name) if name == "meta.json" else load_text(tmp_path / name)


def test_a_json_file_of_the_former_form_is_still_compared(tmp_path):
    path = tmp_path / "meta.json"
    path.write_text(f'{{\n "blake2b": "{ZEROS}",\n "a": 1\n}}\n')
    path.write_text(path.read_text().replace(ZEROS, hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()))
    assert checksum(path) is Checksum.INTACT
    assert load_json(path) == {"a": 1}
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    assert checksum(path) is Checksum.DAMAGED


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_not_read(make, tmp_path):
    for name in ("a.ok.parquet", "a.json", "a.safetensors"):
        make(tmp_path / name)
        with pytest.raises(OSError, match="no regular file"):
            checksum(tmp_path / name)
        assert not is_intact(tmp_path / name)
    with pytest.raises(OSError, match="no regular file"):
        read_file(tmp_path / "a.ok.parquet", Point)
    with pytest.raises(DamagedFile, match="no regular file"):
        load_state(tmp_path / "a.safetensors")


def test_a_file_under_another_jobs_name_is_noticed(tmp_path):
    for job_id in ("a", "b"):
        write_records(tmp_path / f"{job_id}.ok.parquet", [Point(job_id, "r", "loss", 1, 0.5)], Point)
    shutil.copy(tmp_path / "a.ok.parquet", tmp_path / "b.ok.parquet")
    assert checksum(tmp_path / "b.ok.parquet") is Checksum.DAMAGED


def test_files_without_a_checksum_are_told_from_damaged_ones(tmp_path):
    for name, content in (("a.json", '{\n "columns": {}\n}\n'), ("a.jsonl", '{"cells": []}\n'), ("a.yaml", "name: demo\n"), ("a.log", "x")):
        (tmp_path / name).write_text(content)
        assert checksum(tmp_path / name) is Checksum.ABSENT
    write_records(tmp_path / "new.parquet", [Point("new", "r", "loss", 1, 0.5)], Point)
    pq.write_table(pq.read_table(tmp_path / "new.parquet"), tmp_path / "old.parquet")
    assert checksum(tmp_path / "old.parquet") is Checksum.ABSENT
    assert footer_is_intact(tmp_path / "old.parquet")


def test_the_footer_of_a_parquet_file_is_verified_on_its_own(tmp_path):
    path = tmp_path / "a.parquet"
    write_records(path, [Point("a", "r", "loss", 1, 0.5)], Point)
    intact, footer = path.read_bytes(), len(path.read_bytes()) - 30
    assert footer_is_intact(path)
    path.write_bytes(intact[:footer] + bytes([intact[footer] ^ 1]) + intact[footer + 1 :])
    assert not footer_is_intact(path)


def test_an_answer_is_not_kept_for_a_file_that_changed(tmp_path):
    path = tmp_path / "meta.json"
    save_json(path, {"a": 1})
    assert is_intact(path)
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    assert not is_intact(path)
    path.unlink()
    assert not is_intact(path)


def test_a_file_without_a_place_for_a_digest_is_not_sealed(tmp_path):
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match="no place"):
        seal(tmp_path / "a.json", tmp_path / "a.json")


# Headers whose length, JSON and offsets are right, and whose content no state has.
@pytest.mark.parametrize(
    "plain", ['{"a": 1}', "[]", "3", "null", "[" * 100_000, '{"a": 1, "a\\u001fb": 2}', '{"w": 1}', '{"w\\u001fx": 1}', "{", '"x"']
)
def test_a_header_of_any_content_is_a_state_or_a_damaged_file(plain, tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"w": torch.ones(2)}, path, metadata={"plain": plain})
    if plain == '{"a": 1}':
        assert load_state(path)["a"] == 1
        return
    with pytest.raises(DamagedFile, match=r"model.safetensors is damaged") as caught:
        load_state(path)
    assert len(str(caught.value)) < 1000

"""Jobs are plain data, one JSON line each."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest

from sap_core.errors import DamagedFile, UserError
from sap_core.records import Row
from sweeper.jobs.job import Job, read_jobs, write_jobs
from sweeper.plan.bundle import is_bundle


def test_every_planned_job_survives_json(plan_of):
    for arguments in (
        ["experiment=demo"],
        ["experiment=demo", "cells=[{pruner: [none, uniform], keep_fraction: 0.3}]", "seeds=[1,2]", "methods=[sap]"],
    ):
        for job in plan_of(*arguments).plan.jobs:
            line = job.to_json()
            assert "\n" not in line
            assert Job.from_json(line) == job


def test_a_file_of_jobs(tmp_path, plan_of):
    jobs = plan_of("experiment=demo").plan.jobs
    write_jobs(tmp_path / "jobs.jsonl", jobs)
    assert list(read_jobs(tmp_path / "jobs.jsonl", ())) == list(jobs)


@pytest.mark.parametrize("line", [b"{", b"3", b"{}", b'{"job_id": "a", "runs": [], "parents": [], "colour": 1}', b"\xff\xfe\x00", b""])
def test_an_invalid_line_is_named(tmp_path, plan_of, line):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(plan_of("experiment=demo").plan.jobs[0].to_json().encode() + b"\n" + line + b"\n")
    with pytest.raises(UserError) as caught:
        list(read_jobs(path, ()))
    assert f"{path}, line 2, is not a job" in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl cannot be read \(No such file or directory\)"):
        list(read_jobs(tmp_path / "none.jsonl", ()))


def test_a_row_contains_the_columns_of_the_plan(plan_of):
    for job in plan_of("experiment=demo").plan.jobs:
        for run in job.runs:
            row = job.row(run, val_noisy_acc=0.5)
            assert isinstance(row, Row)
            assert (row.run_id, row.job_id, row.job_type, row.position) == (run.run_id, job.job_id, job.job_type, run.position)
            assert row.val_noisy_acc == 0.5
            assert json.loads(row.settings).keys() == run.settings.keys()
    assert {item.name for item in dataclasses.fields(Row)} >= set(job.labels)


def test_a_bundle_without_its_first_lines_is_not_read_as_jobs(tmp_path):
    path = tmp_path / "b.jsonl"
    path.write_text('{"planned": {}}\n')
    with pytest.raises(DamagedFile, match="is a bundle without its first lines"):
        list(read_jobs(path, None))


def test_a_pipe_is_no_job_file_and_no_bundle(tmp_path):
    os.mkfifo(tmp_path / "b.jsonl")
    assert not is_bundle(tmp_path / "b.jsonl")
    with pytest.raises(UserError, match="is no regular file"):
        list(read_jobs(tmp_path / "b.jsonl", None))

"""Shards of a file of jobs, for machines that share it."""

from __future__ import annotations

import pytest

from sap_core.errors import UserError
from sweeper.execute import main
from sweeper.scheduling.work_queue import shard_of


def jobs_of(plan_of):
    return list(
        plan_of("experiment=demo", "cells=[{pruner: [none, uniform], keep_fraction: 0.3}]", "seeds=[1,2,3,4,5]", "methods=[sap]").plan.jobs
    )


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8])
def test_shards_are_disjoint_complete_and_ordered_and_keep_chains_together(plan_of, parts):
    jobs = jobs_of(plan_of)
    dealt = [shard_of(jobs, f"{number}/{parts}") for number in range(1, parts + 1)]
    assert sorted(job.job_id for part in dealt for job in part) == sorted(job.job_id for job in jobs)
    for part in dealt:
        here = {job.job_id for job in part}
        assert all(set(job.parents) <= here for job in part)
        assert part == [job for job in jobs if job.job_id in here]
    sizes = [len({job.labels["seed"] for job in part}) for part in dealt]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("only", ["0/2", "3/2", "1", "a/b", "1/2/3", "-1/2", ""])
def test_an_invalid_shard_is_refused(make_job, only):
    with pytest.raises(UserError, match="is invalid; give N/M with 1 <= N <= M, as in --shard 1/4"):
        shard_of([make_job()], only)


def test_mistakes_end_with_exit_code_2_and_one_line(tmp_path, capsys):
    folders = [f"--{name}={tmp_path / name}" for name in ("data", "store", "artifacts")]
    assert main([str(tmp_path / "none.jsonl"), *folders]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: the job file {tmp_path}/none.jsonl cannot be read (No such file or directory); ")
    assert said.count("\n") == 1
    assert main(folders) == 2
    assert main(["none.jsonl", *folders, "--idle", "3"]) == 2  # no abbreviation of --idle-timeout
    said = capsys.readouterr().err
    assert said.count("error: ") == said.count("\n") == 2
    assert "unknown option '--idle' in python -m sweeper.execute (did you mean '--idle-timeout'?)" in said

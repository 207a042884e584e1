"""order=depth: all jobs of a seed, then the next seed, then the next cell."""

from __future__ import annotations

from pathlib import Path

from sweeper.jobs.job import artifact
from sweeper.scheduling.schedule import Schedule

NOWHERE = Path("nowhere")


def job_names(schedule):
    names = []
    while (job := schedule.next()) is not None:
        names.append(job.job_id)
        schedule.finish(job.job_id, ok=True)
    return names


def planned(make_job):
    """As a plan has them: seed by seed, and in a seed cell by cell."""
    jobs = []
    for seed in (7, 3):
        for number, cell in enumerate("AB"):
            jobs.append(make_job(f"{cell}{seed}", job_type="train", seed=seed, cells=(number,)))
            jobs += [make_job(f"{cell}{seed}.{k}", [f"{cell}{seed}"], seed=seed, cells=(number,)) for k in range(2)]
    return jobs


def test_a_cell_is_finished_before_the_next(make_job):
    wanted = [f"{cell}{seed}{end}" for cell in "AB" for seed in (7, 3) for end in ("", ".0", ".1")]
    assert job_names(Schedule.of(planned(make_job), {}, NOWHERE, "depth")) == wanted
    assert job_names(Schedule.of(planned(make_job), {}, NOWHERE, "cells")) != wanted


def test_stored_jobs_are_skipped(make_job, tmp_path):
    marker = artifact(tmp_path, "A7")
    marker.parent.mkdir()
    marker.write_text("{}")
    held = {"A7": "ok", "A7.1": "ok"}
    assert job_names(Schedule.of(planned(make_job), held, tmp_path, "depth"))[:3] == ["A7.0", "A3", "A3.0"]


def test_a_parent_of_two_cells_comes_with_the_first(make_job):
    jobs = [
        make_job("B", job_type="train", seed=1, cells=(1,)),
        make_job("shared", job_type="train", seed=1, cells=(1, 0)),
        make_job("A", ["shared"], seed=1, cells=(0,)),
    ]
    assert job_names(Schedule.of(jobs, {}, NOWHERE, "depth")) == ["shared", "A", "B"]

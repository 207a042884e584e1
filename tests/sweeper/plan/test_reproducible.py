"""Sweeps of `backend.reproducible=true` and results that were computed without it."""

from dataclasses import replace

import pytest

from sap_core.errors import UserError
from sap_core.instruction_sets import REPRODUCIBLE
from sweeper.jobs.job import SweepPaths, artifact
from sweeper.plan.build import compose
from sweeper.plan.reproducible import prepare_reproducible, refuse_other_artifacts
from sweeper.store.store import Store


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in REPRODUCIBLE:
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize("recorded", [False, None])
def test_a_store_is_not_mixed(make_job, tmp_path, recorded):
    store, job = Store(tmp_path), make_job()
    prepare_reproducible(store, workers_here=False)
    store.write_rows([replace(job.row(job.runs[0]), reproducible=True)])
    prepare_reproducible(store, workers_here=False)
    other = make_job("bb")
    store.write_rows([replace(other.row(other.runs[0]), reproducible=recorded)])
    with pytest.raises(UserError, match=r"1 rows of .* were computed without it, .* name=reproducible paths.artifacts="):
        prepare_reproducible(store, workers_here=False)


def test_artifacts_are_not_mixed(make_job, tmp_path):
    paths, job = SweepPaths(tmp_path, tmp_path, tmp_path), make_job(job_type="train")
    path = artifact(tmp_path, job.job_id)
    path.parent.mkdir()
    wanted = replace(job, reproducible=True)
    path.write_text('{"processor": {"cpu_capability": "x", "reproducible": true}}')
    refuse_other_artifacts([wanted], paths)
    for text in ('{"processor": {"cpu_capability": "x", "reproducible": false}}', "{}"):
        path.write_text(text)
        refuse_other_artifacts([job], paths)
        with pytest.raises(UserError, match=r"the train job aa in .* was computed without it; choose another folder"):
            refuse_other_artifacts([wanted], paths)


def test_gpus_are_refused():
    with pytest.raises(UserError, match=r"backend.reproducible=true holds for processors only"):
        compose(["experiment=demo", "backend.reproducible=true", "backend.device=cuda"])


def test_jobs_carry_it_and_ids_do_not(plan_of):
    arguments = ("experiment=demo", "methods=[sap]", "seeds=[1]")
    plain, wanted = (plan_of(*arguments, f"backend.reproducible={value}").plan.jobs for value in ("false", "true"))
    assert [job.job_id for job in plain] == [job.job_id for job in wanted]
    assert {job.reproducible for job in wanted} == {True}
    assert {job.reproducible for job in plain} == {False}

"""Search jobs on real data: rows, costs, successive halving on one trajectory, failures, stops."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.store.store import Store

SCORES = ("val_noisy_acc", "val_clean_acc", "test_acc", "mislabelled_given_acc", "retain_acc", "settings", "information", "num_retain")


def jobs_of(searched, **labels):
    return [job for job in searched.jobs if all(job.labels[key] == value for key, value in labels.items())]


def grid(searched, method="finetune"):
    rows = [row for job in jobs_of(searched, method=method, search=None) for row in searched.rows[job.job_id]]
    return {row.position: row for row in rows}


def test_every_planned_trial_is_a_row_and_no_other(searched):
    for job in searched.jobs:
        rows = searched.rows[job.job_id]
        assert [row.run_id for row in rows] == [run.run_id for run in job.runs]
        assert {row.status for row in rows} == {"ok"}
    row = searched.rows[jobs_of(searched, search="tpe", search_budget=4, search_seed=1)[0].job_id][3]
    assert (row.job_type, row.search, row.search_budget, row.search_seed, row.position) == ("search", "tpe", 4, 1, 3)
    plain = searched.rows[jobs_of(searched, method="sap", search=None)[0].job_id][0]
    assert (plain.search, plain.search_budget, plain.search_seed, plain.grid_position) == (None, None, None, None)


def test_a_setting_has_the_scores_that_it_has_in_the_grid(searched):
    compared = 0
    for job in searched.jobs:
        if job.job_type == "search":
            whole = grid(searched, job.labels["method"])
            for row in searched.rows[job.job_id]:
                assert [getattr(row, name) for name in SCORES] == [getattr(whole[row.grid_position], name) for name in SCORES]
                compared += 1
    assert compared == 4 * (4 + 9) + 2 * 5 + 2


@pytest.mark.parametrize("name", ["random", "tpe"])
def test_settings_are_drawn_without_replacement(searched, name):
    for job in jobs_of(searched, search=name, method="finetune"):
        places = [row.grid_position for row in searched.rows[job.job_id]]
        assert len(set(places)) == len(places)
        if job.labels["search_budget"] == 9:
            assert sorted(places) == list(range(9))
    first, second = jobs_of(searched, search=name, search_budget=9, method="finetune")
    assert [row.settings for row in searched.rows[first.job_id]] != [row.settings for row in searched.rows[second.job_id]]


def test_trials_cost_what_they_would_cost_alone(searched):
    for job in jobs_of(searched, search="random", search_budget=9):
        for row in searched.rows[job.job_id]:
            epochs = json.loads(row.settings)["epochs"]
            assert (row.sample_forwards, row.sample_backwards) == (60 * epochs + 300, 60 * epochs)
            assert row.tuning_seconds == pytest.approx(row.correct_seconds + row.evaluate_seconds)


def test_halving_trains_nothing_twice(searched):
    """Rungs of 3, 1 and 1 configurations at 1, 2 and 4 epochs; a piece of work is divided among the levels that used it."""
    for job in jobs_of(searched, search="successive_halving"):
        rows = searched.rows[job.job_id]
        settings = [json.loads(row.settings) for row in rows]
        assert [setting["epochs"] for setting in settings] == [1, 1, 1, 2, 4]
        assert len({setting["learning_rate"] for setting in settings[:3]}) == 3
        assert settings[3]["learning_rate"] == settings[4]["learning_rate"]
        assert sum(row.sample_backwards for row in rows) == 60 * (2 * 1 + 4)
        best = max(rows[:3], key=lambda row: (row.val_noisy_acc, -row.grid_position))
        assert json.loads(best.settings)["learning_rate"] == settings[3]["learning_rate"]
        alone = next(row for row in rows if json.loads(row.settings)["epochs"] == 4)
        assert alone.sample_backwards == pytest.approx(60 * (1 / 3 + 1 / 2 + 2))


def test_a_stopped_search_starts_over_with_the_same_results(searched, tmp_path):
    job = jobs_of(searched, search="tpe", search_budget=9, search_seed=0)[0]
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 4

    folders = replace(searched.folders, store=tmp_path)
    assert execute(job, folders, stop=stop).status == "stopped"
    assert not Store(tmp_path).is_done(job.job_id)
    assert execute(job, folders).status == "ok"
    again = Store(tmp_path).read_rows(job.job_id)
    assert [(row.run_id, row.settings, row.test_acc) for row in again] == [
        (row.run_id, row.settings, row.test_acc) for row in searched.rows[job.job_id]
    ]


@pytest.mark.slow
def test_failed_settings_are_rows_and_the_search_goes_on(plan_of, tmp_path, monkeypatch):
    end_to_end = Path(__file__).parents[2] / "end_to_end"
    monkeypatch.syspath_prepend(str(end_to_end / "plugins"))
    space = '+method.goes_wrong.spaces.ways={how: {choice: [well, raises, "nan", memory]}, shrink: {grid: [0.999, 0.99]}}'
    words = ("experiment=going_wrong", "methods=[goes_wrong@ways]", space, "search=tpe", "search.budget=8")
    plan = plan_of("--config-dir", str(end_to_end / "yaml"), *words).plan
    folders = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
    results = [execute(job, folders) for job in plan.jobs]
    assert [result.status for result in results] == ["ok", "failed"], "an error that is no divergence is tried again at the next start"
    rows = Store(folders.store).read_rows(plan.jobs[1].job_id)
    assert sorted(row.grid_position for row in rows) == list(range(8))
    kinds = {json.loads(row.settings)["how"]: (row.status, row.error_type) for row in rows}
    assert kinds == {"well": ("ok", None), "raises": ("failed", "error"), "nan": ("failed", "diverged"), "memory": ("failed", "oom")}
    assert all((row.val_noisy_acc is None) == (row.status == "failed") for row in rows)

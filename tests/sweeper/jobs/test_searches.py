"""Searches in which every setting failed: found in a store, and said at the end of a sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.__main__ import main as report
from sweeper.__main__ import main as sap_sweep
from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.jobs.save_best import save_best
from sweeper.jobs.searches import RECORD, failed_searches
from sweeper.store.store import Store

END_TO_END = Path(__file__).parents[2] / "end_to_end"
DEAD = '+method.goes_wrong.spaces.dead={how: {grid: ["nan", raises]}, shrink: {grid: [0.9, 0.8]}}'
SAMPLED = '+method.goes_wrong.spaces.dead={how: {choice: ["nan"]}, shrink: {choice: [0.9, 0.8, 0.7]}}'


@pytest.fixture
def run_all(plan_of, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(END_TO_END / "plugins"))

    def run(*words):
        plan = plan_of("--config-dir", str(END_TO_END / "yaml"), "experiment=going_wrong", *words).plan
        paths = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
        for job in plan.jobs:
            execute(job, paths)
        return plan, paths

    return run


def test_only_searches_without_a_result_are_failures(run_all, capsys):
    plan, paths = run_all("methods=[goes_wrong@dead,goes_wrong@diverging,goes_wrong@fine]", DEAD)
    store = Store(paths.store)
    (found,) = failed_searches(plan.jobs, store)
    assert found.startswith("goes_wrong@dead on ")
    assert found.endswith(" (seed 1): every setting failed (2 diverged, 2 error)")
    # Recorded: the jobs are not asked again until a status changes.
    assert failed_searches(iter(()), store) == [found]
    assert json.loads((paths.store / RECORD).read_text())["failed"] == [found]
    # The networks of the others are stored, and the exit code tells of the failure.
    capsys.readouterr()
    assert save_best(plan.jobs, paths, "cpu") == 1
    said = capsys.readouterr().err
    assert "goes_wrong@dead" in said
    assert "every setting failed (2 diverged, 2 error), so there is no corrected network" in said
    assert len([line for line in said.splitlines() if "goes_wrong@dead" in line]) == 1


@pytest.mark.slow
def test_one_seed_of_several_is_named(run_all):
    plan, paths = run_all("methods=[goes_wrong@dead]", DEAD, "seeds=[1,2]")
    assert [sentence.split("(")[1] for sentence in failed_searches(plan.jobs, Store(paths.store))] == [
        "seed 1): every setting failed ",
        "seed 2): every setting failed ",
    ]


def test_a_search_that_has_not_ended_is_no_failure(run_all):
    plan, paths = run_all("methods=[goes_wrong@dead]", DEAD)
    for path in (paths.store / "rows").glob(f"{plan.jobs[-1].job_id}.*"):
        path.unlink()
    assert failed_searches(plan.jobs, Store(paths.store)) == []


@pytest.mark.slow
@pytest.mark.parametrize("search", ["random", "tpe"])
def test_sampled_searches_fail_too(run_all, search):
    plan, paths = run_all("methods=[goes_wrong@dead]", SAMPLED, f"search={search}", "search.budget=3")
    (found,) = failed_searches(plan.jobs, Store(paths.store))
    assert f"goes_wrong@dead-{search}-3-0 on " in found
    assert "every setting failed (3 diverged)" in found


@pytest.mark.slow
def test_the_command_ends_with_exit_code_1_and_says_so(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(END_TO_END / "plugins"))
    monkeypatch.syspath_prepend(str(END_TO_END / "plugins"))
    words = [
        "--config-dir", str(END_TO_END / "yaml"), "experiment=going_wrong", "methods=[goes_wrong@dead]",
        DEAD.replace(', raises', ""), "backend=local", "backend.workers=1", f"paths.results={tmp_path / 'store'}",
        f"paths.artifacts={tmp_path / 'artifacts'}",
    ]  # fmt: skip
    for more in ([], [], ["save_corrected=best"]):
        capfd.readouterr()
        assert sap_sweep([*words, *more]) == 1
        printed = capfd.readouterr()
        assert "1 search failed: none of its settings gave a result" in printed.err.splitlines()[-1]
        assert "every setting failed (2 diverged)" in printed.err
        assert "better than the unmodified" not in printed.out + printed.err
    for table in (["table", "recommendation"], []):
        assert report([str(tmp_path / "store"), *table]) == 0
        text = capfd.readouterr().out
        assert "every setting failed (2 diverged)" in " ".join(text.replace("│", " ").split())
        assert "no setting is better" not in text

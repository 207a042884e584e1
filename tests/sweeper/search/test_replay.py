"""Replays against the exact expectation, against live searches, and as a command."""

from __future__ import annotations

import json

import numpy as np
import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.tables.comparison import comparison
from analysis.tables.render import terminal
from analysis.tables.search import search
from analysis.tuning.best_of_k import expected_test_scores, rank_settings
from sweeper.__main__ import main
from sweeper.config.schema import SearchConfig
from sweeper.config.search_space import SearchSpace
from sweeper.monitor.report import report
from sweeper.search.encoding import SettingSpace
from sweeper.search.replay import FinishedGrid, finished_grids, replay, replay_budgets, trial_indices

SETTINGS = SettingSpace(SearchSpace.parse("s", {"a": {"grid": list(range(6))}, "epochs": {"grid": [1, 2, 4, 8]}}).domains)
SPACE = {"learning_rate": {"grid": [1.0e-3, 1.0e-2, 5.0e-2]}, "epochs": {"grid": [1, 2, 4]}}


def made(seed=0):
    """24 settings with ties, failures and some that do not beat the unmodified model."""
    draws = np.random.default_rng(seed)
    scores = draws.integers(0, 8, 24).astype(float)
    scores[[3, 17]] = np.nan
    return FinishedGrid(1, "base", SETTINGS, scores, draws.random(24), 2.0, 0.5)


def test_random_replays_agree_with_the_exact_expectation():
    grid, choice = made(), SearchConfig("random", budget=24)
    assert replay_budgets(choice, grid) == [1, 2, 4, 8, 16, 24]
    budgets = list(range(1, 25))
    found = np.concatenate(list(replay(grid, choice, None, range(2500), budgets)))
    assert found.shape == (2500, 24)
    exact = expected_test_scores(rank_settings(grid.unmodified, grid.unmodified_test, grid.scores, grid.tests))
    errors = np.abs(found.mean(0) - exact) / np.maximum(found.std(0) / 50, 1e-9)
    assert errors[:-1].max() < 4.5
    assert found[:, -1] == pytest.approx(exact[-1])
    assert grid.best == pytest.approx(exact[-1])


def test_all_at_once_is_one_by_one():
    grid, choice = made(), SearchConfig("random", budget=5)
    rank, test = grid.ranks()
    found = np.concatenate(list(replay(grid, choice, None, range(1200), [5])))
    for seed in (0, 7, 1150):
        places = trial_indices(grid, {"seed": seed, "sampler": None, "resource": None, "rungs": [5]})
        assert found[seed, 0] == test[rank[places].max()]


def test_halving_is_replayed_for_each_budget():
    grid, choice = made(), SearchConfig("successive_halving", budget=10, resource="epochs", eta=2)
    assert replay_budgets(choice, grid) == [4, 8, 10]
    found = np.concatenate(list(replay(grid, choice, None, range(5), [4, 8, 10])))
    assert found.shape == (5, 3)
    places = trial_indices(grid, {"seed": 0, "sampler": None, "resource": "epochs", "rungs": [4, 2, 1, 1]})
    assert [SETTINGS.at(place)["epochs"] for place in places] == [1, 1, 1, 1, 2, 2, 4, 8]
    assert len({SETTINGS.at(place)["a"] for place in places[:4]}) == 4


def test_a_live_search_tries_what_its_replay_tries(searched):
    (cell,) = cells(load([searched.store.root]))
    (grid,) = finished_grids(cell, "finetune", "grid", SPACE)
    compared = 0
    for job in searched.jobs:
        if job.job_type == "search" and job.labels["method"] == "finetune":
            assert trial_indices(grid, job.spec["search"]) == [row.grid_position for row in searched.rows[job.job_id]]
            compared += 1
    assert compared == 10


def test_the_table_of_searches(searched):
    results = load([searched.store.root])
    (table,) = search(results)
    keys = [column.key for column in table.columns]
    lines = [dict(zip(keys, row, strict=True)) for row in table.rows]
    assert [(line["method"].text, line["budget"].value, line["searches"].value) for line in lines] == [
        ("Finetune (grid)", 9, 1), ("Finetune (grid), random 4", 4, 2), ("Finetune (grid), random 9", 9, 2),
        ("Finetune (grid), tpe 4", 4, 2), ("Finetune (grid), tpe 9", 9, 2), ("Finetune (grid), successive_halving 6", 6, 2),
        ("SAP (alpha16)", 3, 1), ("SAP (alpha16), random 2", 2, 1),
    ]  # fmt: skip
    whole = lines[0]
    for line in (lines[2], lines[4]):
        assert line["test_percent"].value == line["test_10_percent"].value == pytest.approx(whole["test_percent"].value)
        assert line["below_grid_points"].value == pytest.approx(0)
    assert (lines[5]["trials"].value, lines[5]["distinct_trials"].value) == (5, 5)
    assert any("selects the same setting as the grid" in note for note in table.notes)
    (main_table,) = comparison(results)
    assert [row[0].text for row in main_table.rows] == ["Vanilla", "Finetune (grid)", "SAP (alpha16)"]


def test_sweeps_print_the_table_by_sap_report(searched, tmp_path, monkeypatch):
    (table,) = search(load([searched.store.root]))
    monkeypatch.setenv("COLUMNS", "100")
    assert report(searched.store.root, "table", "search") == terminal(table, 100) + "\n", "as wide as the terminal"
    assert report(tmp_path, "table", "search") == "", "not a store"


def test_the_command_prints_and_writes(searched, tmp_path, capsys):
    store = str(searched.store.root)
    assert main(["replay", store, "search=random", "--repeats", "50", "-o", f"{tmp_path}/r.json"]) == 0
    said = capsys.readouterr().out
    assert "random replayed on the complete grid of Finetune (grid) (9 settings)" in said
    assert "The complete grid of SAP (alpha16), 3 settings, selects" in said
    lines = json.loads((tmp_path / "r.json").read_text())
    assert "…" not in said, "no header and no number is cut"
    assert "Test: accuracy (%) of the selected setting; regret (points)" in said
    heads = said.splitlines()[2:5]
    assert [line.split() for line in heads if line.strip()] == [
        ["test"] * 3 + ["regret"] * 3, ["Baseline", "Trials", *("mean", "10", "%", "90", "%") * 2],
    ]  # fmt: skip
    assert {line["budget"] for line in lines} == {1, 2, 4, 8, 9}
    assert all(line["regret_mean"] == pytest.approx(0) for line in lines if line["budget"] == 9)
    assert {(line["seed"], line["repeats"]) for line in lines} == {(1, 50), (None, 50)}
    assert (
        main(
            ["replay", store, "search=successive_halving", "search.budget=6", "repeats=3", "method=finetune@grid", f"out={tmp_path}/r.csv"]
        )
        == 0
    )
    assert (tmp_path / "r.csv").read_text().startswith("cell,baseline,budget,test_mean")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search=grid"], "replay needs a search other than the grid"),
        (["search=random", "repeats=many"], "--repeats many is not an integer"),
        (["search=random", "repeats=3", "--repeats", "4"], "repeats= and --repeats are the same; give --repeats alone"),
        (["search=random", "repeats=0"], "replay.repeats=0 is too small"),
        (["search=random", "method=scrub"], "unknown method 'scrub' in replay"),
        (["search=successive_halving", "method=sap"], "of which the grid of SAP (alpha16) does not list two values"),
        (["search=random", "seeds=[1]"], "unknown key 'seeds' in sap-sweep replay"),
        (["search=random", "out=r.txt"], "must end in .csv or .json"),
    ],
)
def test_mistakes_are_one_sentence(searched, words, said, capsys):
    assert main(["replay", str(searched.store.root), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_gaps_are_counted_and_refused(searched, tmp_path, capsys):
    import shutil

    shutil.copytree(searched.store.root, tmp_path / "store")
    job = next(job for job in searched.jobs if job.job_type == "tune" and job.labels["method"] == "finetune")
    (tmp_path / "store/rows" / f"{job.job_id}.ok.parquet").unlink()
    assert main(["replay", str(tmp_path / "store"), "search=random"]) == 2
    assert "the grid of Finetune (grid) is incomplete: 3 of 9 settings have no row" in capsys.readouterr().err

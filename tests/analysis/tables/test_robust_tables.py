"""Tables of trainers, of pruning, and of what correction adds to each way of training."""

from __future__ import annotations

import pytest

from analysis.reports.report import main_tables, write_all
from analysis.store.load import load
from analysis.tables.prl import prl
from analysis.tables.prune4rel import prune4rel
from analysis.tables.robust import robust
from sap_core.errors import UserError


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def baseline(maker, trainer, seed, test, **fields):
    rows = {"trainer": trainer, **fields}
    maker.baseline(seed, 0.6, 0.7, test, run_id=f"{trainer}-{seed}-{'-'.join(map(str, fields.values()))}", cell=f"{rows}", **rows)


def test_trainers_by_noise(maker):
    for seed in (1, 2):
        for trainer, shift in (("sgd", 0.0), ("prl_l", 0.1), ("co_prl_l", 0.05)):
            baseline(maker, trainer, seed, 0.5 + shift + 0.02 * seed, noise="pairflip", noise_rate=0.45)
            if trainer != "co_prl_l":
                baseline(maker, trainer, seed, 0.7 - shift, noise="symmetric", noise_rate=0.3)
    baseline(maker, "co_prl_l", 1, 0.9, noise="symmetric", noise_rate=0.3)
    (table,) = prl(load([maker.write()]))
    assert [column.head for column in table.columns] == ["Trainer", "pairflip-0.45", "symmetric-0.3"]
    assert texts(table) == [
        ["sgd", "53.00 ± 1.41", "70.00 ± 0.00"],
        ["prl_l", "63.00 ± 1.41", "60.00 ± 0.00"],
        ["co_prl_l", "58.00 ± 1.41", "90.00"],
    ]
    assert [row[1].rank for row in table.rows] == [0, 1, 2]
    assert [row[2].rank for row in table.rows] == [1, 2, 0], "what lacks a seed is not ranked"
    assert "Fewer seeds" in table.notes[0]


@pytest.fixture
def pruned(maker):
    for seed in (1, 2):
        baseline(maker, "sop_plus", seed, 0.2, stage="warmup")
        baseline(maker, "sgd", seed, 0.6)
        for trainer, better in (("sgd", 0.0), ("sop_plus", 0.1)):
            for pruner, wrong in (("uniform", 0.25), ("prune4rel", 0.05)):
                for keep in (0.5, 0.2):
                    fields = {"pruner": pruner, "keep_fraction": keep, "warmup_trainer": "sop_plus", "kept_noise_rate": wrong}
                    baseline(maker, trainer, seed, 0.3 + better + keep / 10 - wrong / 10 + 0.01 * seed, **fields)
    return maker


def test_selections_by_share_and_trainer(pruned):
    results = load([pruned.write()])
    (table,) = prune4rel(results)
    assert [column.head for column in table.columns] == ["Selector", "Trainer", "20%", "50%", "20%", "50%"]
    assert texts(table) == [
        ["all samples", "sgd", "60.00 ± 0.00", "60.00 ± 0.00", "24.9 ± 0.0", "24.9 ± 0.0"],
        ["uniform", "sgd", "31.00 ± 0.71", "34.00 ± 0.71", "25.0 ± 0.0", "25.0 ± 0.0"],
        ["prune4rel", "sgd", "33.00 ± 0.71", "36.00 ± 0.71", "5.0 ± 0.0", "5.0 ± 0.0"],
        ["uniform", "sop_plus", "41.00 ± 0.71", "44.00 ± 0.71", "25.0 ± 0.0", "25.0 ± 0.0"],
        ["prune4rel", "sop_plus", "43.00 ± 0.71", "46.00 ± 0.71", "5.0 ± 0.0", "5.0 ± 0.0"],
    ]
    assert table.rules == {3}
    assert [row[2].rank for row in table.rows] == [0, 2, 1, 2, 1]
    assert prl(results) == (), "one trainer on everything is no comparison; a warm-up is no trainer"
    assert [shown.name for shown in main_tables(results)] == ["prune4rel"]


def test_the_report_has_every_form(pruned, tmp_path):
    names = {path.name for path in write_all(load([pruned.write()]), tmp_path)}
    assert {"prune4rel.tex", "prune4rel.md", "prune4rel.csv"} <= names


def test_ways_of_training_and_correction_after_each(small):
    """The conftest's store has one way of training; a second one comes beside it."""
    results = load([small.write()])
    assert robust(results) == ()
    cell = "digits/symmetric-0.25/small_cnn/sop"
    for seed in (1, 2):
        base = small.baseline(seed, 0.6, 0.7, 0.84, run_id=f"sop-{seed}", cell=cell, trainer="sop")
        for place, test in enumerate((0.85, 0.86)):
            small.add(
                f"sop-sap-{seed}-{place}", job_type="tune", method="sap", space="alpha16", seed=seed, baseline_id=base, position=place,
                settings={"alpha": float(place)}, cell=cell, trainer="sop", val_noisy_acc=0.65 + 0.01 * place, test_acc=test,
            )  # fmt: skip
    (table,) = robust(load([small.write()]))
    assert table.cell == "digits/symmetric-0.25/small_cnn"
    found = {row[0]: row[1:] for row in texts(table)}
    assert found["sop"][:3] == ["84.00 ± 0.00", "86.00 ± 0.00", "+2.00 ± 0.00"]
    assert set(found) == {"sgd", "sop"}


def test_smoke_runs_are_refused(maker):
    baseline(maker, "sgd", 1, 0.5, debug="smoke")
    results = load([maker.write()])
    for build in (prl, prune4rel):
        with pytest.raises(UserError, match="debug=smoke"):
            build(results)

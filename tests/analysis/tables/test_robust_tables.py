"""Tests of the described tables `prl`, `prune4rel` and `robust`."""

from __future__ import annotations

import pytest

from analysis.reports.report import main_tables, make_tables, names_of, write_tables
from analysis.store.labels import MISSING
from analysis.store.load import load
from sap_core.errors import UserError


def texts(table):
    return [[cell.text for cell in row] for row in table.rows]


def baseline(maker, trainer, seed, test, **fields):
    rows = {"trainer": trainer, **fields}
    maker.baseline(seed, 0.6, 0.7, test, run_id=f"{trainer}-{seed}-{'-'.join(map(str, fields.values()))}", cell=f"{rows}", **rows)


@pytest.fixture
def trained(maker):
    """Three trainers under two kinds of noise; one of them lacks a seed under one."""
    for seed in (1, 2):
        for trainer, shift in (("sgd", 0.0), ("prl_l", 0.1), ("co_prl_l", 0.05)):
            baseline(maker, trainer, seed, 0.5 + shift + 0.02 * seed, noise="pairflip", noise_rate=0.45)
            if trainer != "co_prl_l":
                baseline(maker, trainer, seed, 0.7 - shift, noise="symmetric", noise_rate=0.3)
    baseline(maker, "co_prl_l", 1, 0.9, noise="symmetric", noise_rate=0.3)
    return maker


def test_trainers_by_noise(trained):
    (table,) = make_tables(load([trained.write()]), "prl")
    assert [(column.group, column.head) for column in table.columns] == [("", "Trainer"), ("pair-flip", "45 %"), ("symmetric", "30 %")]
    assert texts(table) == [
        ["SGD", "53.00 ± 1.41", "70.00 ± 0.00"],
        ["PRL(L)", "63.00 ± 1.41", "60.00 ± 0.00"],
        ["Co-PRL(L)", "58.00 ± 1.41", "90.00"],
    ]
    assert [row[1].rank for row in table.rows] == [0, 1, 2]
    assert [row[2].rank for row in table.rows] == [1, 2, 0], "an entry with fewer seeds is not ranked"
    assert "‡ Incomplete, not ranked: 1 of 6 entries, with fewer seeds than others of their column." in table.caption


def test_uncorrected_networks_are_shown_in_a_store_with_corrected_ones(trained):
    (before,) = make_tables(load([trained.write()]), "prl")
    cell = "other/symmetric-0.25/small_cnn/sgd"
    trained.baseline(7, 0.6, 0.7, 0.7, run_id="base-7", cell=cell, dataset="other")
    trained.search("sap", "alpha16", 7, [{"alpha": 1.0}], [(0.7, 0.8, 0.8)], cell=cell, dataset="other")
    (after,) = make_tables(load([trained.write()]), "prl")
    assert texts(after) == texts(before)


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
    (table,) = make_tables(results, "prune4rel")
    assert [(column.group, column.head) for column in table.columns[1:]] == [
        ("Test accuracy (%)", "SGD"), ("Test accuracy (%)", "SOP+"), ("Mislabelled (%)", "SGD"), ("Mislabelled (%)", "SOP+"),
    ]  # fmt: skip
    assert table.titles == {0: "20 % kept", 3: "50 % kept"}
    assert texts(table) == [
        ["all samples", "60.00 ± 0.00", MISSING, "24.9 ± 0.0", MISSING],
        ["Uniform", "31.00 ± 0.71", "41.00 ± 0.71", "25.0 ± 0.0", "25.0 ± 0.0"],
        ["Prune4ReL", "33.00 ± 0.71", "43.00 ± 0.71", "5.0 ± 0.0", "5.0 ± 0.0"],
        ["all samples", "60.00 ± 0.00", MISSING, "24.9 ± 0.0", MISSING],
        ["Uniform", "34.00 ± 0.71", "44.00 ± 0.71", "25.0 ± 0.0", "25.0 ± 0.0"],
        ["Prune4ReL", "36.00 ± 0.71", "46.00 ± 0.71", "5.0 ± 0.0", "5.0 ± 0.0"],
    ]  # fmt: skip
    assert [row[1].rank for row in table.rows] == [0, 2, 1, 0, 2, 1]
    assert "selected by SOP+" in table.caption
    assert make_tables(results, "prl") == (), "a single trainer on all samples is no comparison, and warm-up networks are left out"
    assert [shown.name for shown in main_tables(results)] == ["prune4rel"]


def test_the_report_has_every_form(pruned, tmp_path):
    results = load([pruned.write()])
    names = {path.name for name in names_of(results) for path in write_tables(results, name, tmp_path)}
    assert {"prune4rel.tex", "prune4rel.md", "prune4rel.csv"} <= names


def test_trainers_before_and_after_correction(small):
    """The store of conftest has one trainer; the test adds a second one."""
    results = load([small.write()])
    assert make_tables(results, "robust") == ()
    cell = "digits/symmetric-0.25/small_cnn/sop"
    for seed in (1, 2):
        base = small.baseline(seed, 0.6, 0.7, 0.84, run_id=f"sop-{seed}", cell=cell, trainer="sop")
        for n, test in enumerate((0.85, 0.86)):
            small.add(
                f"sop-sap-{seed}-{n}", job_type="tune", method="sap", space="alpha16", seed=seed, baseline_id=base, position=n,
                settings={"alpha": float(n)}, cell=cell, trainer="sop", val_noisy_acc=0.65 + 0.01 * n, test_acc=test,
            )  # fmt: skip
    (table,) = make_tables(load([small.write()]), "robust")
    assert table.cell == "Digits, symmetric, 25 %, small CNN"
    keys = [column.key for column in table.columns]
    found = {row[0].text: dict(zip(keys, (cell.text for cell in row), strict=True)) for row in table.rows}
    assert found["SOP"]["test_vanilla_percent"] == "84.00 ± 0.00"
    assert found["SOP"]["test_sap_alpha16_percent"] == "86.00 ± 0.00"
    assert found["SOP"]["gain_sap_alpha16_points"] == "+2.00 ± 0.00"
    assert set(found) == {"SGD", "SOP"}


def test_smoke_runs_are_refused(maker):
    baseline(maker, "sgd", 1, 0.5, debug="smoke")
    results = load([maker.write()])
    for name in ("prl", "prune4rel"):
        with pytest.raises(UserError, match="debug=smoke"):
            make_tables(results, name)

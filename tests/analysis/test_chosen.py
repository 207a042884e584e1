"""What was chosen, from stores scored in full and from races, and that no other table takes a race."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis import report
from analysis.__main__ import main
from analysis.cells import cells, searched
from analysis.load import load
from analysis.tables.chosen import chosen
from sap_core.errors import UserError


def as_race(maker, rule="val_noisy"):
    """Turns a hand-made store into what a race leaves: 0.64 beats the baseline's 0.60, so of SAP's settings the second finished and won."""
    maker.plan = [replace(line, evaluation="race", race_rule=rule) if line.kind == "tune" else line for line in maker.plan]
    maker.rows = [_raced(row, rule) if row.kind == "tune" else row for row in maker.rows]
    return maker


def _raced(row, rule):
    row = replace(row, evaluation="race", race_rule=rule)
    if row.status == "failed":
        return row
    won = row.run_id.startswith("sap-alpha16-1-1")
    nothing = {"val_noisy_acc": None, "val_clean_acc": None, "test_acc": None, "wrong_given_acc": None, "wrong_true_acc": None}
    kept = {"val_noisy_acc": row.val_noisy_acc, "test_acc": row.test_acc, "images_evaluated": 300} if won else {"images_evaluated": 60}
    return replace(row, **{**nothing, **kept})


def shown(table):
    return [{column.key: cell.text for column, cell in zip(table.columns, row, strict=True)} for row in table.rows]


def test_a_race_is_read_by_its_rule(small):
    (table,) = chosen(load([as_race(small).write()]))
    rows = {(row["method"], row["seed"]): row for row in shown(table)}
    assert rows["SAP (alpha16)", "1"] == {
        "method": "SAP (alpha16)", "seed": "1", "chosen": "alpha=10000", "rule": "val_noisy", "validation_percent": "64.00",
        "test_percent": "80.00", "evaluation": "race", "images_percent": "46.7",
    }  # fmt: skip
    assert rows["SAP (alpha16)", "2"] == {
        "method": "SAP (alpha16)", "seed": "2", "chosen": "unmodified", "rule": "val_noisy", "validation_percent": "60.00",
        "test_percent": "76.00", "evaluation": "race", "images_percent": "20.0",
    }  # fmt: skip
    assert rows["SCRUB (grid_a)", "1"]["images_percent"] == "20.0", "of the setting that did not diverge"


def test_a_full_store_has_the_same_table(small):
    (table,) = chosen(load([small.write()]))
    rows = {(row["method"], row["seed"]): row for row in shown(table)}
    assert rows["SAP (alpha16)", "2"] == {
        "method": "SAP (alpha16)", "seed": "2", "chosen": "alpha=10000", "rule": "val_noisy", "validation_percent": "64.00",
        "test_percent": "82.00", "evaluation": "full", "images_percent": "100.0",
    }  # fmt: skip
    assert rows["SCRUB (grid_a)", "1"]["chosen"] == "lr=0.01"
    assert rows["Retrain", "1"]["chosen"] == "the only setting"


def test_another_rule_than_the_races_chooses_nothing(small):
    (cell,) = searched(load([as_race(small, "val_clean_part").write()]))
    choice = cell.methods["sap", "alpha16"][0].choose("val_noisy")
    assert choice.row is None
    assert choice.problem == "its settings were raced under val_clean_part, which says nothing of val_noisy"


@pytest.mark.parametrize(
    "words", [["table", "comparison"], ["table", "trusted_size"], ["cost"], ["plot", "tuning_cost"], ["plot", "trusted_size"]]
)
def test_no_other_table_or_plot_takes_a_race(small, capsys, words):
    assert main([str(as_race(small).write()), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the store's settings were raced (evaluation=race)")
    assert said.count("\n") == 1


def test_a_races_report_is_its_choices(small, capsys):
    store = as_race(small).write()
    assert main([str(store)]) == 0
    assert sorted(path.name for path in (store / "report").iterdir()) == ["chosen.csv", "chosen.md", "chosen.tex"]
    assert "alpha=10000" in capsys.readouterr().out
    assert main([str(store), "status"]) == 0


def test_a_race_and_a_full_search_stay_apart(small, tmp_path):
    full = load([small.write()])
    small.path = tmp_path / "race"
    as_race(small)
    small.plan = [replace(line, run_id=f"race-{line.run_id}") if line.kind == "tune" else line for line in small.plan]
    small.rows = [replace(row, run_id=f"race-{row.run_id}") if row.kind == "tune" else row for row in small.rows]
    both = load([full.stores[0], small.write()])
    (table,) = chosen(both)
    sap = [row["evaluation"] for row in shown(table) if row["method"] == "SAP (alpha16)"]
    assert sorted(sap) == ["full", "full", "race", "race"]
    with pytest.raises(UserError, match="raced"):
        cells(both)
    assert [table.name for table in report.main_tables(both)] == ["chosen"]

"""Tests of the table `chosen`: one row per search and seed."""

from __future__ import annotations

from dataclasses import replace

from analysis.store.load import load
from analysis.tables.chosen import chosen


def shown(table):
    return [{column.key: cell.text for column, cell in zip(table.columns, row, strict=True)} for row in table.rows]


def test_each_row_names_the_setting_and_its_scores(small):
    (table,) = chosen(load([small.write()]))
    rows = {(row["method"], row["seed"]): row for row in shown(table)}
    assert rows["SAP (alpha16)", "2"] == {
        "method": "SAP (alpha16)", "seed": "2", "chosen": "alpha=10000", "rule": "val_noisy", "validation_percent": "64.00",
        "test_percent": "82.00",
    }  # fmt: skip
    assert rows["SCRUB (grid_a)", "1"]["chosen"] == "lr=0.01"
    assert rows["Retrain", "1"]["chosen"] == "the only setting"


def test_a_search_without_a_better_setting_keeps_the_unmodified_model(small):
    small.rows = [replace(row, val_noisy_acc=0.5) if row.method == "sap" and row.seed == 1 else row for row in small.rows]
    (table,) = chosen(load([small.write()]))
    rows = {(row["method"], row["seed"]): row for row in shown(table)}
    assert rows["SAP (alpha16)", "1"] == {
        "method": "SAP (alpha16)", "seed": "1", "chosen": "unmodified", "rule": "val_noisy", "validation_percent": "60.00",
        "test_percent": "74.00",
    }  # fmt: skip

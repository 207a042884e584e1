"""Rows without a score, methods whose settings all failed, and scores that are equal up to rounding, in every table."""

import re
from dataclasses import replace

import pytest

from analysis.reports.generated_block import Recipe, tables
from analysis.reports.headline_tables import headline_tables
from analysis.store.labels import MISSING
from analysis.store.load import load
from analysis.store.results import cells
from analysis.store.selection_policy import Policy, select
from analysis.tables.comparison import comparison
from analysis.tables.csv_text import to_csv
from analysis.tables.registry import OF_EVERY_STORE, TABLES
from analysis.tables.render import terminal

MINE = """
name: mine
title: Mine
rows: {method: [vanilla, sap, scrub]}
columns: [{value: test, label: Test}, {value: gain, label: Gain}, {value: search_tuning_seconds, label: Search}]
"""


def printed(results):
    """All tables of a report, as text and as CSV."""
    found = [table for name in OF_EVERY_STORE for table in (TABLES[name](results) if name in TABLES else tables(Recipe(name), results))]
    found += [*headline_tables(results), *tables(Recipe("mine", spec=MINE), results)]
    return found


@pytest.mark.parametrize("missing", [{"test_acc": None}, {"test_acc": float("nan")}], ids=["null", "nan"])
@pytest.mark.parametrize("run_id", ["sap-alpha16-2-1", "base-2"])
def test_a_missing_score_is_a_gap_in_every_table(small, run_id, missing):
    small.rows = [replace(row, **missing) if row.run_id == run_id else row for row in small.rows]
    found = printed(load([small.write()]))
    text = "\n".join(map(terminal, found)) + to_csv(found)
    assert not re.search(r"\bnan\b", text)
    (table,) = [table for table in found if table.name == "comparison"]
    label = "Vanilla" if run_id.startswith("base") else "SAP (alpha16)"
    assert any(note.startswith(f"‡ {label}: 1 stored row without a test score") for note in table.notes)
    (row,) = [row for row in found[-1].rows if row[0].text == label.removesuffix(" (alpha16)")]
    assert "‡" in row[1].marks
    assert row[1].rank == 0


def test_a_method_whose_settings_all_failed_is_not_ranked(small):
    small.rows = [replace(row, status="failed", error_type="diverged") if row.method == "scrub" else row for row in small.rows]
    found = printed(load([small.write()]))
    for table in found:
        for row in table.rows:
            if row[0].text.startswith("SCRUB"):
                assert all(cell.rank == 0 for cell in row), table.name
    (table,) = comparison(load([small.path]))
    scrub = next(row for row in table.rows if row[0].text.startswith("SCRUB"))
    assert scrub[4].text == MISSING


def test_a_search_cost_is_empty_where_nothing_was_searched(small):
    small.rows = [replace(row, tuning_seconds=59.6) if row.method == "vanilla" else row for row in small.rows]
    (table,) = tables(Recipe("mine", spec=MINE), load([small.write()]))
    assert [row[3].text for row in table.rows] == [MISSING, "3.00", "6.00"]


def test_seconds_come_with_how_they_were_measured(small):
    small.rows = [replace(row, jobs_on_device=2) for row in small.rows]
    found = printed(load([small.write()]))
    shown = [table for table in found if any("seconds" in column.key for column in table.columns)]
    assert {"comparison", "cost", "mine", "headline-cost"} <= {table.name for table in shown}
    for table in shown:
        assert any(note.startswith("Seconds were measured with exclusive cores") for note in table.notes), table.name


def test_means_that_differ_by_rounding_are_a_tie(maker):
    """The first setting has .1, .2, .3 and the second .3, .2, .1, of which float64 makes different means; the unmodified models .2."""
    for seed, (first, second) in enumerate(((0.1, 0.3), (0.2, 0.2), (0.3, 0.1)), start=1):
        maker.baseline(seed, 0.2, 0.2, 0.2)
        maker.search("sap", "alpha16", seed, [{"alpha": 1.0}, {"alpha": 2.0}], [(first, 0.5, 0.5), (second, 0.5, 0.5)])
    (cell,) = cells(load([maker.write()]))
    assert all(choice.kept for choice in select(cell.methods["sap", "alpha16"], Policy(over="pooled")))
    chosen = select(cell.methods["sap", "alpha16"], Policy(over="pooled", fallback="never"))
    assert [choice.row["position"] for choice in chosen] == [0, 0, 0]


def test_a_cell_without_rows_is_named_by_the_tests(small):
    """A second cell is planned and has not begun."""
    for method, space in (("sap", "alpha16"), ("scrub", "grid_a")):
        small.add(
            f"{method}-later",
            job_type="tune",
            method=method,
            seed=1,
            baseline_id="later",
            space=space,
            cell="digits/none/mlp/sgd",
            run=False,
        )
    (table,) = TABLES["tests"](load([small.write()]))
    assert len(table.rows) == 1
    assert any("digits/none/mlp/sgd: 0 of 1 seed with both test scores" in note for note in table.notes)

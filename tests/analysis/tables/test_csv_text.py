"""CSV of tables: no number, bound or text is lost, and every sign is ASCII."""

import csv
import io
import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from analysis.reports.headline_tables import headline_tables
from analysis.store.labels import DASH
from analysis.store.load import load
from analysis.tables.csv_text import to_csv
from analysis.tables.printed_form import transposed
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.significance import published_tests, significance

MARKS = "\u2212\u2013≥≤±"


def read(*tables):
    return list(csv.DictReader(io.StringIO(to_csv(tables))))


@pytest.fixture
def table():
    columns = (Column("row", "", numeric=False), Column("a", "A"), Column("b", "B"), Column("c", "C", numeric=False))
    texts = (
        ("one", "≥ 0.39", "", "up to \u2212.5"),
        ("two", "no gain", "\u2212.5", "200\u2013500"),
        ("three", DASH, DASH, DASH),
        ("\u2212x 3\u20135", "1 (0\u20132)", "1", "≤ 2"),
    )
    more = {
        (0, 1): {"exact": "≥ 0.3912"}, (1, 2): {"value": -0.5}, (1, 3): {"interval": (200.0, 500.0)},
        (3, 1): {"value": 1.0, "interval": (0.0, math.inf)}, (3, 2): {"value": 1.0},
    }  # fmt: skip
    rows = tuple(tuple(FormattedCell(text, **more.get((r, c), {})) for c, text in enumerate(row)) for r, row in enumerate(texts))
    return Table("t", "cell", "", columns, rows)


def test_what_is_not_a_number_is_a_text_with_ascii_signs(table):
    lines = read(table)
    assert [line["a"] for line in lines] == [">= 0.3912", "no gain", "", "1.0"]
    assert (lines[3]["a_low"], lines[3]["a_high"]) == ("0.0", "inf")
    assert [line["c"] for line in lines] == ["up to -.5", "", "", "<= 2"]
    assert (lines[1]["c_low"], lines[1]["c_high"]) == ("200.0", "500.0")
    assert lines[3]["row"] == "\u2212x 3 to 5"  # a minus in front of a letter is part of a name
    assert not set("".join(line[key] or "" for line in lines for key in "abc")) & set(MARKS)


def test_a_transposed_table_keeps_its_texts(table):
    (first, *_) = read(transposed(replace(table, rows=table.rows[:2])))
    assert [first[key] for key in ("cell", "row", "one", "two")] == ["cell", "A", ">= 0.3912", "no gain"]


def test_columns_of_one_name_are_all_in_the_file():
    columns = (Column("cell", "", numeric=False), Column("x", "1"), Column("x", "2"), Column("table", "3"))
    row = (FormattedCell("label"), *(FormattedCell(str(n), float(n)) for n in (1, 2, 3)))
    assert read(Table("t", "title", "", columns, (row,))) == [
        {"cell": "title", "cell_2": "label", "x": "1.0", "x_2": "2.0", "table_2": "3.0"}
    ]


def test_significance_tests_name_both_methods_and_give_numbers(small):
    (line,) = read(*significance(load([small.write()])))
    assert (line["cell"], line["row"]) == ("Digits, SAP against SCRUB", "small CNN, symmetric 25 %, sgd")
    assert json.loads(line["by_seed"]) == pytest.approx([3.0, 5.0])
    # t(1) = 12.7062, and the standard error of 3 and 5 is 1.
    assert (float(line["interval_low"]), float(line["interval_high"])) == pytest.approx((4 - 12.7062, 4 + 12.7062), abs=1e-3)
    for line in read(*published_tests()):
        assert not set("".join(filter(None, line.values()))) & set(MARKS)


def test_a_cost_that_was_not_reached_is_a_bound_and_not_empty(small):
    """SCRUB gains nothing on the first seed, so that its cost to a target is known only from below."""
    small.rows = [replace(row, test_acc=0.74) if (row.method, row.seed, row.status) == ("scrub", 1, "ok") else row for row in small.rows]
    frame = pd.read_csv(io.StringIO(to_csv(headline_tables(load([small.write()])))))
    cost = frame[(frame["table"] == "headline-cost") & frame["method"].str.startswith("SCRUB")].iloc[0]
    assert cost["seconds_to_95"].startswith(">= ")
    assert float(cost["seconds_to_95"].removeprefix(">= ")) > 0
    ratio = frame[(frame["table"] == "headline-comparisons") & frame["method"].str.startswith("SCRUB")].iloc[0]
    assert ratio["target_ratio"].startswith(">= ")
    assert ratio["target_interval_high"] == math.inf

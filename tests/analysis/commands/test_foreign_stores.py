"""Reports of a store that comes from elsewhere: no cell that a spreadsheet runs, no escape sequence, and no file outside of the folder."""

from __future__ import annotations

import csv
from dataclasses import replace

import pandas as pd
import pytest

from analysis.__main__ import main

FORMULA = '=HYPERLINK("http://x")'
ERROR = "\x1b]0;title\x07boom\n\n\\input{/etc/passwd} <script>alert(1)</script>"


@pytest.fixture
def foreign(small):
    """A store whose experiment is a formula, and whose last row failed with an error full of markup."""
    small.rows = [replace(row, commit=FORMULA) for row in small.rows]
    small.rows[-1] = replace(small.rows[-1], status="failed", error_type="error", error=ERROR)
    return small.write()


def test_an_export_has_no_formula_unless_it_is_raw(foreign, tmp_path):
    for options, expected in (([], f"'{FORMULA}"), (["--raw"], FORMULA)):
        assert main([str(foreign), "export", str(tmp_path / "x.csv"), *options]) == 0
        with (tmp_path / "x.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {row["commit"] for row in rows} == {expected}
        assert float(rows[0]["test_acc"]) > 0
    assert main([str(foreign), "export", str(tmp_path / "x.parquet")]) == 0
    assert set(pd.read_parquet(tmp_path / "x.parquet")["commit"]) == {FORMULA}


def test_errors_reach_neither_the_terminal_nor_the_page_as_they_are(foreign, capsys):
    assert main([str(foreign), "status"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "<script>" in out
    assert main([str(foreign), "html"]) == 0
    page = (foreign / "report" / "report.html").read_text()
    assert "<script>alert" not in page
    assert "\x1b" not in page


@pytest.mark.parametrize("command", [["export"], ["html"], ["plot", "alpha"]])
def test_a_report_folder_that_leads_out_of_the_store_is_refused(foreign, tmp_path, capsys, command):
    outside = tmp_path / "outside"
    outside.mkdir()
    (foreign / "report").symlink_to(outside)
    assert main([str(foreign), *command]) == 2
    assert "outside of the store; remove it, or name the folder with --output DIR" in capsys.readouterr().err
    assert not list(outside.iterdir())


def test_planted_links_are_replaced(foreign, tmp_path):
    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    (foreign / "report").mkdir()
    for name in ("report.html", "rows.csv"):
        (foreign / "report" / name).symlink_to(outside)
    assert main([str(foreign), "html"]) == main([str(foreign), "export"]) == 0
    assert outside.read_text() == "mine"

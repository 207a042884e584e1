"""Forecast and actual run times of hand-made stores."""

from dataclasses import replace

import pytest

from analysis.__main__ import main
from analysis.reports.forecast_accuracy import accuracy, compared_jobs, forecast
from analysis.store.load import load


def forecast_of(maker, run_id, seconds, low, high, basis="same search"):
    """Gives one planned line a forecast."""
    for place, line in enumerate(maker.plan):
        if line.run_id == run_id:
            maker.plan[place] = replace(
                line, forecast_seconds=seconds, forecast_low_seconds=low, forecast_high_seconds=high, forecast_basis=basis
            )


@pytest.fixture
def store(maker):
    """A baseline (10 s, forecast 8, 6 to 12) and a family of two settings (1.5 s each, forecast 1 each, 0.9 to 1.2 each)."""
    maker.baseline(1, 0.5, 0.6, 0.7)
    settings, scores = [{"alpha": 1.0}, {"alpha": 2.0}], [(0.6, 0.7, 0.8), None]
    maker.search("sap", "two", 1, settings, scores, job_id="family", report_seconds=0.5)
    forecast_of(maker, "base-1", 8.0, 6.0, 12.0)
    for position in (0, 1):
        forecast_of(maker, f"sap-two-1-{position}", 1.0, 0.9, 1.2, "calibrated")
    return maker


def test_jobs_are_summed_over_their_rows(store):
    jobs = compared_jobs(load([store.write()])).set_index("job_type")
    assert jobs.loc["train", ["forecast", "low", "high", "actual"]].tolist() == [8.0, 6.0, 12.0, 10.0]
    assert jobs.loc["tune", ["forecast", "low", "high", "actual"]].tolist() == pytest.approx([2.0, 1.8, 2.4, 3.0]), (
        "a diverged setting counts"
    )
    assert jobs.loc["tune", "basis"] == "calibrated"


def test_the_numbers(store):
    found = accuracy(compared_jobs(load([store.write()])))
    assert (found.jobs, found.forecast, found.actual) == (2, 10.0, 13.0)
    assert found.error == pytest.approx((0.2 + 1 / 3) / 2)
    assert found.covered == 0.5
    assert found.ratio == pytest.approx(1.3)


def test_the_table_has_a_line_per_search_and_one_of_all(store):
    (table,) = forecast(load([store.write()]))
    assert [[cell.text for cell in row[:3]] for row in table.rows] == [
        ["train", "Vanilla", "1"],
        ["tune", "SAP (two)", "1"],
        ["all", "", "2"],
    ]
    assert [cell.value for cell in table.rows[2][3:6]] == pytest.approx([10.0, 13.0, 1.3])
    assert any("same search 1" in note and "calibrated 1" in note for note in table.notes)


def test_failed_and_unfinished_jobs_are_left_out_and_counted(store):
    store.rows = [replace(row, status="failed", error="x", error_type="oom") if row.run_id == "base-1" else row for row in store.rows][:-1]
    results = load([store.write()])
    assert compared_jobs(results).empty
    assert forecast(results) == ()


def test_the_command(store, capsys):
    path = store.write()
    assert main([str(path), "forecast"]) == 0
    assert "SAP (two)" in capsys.readouterr().out
    assert main([str(path), "forecast", "--format", "csv"]) == 0
    assert "forecast" in capsys.readouterr().out.splitlines()[0]


def test_a_store_without_forecasts_is_refused(maker, capsys):
    maker.baseline(1, 0.5, 0.6, 0.7)
    assert main([str(maker.write()), "forecast"]) == 2
    assert "has a forecast" in capsys.readouterr().err

"""Forecast columns of a plan, which are kept once jobs have run."""

from __future__ import annotations

from dataclasses import replace

from sap_core.records import Planned
from sweeper.estimate.duration import RuntimeEstimator
from sweeper.plan.flops import describe_plan
from sweeper.plan.runtime_forecast import describe_seconds, duration_text, earlier_forecasts, longest_chain, with_forecasts
from sweeper.store.store import write_records


def test_an_earlier_forecast_is_kept_and_ended_jobs_get_none(tmp_path, planned_row):
    rows = [planned_row("aa", 0), planned_row("aa", 1), planned_row("bb", 0), planned_row("cc", 0)]
    earlier = {"bb-0": (7.0, 6.0, 8.0, "same method")}
    filled = with_forecasts(rows, RuntimeEstimator(assumed=1e-9), earlier, {"bb", "cc"})
    assert [one.forecast_seconds for one in filled] == [1.0, 1.0, 7.0, None]
    assert filled[0].forecast_low_seconds < 1.0 < filled[0].forecast_high_seconds
    assert [one.forecast_basis for one in filled] == ["assumed", "assumed", "same method", None]
    nothing = {"forecast_seconds": None, "forecast_low_seconds": None, "forecast_high_seconds": None, "forecast_basis": None}
    assert [replace(one, **nothing) for one in filled] == rows
    write_records(tmp_path / "plan.parquet", filled, Planned)
    assert earlier_forecasts(tmp_path / "plan.parquet")["bb-0"] == earlier["bb-0"]
    assert earlier_forecasts(tmp_path / "none.parquet") == {}


def test_chains_are_added_and_branches_are_not(planned_row):
    parents = {"aa": "", "bb": "aa", "cc": "aa", "dd": "bb"}
    rows = [planned_row(job_id, number, parents=before) for job_id, before in parents.items() for number in (0, 1)]
    assert longest_chain(rows, {"aa": 1.0, "bb": 2.0, "cc": 9.0, "dd": 4.0}) == 10.0


def test_a_dry_run_shows_seconds_by_search_and_the_time_of_the_workers(planned_row):
    rows = [planned_row("aa", job_type="train", method="vanilla", space=None), planned_row("bb", parents="aa"), planned_row("bb", 1)]
    lines = describe_seconds(rows, RuntimeEstimator(assumed=1e-9), workers=2).splitlines()
    assert lines[1].split() == ["train", "vanilla", "1", "1", "0.2", "to", "5", "assumed"]
    assert lines[2].split() == ["tune", "sap@alpha16", "1", "2", "0.4", "to", "10", "assumed"]
    assert lines[3].split()[:3] == ["all", "2", "3"]
    assert lines[4] == "about 3 seconds on 2 workers, plus about ten seconds to start"


def test_durations_have_the_unit_that_suits_them():
    assert [duration_text(seconds) for seconds in (9, 180, 7200, 200_000)] == ["9 seconds", "3 minutes", "2 hours", "2.3 days"]


def test_unknown_flops_give_no_forecast_and_no_time(planned_row):
    rows = [
        planned_row("aa", job_type="train", method="vanilla", space=None, forecast_flops=None),
        planned_row("bb", parents="aa"),
        planned_row("bb", 1),
    ]
    estimator = RuntimeEstimator(assumed=1e-9)
    filled = with_forecasts(rows, estimator, {}, ())
    assert [one.forecast_seconds for one in filled] == [None, 1.0, 1.0]
    lines = describe_seconds(rows, estimator, workers=2).splitlines()
    assert lines[1].split() == ["train", "vanilla", "1", "unknown"]
    assert lines[2].split()[:4] == ["tune", "sap@alpha16", "1", "2"]
    assert lines[3].split() == ["all", "2", "unknown"]
    assert lines[4] == "the run time is unknown, because the FLOPs of some jobs are"


def test_a_dry_run_names_the_networks_whose_passes_could_not_be_counted(planned_row, make_job):
    jobs = [make_job("aa", job_type="train", forecast_flops=None), make_job("bb", forecast_flops=4e9)]
    rows = [planned_row("aa", job_type="train", method="vanilla", space=None, forecast_flops=None), planned_row("bb", forecast_flops=4e9)]
    text = describe_plan(jobs, rows, 10, 1e10, "cpu")
    assert "forecast: unknown FLOPs and hours, because the passes of small_cnn on digits could not be counted" in text
    assert "(those of the other jobs: 4e+09); 1 MB on disk" in text
    assert [line.split()[-1] for line in text.splitlines() if line.startswith(("vanilla", "sap"))] == ["unknown", "unknown"]

"""Seconds of jobs: pooled by likeness, calibrated, with intervals; forecasts are made before jobs run and stand."""

from __future__ import annotations

import math
import statistics
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sap_core.records import Planned
from sweeper import pace as module
from sweeper import speeds
from sweeper.pace import (
    LEVELS,
    Circumstances,
    Estimate,
    Pace,
    earlier_forecasts,
    longest_chain,
    seconds_by_job,
    spread_of,
    total_of,
    with_seconds,
)
from sweeper.speeds import Kind, Measured, calibrate, kinds_of, measured_in
from sweeper.store import Store, write_records

KIND = Kind("tune", "sap", "alpha16", "full grid ", "s1", "sgd", "small_cnn", "digits")
HERE = Circumstances()


def measured(kind=KIND, flops=1e9, seconds=1.0, **changes):
    return Measured(**{"kind": kind, "flops": flops, "seconds": seconds, "on_cpu": True, "alone": True, "threads": 1} | changes)


def row(job_id="aa", number=0, **changes):
    values = {
        "run_id": f"{job_id}-{number}", "job_id": job_id, "kind": "tune", "parents": "", "cell": "c", "dataset": "digits",
        "noise": "symmetric",
        "noise_rate": 0.25, "network": "small_cnn", "trainer": "sgd", "method": "sap", "space": "alpha16", "space_hash": "h",
        "position": number, "settings": f'{{"alpha": {number}}}', "distinct": number, "seed": 1, "baseline_id": "b", "forecast_flops": 1e9,
    }  # fmt: skip
    return Planned(**values | changes)


@pytest.mark.parametrize(
    ("other", "basis"),
    [
        ({}, "same settings"),
        ({"settings": "s2"}, "same search"),
        ({"space": "alpha5", "settings": "s2", "trainer": "sam"}, "same method and network"),
        ({"method": "ssd", "kind": "tune"}, "same network"),
        ({"network": "vgg", "dataset": "cifar10"}, "same method"),
        ({"network": "vgg", "method": "ssd"}, "other jobs"),
    ],
)
def test_the_most_similar_measured_jobs_count(other, basis):
    """Two FLOP rates are measured; the forecast takes the likest one, and says which."""
    pace = Pace.of([measured(replace(KIND, **other), seconds=3.0)], HERE, {}, 1e-10)
    found = pace.estimate(KIND, 2e9)
    assert found.basis == basis
    assert found.seconds == pytest.approx(6.0)
    assert found.low < 6.0 < found.high


def test_likeness_beats_number():
    near, far = measured(seconds=1.0), measured(replace(KIND, settings="s2"), seconds=9.0)
    assert Pace.of([far, far, near], HERE, {}, 1e-10).estimate(KIND, 1e9).seconds == pytest.approx(1.0)


def test_a_network_that_was_never_measured_is_calibrated_before_other_jobs_are_asked():
    pace = Pace.of([measured(replace(KIND, network="vgg"), seconds=9.0)], HERE, {("small_cnn", "digits"): 2e-9}, 1e-10)
    assert (pace.estimate(KIND, 1e9).seconds, pace.estimate(KIND, 1e9).basis) == (2.0, "calibrated")
    assert pace.knows("vgg", "digits")
    assert not pace.knows("small_cnn", "digits")


def test_without_anything_it_is_assumed_and_the_interval_is_wide():
    pace = Pace.of([], HERE, {}, 1e-10)
    found = pace.estimate(KIND, 1e10)
    assert (found.seconds, found.basis) == (1.0, "assumed")
    assert found.high / found.low > 10
    assert pace.estimate(KIND, 0.0).seconds == 0.0


def test_other_devices_never_count_and_other_loads_only_where_there_are_no_better():
    gpu, packed, good = measured(on_cpu=False, seconds=9.0), measured(alone=False, seconds=5.0), measured(seconds=1.0)
    assert Pace.of([gpu], HERE, {}, 1e-10).estimate(KIND, 1e9).basis == "assumed"
    assert Pace.of([packed], HERE, {}, 1e-10).estimate(KIND, 1e9).seconds == pytest.approx(5.0)
    assert Pace.of([packed, good, gpu], HERE, {}, 1e-10).estimate(KIND, 1e9).seconds == pytest.approx(1.0)


@given(st.lists(st.floats(1e-12, 1e-8), min_size=1, max_size=20), st.floats(0.05, 1.0))
def test_the_spread_is_the_formula(rates, prior):
    middle = math.log(statistics.median(rates))
    squares = sum((math.log(rate) - middle) ** 2 for rate in rates)
    expected = math.sqrt((4 * prior**2 + squares) / (3 + len(rates)) * (1 + 1 / len(rates)))
    assert spread_of(rates, prior) == pytest.approx(expected)


def test_intervals_cover_what_they_promise(monkeypatch):
    """Jobs whose log rates are normal with the level's own spread lie inside about 80 % of the time."""
    monkeypatch.setattr(module, "_COMMON", 0.0)
    draws = np.random.default_rng(3).normal(0, 0.3, 4000)
    pace = Pace.of([measured(seconds=float(np.exp(draw))) for draw in draws[:1000]], HERE, {}, 1e-10)
    found = pace.estimate(KIND, 1e9)
    assert 0.77 < np.mean((np.exp(draws[1000:]) > found.low) & (np.exp(draws[1000:]) < found.high)) < 0.83


def test_errors_of_different_searches_cancel_in_part_and_those_of_one_network_do_not():
    kinds = [replace(KIND, method=f"m{number}") for number in range(9)]
    apart = total_of((kind, Estimate.new_day(1.0, 0.3, "same search")) for kind in kinds)
    together = total_of((kind, Estimate.new_day(1.0, 0.3, "calibrated")) for kind in kinds)
    assert apart.seconds == together.seconds == pytest.approx(9.0)
    assert apart.spread == pytest.approx(math.hypot(0.2, 0.1))
    assert together.spread == pytest.approx(math.hypot(0.2, 0.3))
    assert total_of([]).seconds == 0.0


def test_jobs_are_known_by_their_settings_not_by_their_seed():
    kinds = kinds_of([row("aa", 0), row("aa", 1), row("bb", 1, seed=2), row("bb", 0, seed=2), row("cc", 0)])
    assert kinds["aa"] == kinds["bb"]
    assert kinds["aa"][1] == 2e9
    assert kinds["cc"][0] != kinds["aa"][0]
    assert kinds["cc"][0].levels()[1:] == kinds["aa"][0].levels()[1:]


def stored(folder, make_job, seconds, job_ids=("aa", "bb")):
    """A store with two jobs of two rows each."""
    store = Store(folder)
    write_records(store.plan, [row(job_id, number) for job_id in job_ids for number in (0, 1)], Planned)
    for job_id in job_ids:
        job = make_job(job_id, runs=2)
        store.write_rows([job.row(run, shared_seconds=seconds / 2, report_seconds=0.5, device_jobs=1, cores=1) for run in job.runs])
    return store


def test_stores_are_read_and_damaged_ones_passed_over(tmp_path, make_job):
    stored(tmp_path / "old", make_job, 3.0)
    (tmp_path / "broken/rows").mkdir(parents=True)
    (tmp_path / "broken/plan.parquet").write_bytes(b"PAR1")
    (tmp_path / "none").mkdir()
    found = list(measured_in(tmp_path.iterdir()))
    assert [(one.flops, one.seconds, one.on_cpu, one.alone) for one in found] == [(2e9, 4.0, True, True)] * 2


def test_failed_jobs_and_those_of_old_versions_without_seconds_tell_nothing(tmp_path, make_job):
    store = stored(tmp_path / "old", make_job, 3.0)
    job = make_job("bb", runs=2)
    store.write_rows([job.row(run, status="failed", error_kind="oom", error="x", shared_seconds=1.0) for run in job.runs])
    (store.rows / "bb.ok.parquet").unlink()
    job = make_job("aa", runs=2)
    store.write_rows([job.row(run) for run in job.runs])
    assert list(measured_in([tmp_path / "old"])) == []


def test_of_a_large_store_a_few_jobs_of_each_kind_are_read(tmp_path, make_job, monkeypatch):
    names = [f"j{number:02}" for number in range(9)]
    stored(tmp_path / "old", make_job, 3.0, names)
    assert len(list(measured_in([tmp_path / "old"]))) == speeds._PER_GROUP


def test_a_forecast_stands_and_what_has_ended_gets_none(tmp_path):
    pace = Pace.of([], HERE, {}, 1e-9)
    rows = [row("aa", 0), row("aa", 1), row("bb", 0), row("cc", 0)]
    earlier = {"bb-0": (7.0, 6.0, 8.0, "same search")}
    filled = with_seconds(rows, pace, earlier, {"bb", "cc"})
    assert [one.forecast_seconds for one in filled] == [1.0, 1.0, 7.0, None]
    assert filled[0].forecast_low_seconds < 1.0 < filled[0].forecast_high_seconds
    assert [one.forecast_basis for one in filled] == ["assumed", "assumed", "same search", None]
    assert [
        replace(one, forecast_seconds=None, forecast_low_seconds=None, forecast_high_seconds=None, forecast_basis=None) for one in filled
    ] == rows
    assert seconds_by_job(filled) == {"aa": 2.0, "bb": 7.0}
    write_records(tmp_path / "plan.parquet", filled, Planned)
    assert earlier_forecasts(tmp_path / "plan.parquet")["bb-0"] == earlier["bb-0"]
    assert earlier_forecasts(tmp_path / "none.parquet") == {}


def test_chains_are_added_and_branches_are_not():
    rows = [row("aa"), row("bb", parents="aa"), row("bb", 1, parents="aa"), row("cc", parents="aa"), row("dd", parents="bb")]
    assert longest_chain(rows, {"aa": 1.0, "bb": 2.0, "cc": 9.0, "dd": 4.0}) == 10.0


def test_calibration_times_the_network_and_leaves_the_process_alone(plan_of):
    cells = plan_of("experiment=demo", "methods=[sap]").cells
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    found = calibrate(cells, "cpu", 1)
    assert set(found) == {("small_cnn", "digits")}
    assert 1e-13 < found["small_cnn", "digits"] < 1e-7
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_network_that_cannot_be_stepped_is_said_once_and_forecast_without(plan_of, monkeypatch, capsys):
    def broken(cell, device):
        raise RuntimeError("no backward\nhere")

    monkeypatch.setattr("sweeper.speeds._timed", broken)
    cells = plan_of("experiment=demo", "methods=[sap]").cells
    assert calibrate([*cells, *cells], "cpu", 1) == {}
    said = capsys.readouterr().err
    assert said == "a training step of small_cnn on digits could not be timed here (no backward here); its time is forecast without\n"


def test_a_gpu_that_is_not_here_is_not_calibrated(plan_of):
    assert calibrate(plan_of("experiment=demo", "methods=[sap]").cells, "cuda", 1) == {}


def test_the_levels_are_named_once_each():
    assert len(LEVELS) == len(module._SPREAD) == len(set(LEVELS))

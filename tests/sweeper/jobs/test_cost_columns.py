"""Cost records as columns and points: every amount by phase, divided and standalone, and the sums in the rows."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch

from sap_core.cost import AMOUNTS, TUNING, CostMeter
from sap_core.records import Row
from sweeper.jobs.cost_columns import cost_columns, cost_points
from sweeper.jobs.job import SweepPaths
from sweeper.jobs.run_job import execute
from sweeper.store.store import Store


def test_columns_and_points_by_hand():
    meter = CostMeter(2)
    with meter("collect") as piece:
        meter.count(forwards=10, flops=100.0)
    piece.seconds = 4.0
    with meter("report", used_by=[1]) as piece:
        meter.count(forwards=7)
    piece.seconds = 1.0
    with meter("correct", used_by=[1]) as piece:
        meter.count(forwards=6, backwards=6)
    piece.seconds = 3.0
    first, second = meter.costs(flops_forward=1.0, flops_backward=2.0)
    columns = cost_columns(second, torch.device("cpu"), 3)
    known = {
        "train_seconds": None, "select_seconds": None, "prepare_seconds": 4.0, "correct_seconds": 3.0, "evaluate_seconds": None,
        "report_seconds": 1.0, "tuning_seconds": 5.0, "sample_forwards": 11.0, "sample_backwards": 6.0, "flops": 55.0 + 18.0,
        "standalone_sample_forwards": 16.0, "standalone_sample_backwards": 6.0, "standalone_flops": 110.0 + 18.0, "jobs_on_device": 3,
    }  # fmt: skip
    assert {name: columns[name] for name in known} == known
    assert set(columns) <= set(Row.__dataclass_fields__)
    assert {name: value for name, _, value in cost_points(first)} == {
        "cost/collect/seconds": 2.0, "cost/collect/forwards": 5.0, "cost/collect/flops": 55.0,
        "cost/collect/standalone_seconds": 4.0, "cost/collect/standalone_forwards": 10.0, "cost/collect/standalone_flops": 110.0,
    }  # fmt: skip
    assert ("cost/report/standalone_forwards", 0, 7.0) in cost_points(second)


def test_unknown_flops_are_null_and_have_no_points():
    meter = CostMeter(1)
    with meter("collect"):
        meter.count(forwards=10, flops=100.0)
    with meter("factor"):
        meter.count(flops=5.0)
    (cost,) = meter.costs(math.nan, 2.0)
    columns = cost_columns(cost, torch.device("cpu"), 1)
    assert columns["flops"] is columns["standalone_flops"] is None
    assert columns["sample_forwards"] == 10
    assert {name for name, _, _ in cost_points(cost) if name.endswith("flops")} == {"cost/factor/flops", "cost/factor/standalone_flops"}
    (known,) = meter.costs(3.0, math.nan)
    assert cost_columns(known, torch.device("cpu"), 1)["flops"] == 135.0, "no backward pass was made"


@pytest.mark.slow
def test_a_stores_points_add_up_to_its_rows(plan_of, tmp_path):
    plan = plan_of("experiment=demo", "trainer.epochs=1", "model.width=2", "methods=[sap,finetune]", "seeds=[1]").plan
    folders = SweepPaths(tmp_path / "data", tmp_path / "store", tmp_path / "artifacts")
    store = Store(folders.store)
    for job in plan.jobs[:3]:
        assert execute(job, folders, jobs_on_device=2).status == "ok"
        sums = defaultdict(float)
        for point in store.read_series(job.job_id):
            if point.name.startswith("cost/") and point.name.split("/")[1] in TUNING:
                sums[point.run_id, point.name.split("/")[2]] += point.value
        for row in store.read_rows(job.job_id):
            assert row.jobs_on_device == 2
            assert row.cores >= 1
            names = {"seconds": "tuning_seconds", "forwards": "sample_forwards", "backwards": "sample_backwards", "flops": "flops"}
            for what in AMOUNTS:
                assert sums[row.run_id, what] == pytest.approx(getattr(row, names[what]))
            for what in AMOUNTS[1:]:
                assert sums[row.run_id, f"standalone_{what}"] == pytest.approx(getattr(row, f"standalone_{names[what]}"))
            parts = (row.train_seconds, row.select_seconds, row.prepare_seconds, row.correct_seconds, row.evaluate_seconds)
            assert sums[row.run_id, "standalone_seconds"] == pytest.approx(sum(part or 0.0 for part in parts))

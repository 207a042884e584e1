import math
from dataclasses import replace

import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.store.stats import summarise
from analysis.tuning.cost import circumstances, exclusive_device, per_seed, unit_of


def searches(store, method):
    return next(many for key, many in cells(load([store.write()]))[0].methods.items() if key[0] == method)


def test_summary_uses_the_sample_standard_deviation():
    assert summarise([1.0, 2.0, 3.0, None, math.nan]) == (summary := summarise([3.0, 2.0, 1.0]))
    assert (summary.mean, summary.std, summary.n) == (2.0, 1.0, 3)
    assert summarise([5.0]).std is None
    assert summarise([]).mean is None


def test_costs_of_one_seed_by_hand(small):
    amortised, standalone = per_seed(searches(small, "sap"))
    assert (amortised.mean, amortised.std, amortised.n) == (3.0, 0.0, 2)  # 3 settings x 1 s
    assert standalone.mean == 12.0  # 3 x (0.5 select + 1 prepare + 2 correct + 0.5 evaluate)
    amortised, standalone = per_seed(searches(small, "scrub"))
    assert (amortised.mean, standalone.mean) == (6.0, 5.0)  # the diverged setting costs too
    assert per_seed(searches(small, "retrain"))[1].mean == 10.5  # 8 training + 2 + 0.5


def test_circumstances_are_reported_only_when_mixed(small):
    rows = load([small.write()]).rows
    assert circumstances(rows) == []
    small.rows = [
        replace(small.rows[0], commit="def", device="cuda", device_share=0.25, threads=2),
        *small.rows[1:-1],
        replace(small.rows[-1], component_version=2),
    ]  # fmt: skip
    text = " ".join(circumstances(load([small.write()]).rows))
    for words in (
        "1 of 14 rows were measured on a shared GPU",
        "0.25",
        "devices: cpu, cuda",
        "thread counts: 1, 2",
        "commits: abc, def",
        "retrain mix versions: 1, 2",
    ):
        assert words in text


def changed(store, **fields):
    store.rows = [replace(row, **fields) for row in store.rows]
    return load([store.write()]).rows


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"jobs_on_device": 2, "threads": 1, "cores": 2}, True),
        ({"jobs_on_device": 2, "threads": 2, "cores": 4}, True),
        ({"jobs_on_device": 2, "threads": 2, "cores": 3}, False),
        ({"jobs_on_device": 3, "threads": 1, "cores": 2}, False),
        ({"jobs_on_device": None}, False),
        ({"cores": None}, False),
        ({"jobs_on_device": 4, "cores": 1, "tuning_seconds": None}, True),  # nothing was timed
        ({"device": "a GPU", "jobs_on_device": 1, "cores": 1, "threads": 4}, True),
        ({"device": "a GPU", "jobs_on_device": 2, "cores": 16}, False),
        ({"device": "a GPU", "jobs_on_device": 1, "device_share": 0.5}, False),
    ],
)
def test_exclusive_device(small, fields, own):
    assert exclusive_device(changed(small, **fields)) is own


def test_one_row_on_a_shared_device_turns_seconds_into_flops(small):
    small.rows = [replace(row, flops=2e9, standalone_flops=5e9) if row.method == "sap" else row for row in small.rows]
    small.rows = [replace(row, jobs_on_device=3) if row.run_id == "sap-alpha16-2-1" else row for row in small.rows]
    sap = searches(small, "sap")
    assert unit_of(sap[:1]) == "seconds"
    assert unit_of(sap) == "flops"
    assert [cost.mean for cost in per_seed(sap)] == [None, None]
    assert [cost.mean for cost in per_seed(sap, "flops")] == [6e9, 15e9]

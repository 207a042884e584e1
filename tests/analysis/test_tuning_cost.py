import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cells import cells
from analysis.load import load
from analysis.stats import summarise
from analysis.tuning_cost import as_run, circumstances, expected, expected_best, per_seed, unit_of, unshared


def searches(store, method):
    return next(many for key, many in cells(load([store.write()]))[0].methods.items() if key[0] == method)


def test_summary_uses_the_sample_standard_deviation():
    assert summarise([1.0, 2.0, 3.0, None, math.nan]) == (summary := summarise([3.0, 2.0, 1.0]))
    assert (summary.mean, summary.std, summary.n) == (2.0, 1.0, 3)
    assert summarise([5.0]).std is None
    assert summarise([]).mean is None


def test_costs_of_one_seed_by_hand(small):
    shared, alone = per_seed(searches(small, "sap"))
    assert (shared.mean, shared.std, shared.n) == (3.0, 0.0, 2)  # 3 settings x 1 s
    assert alone.mean == 12.0  # 3 x (0.5 select + 1 prepare + 2 correct + 0.5 evaluate)
    shared, alone = per_seed(searches(small, "scrub"))
    assert (shared.mean, alone.mean) == (6.0, 5.0)  # the diverged setting costs too
    assert per_seed(searches(small, "retrain"))[1].mean == 10.5  # 8 training + 2 + 0.5


def test_expected_curve_by_hand(small):
    curve = expected(searches(small, "sap")[0], "val_noisy")
    # one setting: any of 0.78, 0.80, 0.82; two: {1,2} 0.80, {1,3} 0.82, {2,3} 0.80 by the tie; three: 0.80
    np.testing.assert_allclose(curve.test, [0.80, (0.80 + 0.82 + 0.80) / 3, 0.80], rtol=1e-12)
    np.testing.assert_allclose(curve.cost, [1, 2, 3])


def test_curve_in_the_order_run(small):
    started = {"sap-alpha16-1-2": "2026-01-01T00:00:00", "sap-alpha16-1-0": "2026-01-01T00:00:01", "sap-alpha16-1-1": "2026-01-01T00:00:02"}
    cost = {"sap-alpha16-1-2": 5.0, "sap-alpha16-1-0": 1.0, "sap-alpha16-1-1": 2.0}
    small.rows = [
        replace(row, started_at=started[row.run_id], shared_seconds=cost[row.run_id]) if row.run_id in started else row
        for row in small.rows
    ]
    curve = as_run(searches(small, "sap")[0], "val_noisy")
    np.testing.assert_allclose(curve.cost, [5, 6, 8])
    np.testing.assert_allclose(curve.test, [0.82, 0.82, 0.80])  # at the end the earlier setting wins the tie, as in the table


def test_both_curves_end_where_the_table_is(small):
    for method in ("sap", "scrub"):
        for search in searches(small, method):
            chosen = float(search.choose("val_noisy").row["test_acc"])
            assert as_run(search, "val_noisy").test[-1] == chosen
            assert expected(search, "val_noisy").test[-1] == pytest.approx(chosen, abs=1e-12)


score = st.one_of(st.just(math.nan), st.integers(0, 3).map(float))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 3), st.lists(st.tuples(score, st.floats(0, 1)), min_size=1, max_size=6))
def test_expectation_agrees_with_enumerating_every_order(unmodified, entries):
    scores, tests = [entry[0] for entry in entries], [entry[1] for entry in entries]
    totals = np.zeros(len(entries))
    orders = list(itertools.permutations(range(len(entries))))
    for order in orders:
        for k in range(1, len(entries) + 1):
            seen = [(scores[i], -i, tests[i]) for i in order[:k] if scores[i] > unmodified]
            totals[k - 1] += max(seen)[2] if seen else 0.25
    np.testing.assert_allclose(expected_best(unmodified, 0.25, np.array(scores), np.array(tests)), totals / len(orders), atol=1e-12)


def test_expectation_stays_exact_for_675_settings():
    generator = np.random.default_rng(0)
    scores, tests = generator.permutation(675).astype(float), generator.random(675)
    ranked = tests[np.argsort(scores)]
    exact = [
        math.fsum(math.comb(i - 1, k - 1) / math.comb(675, k) * ranked[i - 1] for i in range(k, 676)) for k in (1, 2, 16, 300, 674, 675)
    ]
    np.testing.assert_allclose(expected_best(-1.0, 0.0, scores, tests)[[0, 1, 15, 299, 673, 674]], exact, rtol=1e-12)


def test_circumstances_are_said_only_when_mixed(small):
    rows = load([small.write()]).rows
    assert circumstances(rows) == []
    small.rows = [
        replace(small.rows[0], commit="def", device="cuda", device_share=0.25, threads=2),
        *small.rows[1:-1],
        replace(small.rows[-1], version=2),
    ]  # fmt: skip
    said = " ".join(circumstances(load([small.write()]).rows))
    for words in (
        "1 of 14 rows were measured on a shared GPU",
        "0.25",
        "devices: cpu, cuda",
        "thread counts: 1, 2",
        "commits: abc, def",
        "retrain mix versions: 1, 2",
    ):
        assert words in said


def changed(store, **fields):
    store.rows = [replace(row, **fields) for row in store.rows]
    return load([store.write()]).rows


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"device_jobs": 2, "threads": 1, "cores": 2}, True),
        ({"device_jobs": 2, "threads": 2, "cores": 4}, True),
        ({"device_jobs": 2, "threads": 2, "cores": 3}, False),
        ({"device_jobs": 3, "threads": 1, "cores": 2}, False),
        ({"device_jobs": None}, False),
        ({"cores": None}, False),
        ({"device_jobs": 4, "cores": 1, "shared_seconds": None}, True),  # nothing was timed
        ({"device": "a GPU", "device_jobs": 1, "cores": 1, "threads": 4}, True),
        ({"device": "a GPU", "device_jobs": 2, "cores": 16}, False),
        ({"device": "a GPU", "device_jobs": 1, "device_share": 0.5}, False),
    ],
)
def test_a_job_has_its_device_to_itself_or_not(small, fields, own):
    assert unshared(changed(small, **fields)) is own


def test_a_search_with_one_shared_row_has_no_seconds_but_flops(small):
    small.rows = [replace(row, flops=2e9, flops_alone=5e9) if row.method == "sap" else row for row in small.rows]
    small.rows = [replace(row, device_jobs=3) if row.run_id == "sap-alpha16-2-1" else row for row in small.rows]
    mine = searches(small, "sap")
    assert unit_of(mine[:1]) == "seconds"
    assert unit_of(mine) == "flops"
    assert [cost.mean for cost in per_seed(mine)] == [None, None]
    assert [cost.mean for cost in per_seed(mine, "flops")] == [6e9, 15e9]
    np.testing.assert_allclose(expected(mine[0], "val_noisy", "flops").cost, [2e9, 4e9, 6e9])
    np.testing.assert_allclose(as_run(mine[0], "val_noisy", "flops").cost, [2e9, 4e9, 6e9])

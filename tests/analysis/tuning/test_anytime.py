import itertools
from dataclasses import replace

import numpy as np
import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.tuning.anytime import Account, Bill, bill_of, by_itself, ladder_of, orders, play, seconds_allowed
from analysis.tuning.best_of_k import expected, ladder
from analysis.tuning.head_to_head import BAND, Contender, Reach, ahead, band, contender, ratio_to_target, reach


def steps(tests, unmodified=0.5):
    """A ladder whose validation scores are its test scores."""
    return ladder(unmodified, unmodified, np.array(tests), np.array(tests))


def one(ladders, bills, unit="seconds", method="sap"):
    return Contender(method, "space", tuple(range(len(ladders))), (None,) * len(ladders), tuple(ladders), tuple(bills), unit)


def test_play_equals_walking_every_order():
    rng = np.random.default_rng(3)
    tests, costs = rng.random(4), rng.random(4)
    every = np.array(list(itertools.permutations(range(4))))
    outcomes = play(steps(tests), Bill(costs, 0.7, 5.0), Account(preparation=True, baseline=True), every)
    for order, cost_N, test_N in zip(every, outcomes.cost, outcomes.test, strict=True):
        spent, best = 5.7, 0.5
        for place, cost, test in zip(order, cost_N, test_N, strict=True):
            spent, best = spent + costs[place], max(best, tests[place])
            assert (cost, test) == (pytest.approx(spent, abs=1e-12), best)
    budgets = np.array([0.0, 5.7 + costs.min(), 6.2, 100.0])
    exact = [
        [max([0.5, *(tests[p] for n, p in enumerate(order) if 5.7 + costs[order[: n + 1]].sum() <= b + 1e-12)]) for order in every]
        for b in budgets
    ]
    np.testing.assert_allclose(outcomes.at(budgets), exact, atol=1e-12)


def test_with_equal_costs_random_orders_agree_with_the_exact_curve():
    tests = np.random.default_rng(1).random(20)
    outcomes = play(steps(tests), Bill(np.ones(20), 0.0, 0.0), Account(), orders(20, repeats=4000))
    np.testing.assert_allclose(outcomes.test.mean(axis=0), expected(steps(tests)), atol=0.01)


def test_orders_are_permutations_and_the_same_at_every_call():
    found = orders(7, repeats=50)
    assert (np.sort(found, axis=1) == np.arange(7)).all()
    assert len({tuple(order) for order in found.tolist()}) > 45
    np.testing.assert_array_equal(found, orders.__wrapped__(7, 50, 0))
    assert (orders(7, repeats=50, seed=1) != found).any()


def phases(store, method="sap"):
    """Costs by phase for each setting of a method: 0.4 of its second is preparation."""
    for row in store.rows:
        if row.method == method:
            store.curve(row.run_id, [("cost/collect/seconds", 0, 0.3), ("cost/factor/seconds", 0, 0.1), ("cost/build/seconds", 0, 0.6),
                                     ("cost/collect/seconds_alone", 0, 0.9)])  # fmt: skip


def search_of(store, method="sap"):
    results = load([store.write()])
    return results, next(many for key, many in cells(results)[0].methods.items() if key[0] == method)[0]


def test_a_bill_by_hand(small):
    phases(small)
    results, sap = search_of(small)
    bill = bill_of(results, sap, "seconds")
    np.testing.assert_allclose(bill.own, [0.6, 0.6, 0.6])
    assert (bill.preparation, bill.baseline, bill.by_phase) == (pytest.approx(1.2), 10.0, True)
    assert bill.total(Account()) == pytest.approx(3.0)  # what the comparison calls shared
    assert bill.total(Account(preparation=False)) == pytest.approx(1.8)
    assert bill.total(Account(baseline=True)) == pytest.approx(13.0)
    assert bill_of(results, sap, "trials").total(Account(baseline=True)) == 3
    assert bill_of(results, sap, "passes") is None  # the rows do not say
    assert by_itself(sap.rows.iloc[0], "seconds") == 4.0


def test_without_costs_by_phase_preparation_is_spread_and_that_is_said(small):
    results, sap = search_of(small)
    bill = bill_of(results, sap, "seconds")
    np.testing.assert_allclose(bill.own, [1, 1, 1])
    assert (bill.preparation, bill.by_phase) == (0.0, False)


def test_seconds_need_a_device_of_ones_own(small):
    _, sap = search_of(small)
    assert seconds_allowed([sap], Account(baseline=True))
    small.rows = [replace(row, jobs_on_device=3) if row.method == "vanilla" else row for row in small.rows]
    _, sap = search_of(small)
    assert seconds_allowed([sap], Account())
    assert not seconds_allowed([sap], Account(baseline=True))


def test_the_ladder_ends_at_the_tables_choice(small):
    for method in ("sap", "scrub"):
        _, search = search_of(small, method)
        assert ladder_of(search, "val_noisy").final == float(search.choose("val_noisy").row["test_acc"])


def test_costs_to_a_target_by_hand():
    curve = Reach(np.array([1.0, 2.0, 4.0, 8.0]), np.array([[0.5, 0.6, 0.68, 0.7], [0.5, 0.6, 0.72, 0.7]]), np.array([0.5, 0.5]))
    assert curve.best_gain() == pytest.approx(0.2)
    assert [curve.cost_to(gain) for gain in (0.0, 0.1, 0.11, 0.2, 0.21)] == [1, 2, 4, 4, np.inf]
    assert curve.cost_to(0.2, [0]) == 8
    assert curve.best_gain([0, 0, 1]) == pytest.approx(0.2)


def test_ratio_of_costs_to_the_common_target():
    cheap = Reach(np.array([1.0, 2.0]), np.array([[0.6, 0.7]] * 3), np.full(3, 0.5))
    dear = Reach(np.array([10.0, 20.0, 40.0]), np.array([[0.6, 0.7, 0.9], [0.7, 0.7, 0.9], [0.6, 0.7, 0.9]]), np.full(3, 0.5))
    ratio = ratio_to_target(cheap, dear)
    assert (ratio.value, ratio.target) == (10, pytest.approx(0.19))  # 20 against 2: the target is the smaller search's
    assert (ratio.low, ratio.high) == (5, 10)  # resamples of the second seed alone reach it with 10
    nothing = Reach(np.array([1.0]), np.array([[0.5]] * 3), np.full(3, 0.5))
    assert np.isnan(ratio_to_target(cheap, nothing).value)


def test_probability_of_being_ahead_counts_pairs_of_orders_and_half_of_ties():
    first = play(steps([0.6, 0.8]), Bill(np.ones(2), 0.0, 0.0), Account(), np.array([[0, 1], [1, 0]]))
    second = play(steps([0.6, 0.7]), Bill(np.ones(2), 0.0, 0.0), Account(), np.array([[0, 1], [1, 0]]))
    # after one trial: (.6, .6) tie, (.6, .7) lost, (.8, .6) and (.8, .7) won
    assert ahead([first], [second], 1.0) == 2.5 / 4
    assert ahead([first], [second], 0.5) == 0.5  # neither has a setting yet
    assert ahead([first], [second], 2.0) == 1.0


def test_the_band_is_exact_in_trials_and_of_random_orders_otherwise():
    rng = np.random.default_rng(5)
    ladders = [steps(rng.random(12)) for _ in range(2)]
    bills = [Bill(np.ones(12), 0.0, 0.0)] * 2
    exact = band(one(ladders, bills, "trials"), Account(), np.arange(1.0, 13))
    played = band(one(ladders, bills), Account(), np.arange(1.0, 13))
    assert exact.shape == (2, 12)
    assert (exact[0] <= exact[1]).all()
    assert (np.abs(exact - played) > 0.15).mean() < 0.1  # a step of a distribution may fall to either side
    assert BAND == (0.1, 0.9)


def test_contenders_on_common_seeds(small):
    results = load([small.write()])
    cell = cells(results)[0]
    sap = contender(results, "sap", "alpha16", cell.methods["sap", "alpha16"], "val_noisy", "trials")
    assert sap.only([2]).ladders == (sap.ladders[1],)
    curve = reach(sap, Account())
    np.testing.assert_allclose(curve.test[0], [0.80, (0.80 + 0.82 + 0.80) / 3, 0.80])
    assert contender(results, "sap", "alpha16", cell.methods["sap", "alpha16"], "val_noisy", "passes") is None

import itertools
from dataclasses import replace

import numpy as np
import pytest

from analysis.store.load import load
from analysis.store.results import cells
from analysis.tuning.anytime import (
    CostItems,
    CostRecord,
    cost_record,
    random_orders,
    rank_search,
    seconds_comparable,
    simulate_orders,
    standalone_cost,
)
from analysis.tuning.best_of_k import expected_test_scores, rank_settings
from analysis.tuning.head_to_head import (
    BAND,
    AnytimeCurve,
    Chance,
    MethodSearches,
    anytime_curves,
    band,
    cost_ratio_to_target,
    mean_scores,
    method_searches,
    probability_ahead,
)
from analysis.tuning.intervals import Bounds


def ranking(tests, unmodified=0.5):
    """A ranking whose validation scores equal its test scores."""
    return rank_settings(unmodified, unmodified, np.array(tests), np.array(tests))


def one(rankings, costs, unit="seconds", method="sap"):
    return MethodSearches(method, "space", tuple(range(len(rankings))), (None,) * len(rankings), tuple(rankings), tuple(costs), unit)


def test_simulation_equals_enumeration_of_all_orders():
    rng = np.random.default_rng(3)
    tests, costs = rng.random(4), rng.random(4)
    every = np.array(list(itertools.permutations(range(4))))
    trajectories = simulate_orders(ranking(tests), CostRecord(costs, 0.7, 5.0), CostItems(preparation=True, baseline=True), every)
    for order, cost_N, test_N in zip(every, trajectories.cost, trajectories.test, strict=True):
        spent, best = 5.7, 0.5
        for place, cost, test in zip(order, cost_N, test_N, strict=True):
            spent, best = spent + costs[place], max(best, tests[place])
            assert (cost, test) == (pytest.approx(spent, abs=1e-12), best)
    budgets = np.array([0.0, 5.7 + costs.min(), 6.2, 100.0])
    exact = [
        [max([0.5, *(tests[p] for n, p in enumerate(order) if 5.7 + costs[order[: n + 1]].sum() <= b + 1e-12)]) for order in every]
        for b in budgets
    ]
    np.testing.assert_allclose(trajectories.at(budgets), exact, atol=1e-12)


def test_with_equal_costs_random_orders_agree_with_the_exact_curve():
    tests = np.random.default_rng(1).random(20)
    trajectories = simulate_orders(ranking(tests), CostRecord(np.ones(20), 0.0, 0.0), CostItems(), random_orders(20, repeats=4000))
    np.testing.assert_allclose(trajectories.test.mean(axis=0), expected_test_scores(ranking(tests)), atol=0.01)


def test_orders_are_permutations_and_the_same_at_every_call():
    found = random_orders(7, repeats=50)
    assert (np.sort(found, axis=1) == np.arange(7)).all()
    assert len({tuple(order) for order in found.tolist()}) > 45
    np.testing.assert_array_equal(found, random_orders.__wrapped__(7, 50, 0))
    assert (random_orders(7, repeats=50, seed=1) != found).any()


def phases(store, method="sap"):
    """Costs by phase for each setting of a method: 0.4 of its second is preparation."""
    for row in store.rows:
        if row.method == method:
            store.curve(row.run_id, [("cost/collect/seconds", 0, 0.3), ("cost/factor/seconds", 0, 0.1), ("cost/build/seconds", 0, 0.6),
                                     ("cost/collect/standalone_seconds", 0, 0.9)])  # fmt: skip


def search_of(store, method="sap"):
    results = load([store.write()])
    return results, next(many for key, many in cells(results)[0].methods.items() if key[0] == method)[0]


def test_a_cost_record_by_hand(small):
    phases(small)
    results, sap = search_of(small)
    cost = cost_record(results, sap, "seconds")
    np.testing.assert_allclose(cost.own, [0.6, 0.6, 0.6])
    assert (cost.preparation, cost.baseline, cost.by_phase) == (pytest.approx(1.2), 10.0, True)
    assert cost.total(CostItems()) == pytest.approx(3.0)  # what the comparison calls shared
    assert cost.total(CostItems(preparation=False)) == pytest.approx(1.8)
    assert cost.total(CostItems(baseline=True)) == pytest.approx(13.0)
    assert cost_record(results, sap, "trials").total(CostItems(baseline=True)) == 3
    assert cost_record(results, sap, "passes") is None  # the rows do not say
    assert standalone_cost(sap.rows.iloc[0], "seconds") == 4.0


def test_without_costs_by_phase_preparation_is_part_of_own(small):
    results, sap = search_of(small)
    cost = cost_record(results, sap, "seconds")
    np.testing.assert_allclose(cost.own, [1, 1, 1])
    assert (cost.preparation, cost.by_phase) == (0.0, False)


def test_seconds_need_an_exclusive_device(small):
    _, sap = search_of(small)
    assert seconds_comparable([sap], CostItems(baseline=True))
    small.rows = [replace(row, jobs_on_device=3) if row.method == "vanilla" else row for row in small.rows]
    _, sap = search_of(small)
    assert seconds_comparable([sap], CostItems())
    assert not seconds_comparable([sap], CostItems(baseline=True))


def test_the_ranking_ends_at_the_selected_setting(small):
    for method in ("sap", "scrub"):
        _, search = search_of(small, method)
        assert rank_search(search, "val_noisy").final == float(search.choose("val_noisy").row["test_acc"])


def test_costs_to_a_target_by_hand():
    curve = AnytimeCurve(np.array([1.0, 2.0, 4.0, 8.0]), np.array([0.0, 0.1, 0.22, 0.2]))
    assert curve.best_gain == 0.22
    assert [curve.cost_to(gain) for gain in (0.0, 0.1, 0.11, 0.2)] == [Bounds(cost, cost) for cost in (1, 2, 4, 4)]
    assert curve.cost_to(0.23) == Bounds(8, np.inf)  # never reached: at least the complete search
    assert curve.cost_to_share(0.5) == Bounds(4, 4)
    assert AnytimeCurve(np.array([1.0]), np.array([0.0])).cost_to_share(0.5) is None


def curves(budgets, *gains):
    return [AnytimeCurve(np.array(budgets, dtype=float), np.array(gain)) for gain in gains]


def test_ratio_of_costs_to_the_common_target_by_hand():
    cheap = curves([1, 2], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2])
    dear = curves([10, 20, 40], [0.1, 0.2, 0.4], [0.2, 0.2, 0.4], [0.0, 0.1, 0.4])
    ratio = cost_ratio_to_target(cheap, dear)
    assert ratio.seeds == (Bounds(10, 10), Bounds(5, 5), Bounds(20, 20))  # 2 against 20, 10, 40: the target is the smaller search's
    assert ratio.target.mean == pytest.approx(0.19)
    assert ratio.value.low == ratio.value.high == pytest.approx(10)
    # Student's t on log 10, log 5, log 20
    mean, error = np.log(10), np.log(2) / np.sqrt(3)
    assert (ratio.interval.low, ratio.interval.high) == pytest.approx((np.exp(mean - 4.302653 * error), np.exp(mean + 4.302653 * error)))


def test_a_seed_that_never_reaches_the_target_is_kept_and_leaves_the_interval_open():
    cheap = curves([1, 2], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2])
    dear = curves([10, 20, 40], [0.1, 0.2, 0.4], [0.2, 0.2, 0.4], [0.0, 0.0, 0.0])
    ratio = cost_ratio_to_target(cheap, dear)
    assert ratio.seeds[2] == Bounds(20, np.inf)  # its complete search, 40, against 2
    assert (ratio.value.low, ratio.value.high) == (pytest.approx(10), np.inf)
    assert 0 < ratio.interval.low < 10
    assert ratio.interval.high == np.inf
    other_way = cost_ratio_to_target(dear, cheap)
    assert other_way.value == Bounds(0.0, pytest.approx(0.1))
    assert other_way.interval == Bounds(0.0, pytest.approx(1 / ratio.interval.low))


def test_without_any_gain_there_is_no_ratio():
    nothing, something = curves([1, 2], [0.0, 0.0], [0.0, 0.0]), curves([1, 2], [0.0, 0.1], [0.0, 0.0])
    ratio = cost_ratio_to_target(nothing, nothing)
    assert (ratio.value, ratio.interval) == (None, None)
    # on the second seed neither gains anything: nothing is known of the mean
    assert cost_ratio_to_target(something, something).value == Bounds(0.0, np.inf)


def test_one_seed_has_no_interval():
    ratio = cost_ratio_to_target(curves([1, 2], [0.1, 0.2]), curves([3, 5], [0.1, 0.2]))
    assert (ratio.value, ratio.interval) == (Bounds(2.5, 2.5), None)


def test_rounding_errors_are_no_gain():
    """Three seeds at .1, .2 and .3: their mean differs from .2 by 6e-17, and so do expectations over settings."""
    tests = [0.1 + 0.2, 0.3, 0.3 - 1e-16]
    rankings = [rank_settings(0.2, 0.3, np.array([0.5, 0.6, 0.7]), np.array(tests))] * 2
    for unit, cost in (("trials", CostRecord(np.ones(3), 0.0, 0.0)), ("seconds", CostRecord(np.array([0.1, 0.2, 0.3]), 0.1, 0.0))):
        for curve in anytime_curves(one(rankings, [cost] * 2, unit), CostItems()):
            assert curve.best_gain == 0
            assert curve.cost_to_share(0.99) is None


def test_costs_to_targets_never_exceed_the_complete_search():
    rng = np.random.default_rng(4)
    rankings = [ranking(rng.random(30)) for _ in range(3)]
    costs = [CostRecord(rng.random(30) * 10**seed, 0.3, 7.0) for seed in range(3)]
    searches = one(rankings, costs)
    for items in (CostItems(), CostItems(preparation=False), CostItems(baseline=True)):
        for curve, cost in zip(anytime_curves(searches, items), costs, strict=True):
            assert curve.budgets[-1] == pytest.approx(cost.total(items))
            found = [curve.cost_to_share(share).high for share in (0.5, 0.9, 0.95, 0.99, 1.0)]
            assert found == sorted(found)
            assert found[-1] <= cost.total(items) * (1 + 1e-12)


def test_the_monte_carlo_error_of_a_cost_agrees_with_repetitions():
    ranks, cost = ranking(np.random.default_rng(5).random(40)), CostRecord(np.random.default_rng(6).random(40), 0.0, 0.0)
    (curve,) = anytime_curves(one([ranks], [cost]), CostItems())
    gain = 0.9 * curve.best_gain
    again = [
        curve.budgets[
            np.flatnonzero(
                simulate_orders(ranks, cost, CostItems(), random_orders(40, 100, seed)).at(curve.budgets).mean(axis=1) - 0.5 >= gain
            )[0]
        ]
        for seed in range(1, 31)
    ]
    # 100 orders a repetition against 1,000: the error is smaller by the square root of ten
    assert curve.error(gain) == pytest.approx(np.std(again, ddof=1) / np.sqrt(10), rel=0.7)


def test_probability_of_being_ahead_counts_pairs_of_orders_and_half_of_ties():
    first = simulate_orders(ranking([0.6, 0.8]), CostRecord(np.ones(2), 0.0, 0.0), CostItems(), np.array([[0, 1], [1, 0]]))
    second = simulate_orders(ranking([0.6, 0.7]), CostRecord(np.ones(2), 0.0, 0.0), CostItems(), np.array([[0, 1], [1, 0]]))
    # after one trial: (.6, .6) tie, (.6, .7) lost, (.8, .6) and (.8, .7) won
    assert probability_ahead([first], [second], 1.0).value == 2.5 / 4
    assert probability_ahead([first], [second], 0.5) == Chance(0.5, 0.0)  # neither has a setting yet
    assert probability_ahead([first], [second], 2.0) == Chance(1.0, 0.0)


def test_the_monte_carlo_error_of_a_chance_agrees_with_repetitions():
    rng = np.random.default_rng(2)
    ranks, cost = [ranking(rng.random(20)) for _ in range(2)], CostRecord(np.ones(20), 0.0, 0.0)

    def chance(seed, repeats):
        first, second = (simulate_orders(some, cost, CostItems(), random_orders(20, repeats, 2 * seed + n)) for n, some in enumerate(ranks))
        return probability_ahead([first], [second], 5.0)

    found = [chance(seed, 50) for seed in range(200)]
    assert np.mean([one.error for one in found]) == pytest.approx(np.std([one.value for one in found], ddof=1), rel=0.15)


def test_the_band_is_exact_in_trials_and_of_random_orders_otherwise():
    rng = np.random.default_rng(5)
    rankings = [ranking(rng.random(12)) for _ in range(2)]
    costs = [CostRecord(np.ones(12), 0.0, 0.0)] * 2
    exact = band(one(rankings, costs, "trials"), CostItems(), np.arange(1.0, 13))
    played = band(one(rankings, costs), CostItems(), np.arange(1.0, 13))
    assert exact.shape == (2, 12)
    assert (exact[0] <= exact[1]).all()
    assert (np.abs(exact - played) > 0.15).mean() < 0.1  # a step of a distribution may fall to either side
    assert BAND == (0.1, 0.9)


def test_method_searches_on_common_seeds(small):
    results = load([small.write()])
    cell = cells(results)[0]
    sap = method_searches(results, "sap", "alpha16", cell.methods["sap", "alpha16"], "val_noisy", "trials")
    assert sap.restrict_to_seeds([2]).rankings == (sap.rankings[1],)
    budgets, scores = mean_scores(sap, CostItems())
    assert budgets.tolist() == [1, 2, 3]
    np.testing.assert_allclose(scores[0], [0.80, (0.80 + 0.82 + 0.80) / 3, 0.80])
    np.testing.assert_allclose(anytime_curves(sap, CostItems())[0].gain, scores[0] - 0.74)
    assert method_searches(results, "sap", "alpha16", cell.methods["sap", "alpha16"], "val_noisy", "passes") is None

import math

import numpy as np
import pytest
from scipy import stats

from analysis.claims.evidence import Difference, Sizes
from analysis.claims.judge import FAILS, HOLDS, NO_EVIDENCE, UNDECIDED, Estimate, in_cell, judge, judge_sizes, verdict_of
from analysis.claims.spec import Claim, Region
from analysis.store.stats import Summary, summarise

ABOVE = Region(low=0, strict=True)


def paired(*values, cell="a"):
    return Difference(cell, summarise(values), summarise([0.0] * len(values)), dict(enumerate(values)))


def printed(mean, std, other=50.0, cell="a"):
    return Difference(cell, Summary(other + mean, std, 3), Summary(other, std, 3), {})


def claim(**fields):
    return Claim("c", "c", "C.", **{"cells": "average", "region": ABOVE, **fields})


@pytest.mark.parametrize("region", [ABOVE, Region(-1, 1), Region(0.5, 1.5)])
def test_verdicts_agree_with_scipys_intervals(region):
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        values = rng.normal(rng.uniform(-2, 2), rng.uniform(0.05, 1), 4)
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        wanted = HOLDS if region.contains(low) and region.contains(high) else FAILS if high < region.low or low > region.high else UNDECIDED
        assert judge(claim(region=region), [paired(*values)], "store").verdict == wanted
        seen.add(wanted)
    assert seen == {HOLDS, FAILS, UNDECIDED}


def test_the_p_value_is_that_of_the_t_test_against_the_bound():
    values = (0.4, 0.9, 1.3)
    found = judge(claim(region=Region(low=0.1)), [paired(*values)], "store")
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0.1).pvalue)


def test_equivalence_has_the_larger_p_value_of_the_two_bounds():
    values = (0.9, 1.0, 1.2)
    found = judge(claim(region=Region(0.5, 2.0)), [paired(*values)], "store")
    assert found.p == pytest.approx(max(stats.ttest_1samp(values, bound).pvalue for bound in (0.5, 2.0)))


def test_published_numbers_are_compared_by_welchs_test():
    one, other = Summary(52.0, 0.4, 3), Summary(50.0, 0.9, 3)
    found = judge(claim(), [Difference("a", one, other, {})], "published")
    wanted = stats.ttest_ind_from_stats(52.0, 0.4, 3, 50.0, 0.9, 3, equal_var=False)
    assert found.p == pytest.approx(wanted.pvalue)


def test_one_seed_is_undecided():
    assert judge(claim(), [paired(5.0)], "store").verdict == UNDECIDED
    assert judge(claim(), [printed(5.0, None)], "published").verdict == UNDECIDED


def test_a_zero_gain_on_every_seed_is_not_more_than_zero():
    assert judge(claim(), [paired(0.0, 0.0, 0.0)], "store").verdict == FAILS
    assert judge(claim(region=Region(low=-1)), [paired(0.0, 0.0, 0.0)], "store").verdict == HOLDS
    # rounding errors of float64 are no gain
    assert judge(claim(), [paired(1e-15, 0.0, -1e-15)], "store").verdict == FAILS
    # without variance there is no t-test
    assert judge(claim(), [paired(1.0, 1.0, 1.0)], "store").verdict == UNDECIDED


def test_a_claim_about_every_cell_needs_each_cell():
    good, bad, unclear = paired(2.0, 2.1, 1.9), paired(-2.0, -2.1, -1.9, cell="b"), paired(-2.0, 2.0, 0.1, cell="c")
    every = claim(cells="every")
    assert judge(every, [good, good], "store").verdict == HOLDS
    assert judge(every, [good, unclear], "store").verdict == UNDECIDED
    failed = judge(every, [good, bad, unclear], "store")
    assert (failed.verdict, failed.estimate.mean, failed.cells) == (FAILS, pytest.approx(-2.0), 3)
    assert (failed.inside, failed.statistic) == (2, "b")


def test_refuting_a_claim_about_every_cell_is_corrected_for_the_number_of_cells():
    weak = paired(-1.0, -1.6, -0.9)
    assert 0.02 < stats.ttest_1samp((-1.0, -1.6, -0.9), 0).pvalue < 0.05
    every = claim(cells="every")
    assert judge(every, [weak], "store").verdict == FAILS
    assert judge(every, [weak, paired(-1.0, 0.5, -0.9), paired(-1.0, 0.7, -0.9)], "store").verdict == UNDECIDED


def test_cells_with_the_same_seeds_are_averaged_by_seed():
    cells = [paired(1.0, 2.0, 3.0), paired(2.0, 4.0, 3.0, cell="b")]
    found = judge(claim(), cells, "store")
    assert found.p == pytest.approx(stats.ttest_1samp([1.5, 3.0, 3.0], 0).pvalue)
    over = judge(claim(sample="cells"), cells, "store")
    assert over.p == pytest.approx(stats.ttest_1samp([2.0, 3.0], 0).pvalue)


def test_other_cells_are_combined_by_satterthwaites_formula():
    cells = [paired(1.0, 2.0, 3.0), Difference("b", summarise([3.0, 4.5]), summarise([0.0, 0.0]), {7: 3.0, 8: 4.5})]
    estimate = judge(claim(), cells, "store").estimate
    variances = [np.var([1, 2, 3], ddof=1) / 3 / 4, np.var([3, 4.5], ddof=1) / 2 / 4]
    assert estimate.error == pytest.approx(math.sqrt(sum(variances)))
    assert estimate.degrees == pytest.approx(sum(variances) ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / 1))


@pytest.mark.parametrize(("region", "expected"), [(ABOVE, 1.0), (Region(-2, 2), 0.0)])
def test_power_agrees_with_simulation(region, expected):
    estimate = Estimate(0.3, 0.35, 9, 10)
    draws = np.random.default_rng(0).normal(expected, 0.35 * math.sqrt(10), (20_000, 10))
    mean, error = draws.mean(1), draws.std(1, ddof=1) / math.sqrt(10)
    half = stats.t.ppf(0.975, 9) * error
    share = np.mean((mean - half > region.low) & (mean + half < region.high))
    assert estimate.power(region, expected) == pytest.approx(share, abs=0.02)


def test_without_a_cell_there_is_no_verdict():
    assert judge(claim(), [], "store").verdict == NO_EVIDENCE


def test_sizes_of_searches_are_counted():
    sizes = Claim("n", "n", "N.", settings={"sap": 16})
    assert judge_sizes(sizes, Sizes({"sap": (16,)}, 2), "store").verdict == HOLDS
    assert judge_sizes(sizes, Sizes({"sap": (5, 16)}, 2), "store").verdict == FAILS
    assert judge_sizes(sizes, Sizes({"sap": ()}, 2), "store").verdict == NO_EVIDENCE


def test_the_estimate_of_a_cell_is_paired_where_seeds_are_known():
    assert in_cell(paired(1.0, 2.0, 4.5)).error == pytest.approx(stats.sem([1.0, 2.0, 4.5]))
    assert verdict_of(in_cell(printed(5.0, 0.1)), ABOVE) == HOLDS

"""Exact p-values by hand."""

from itertools import product
from math import comb

import pytest

from sap_core.mcnemar import LEVEL, McNemarTest


def tail(won, discordant):
    """P(at least `won` heads of `discordant` coins), by counting."""
    return sum(comb(discordant, heads) for heads in range(won, discordant + 1)) / 2**discordant


@pytest.mark.parametrize(("won", "lost", "tried"), [*product((0, 1, 5, 14), (0, 2, 9), (1, 16))])
def test_the_p_value_is_the_sign_tests_times_the_settings(won, lost, tried):
    found = McNemarTest(lost, won, 300, tried)
    assert found.p_value == pytest.approx(min(1.0, tried * tail(won, won + lost)))
    assert found.significant == (tried * tail(won, won + lost) <= LEVEL)


def test_by_exhaustion_no_gain_is_recommended_with_probability_level_at_most():
    """Two equally good models, ten discordant samples, 16 settings: what share of all outcomes is called better?"""
    found = sum(comb(10, won) for won in range(11) if McNemarTest(10 - won, won, 100, 16).significant) / 2**10
    assert 0 < 16 * found <= LEVEL


def test_the_samples_that_would_decide_are_the_fewest_at_the_observed_rates():
    found = McNemarTest(newly_wrong=4, newly_right=8, samples=100, num_settings=16)
    assert not found.significant
    needed = found.samples_needed
    discordant = next(count for count in range(1, 1000) if 16 * tail(count * 8 // 12, count) <= LEVEL)
    assert needed == -(-discordant * 100 // 12)
    assert needed > 100
    assert McNemarTest(8, 8, 100, 16).samples_needed is None
    assert McNemarTest(0, 0, 100, 16).samples_needed is None
    assert McNemarTest(1_000_000, 1_000_001, 10_000_000, 1).samples_needed is None

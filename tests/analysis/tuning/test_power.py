import math

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from analysis.tuning.power import POWER, detectable_difference, expected_maximum, optimism, power, seeds_needed


@pytest.mark.parametrize(("paired", "test"), [(True, ttest_rel), (False, ttest_ind)])
def test_power_agrees_with_simulation(paired, test):
    rng = np.random.default_rng(0)
    first, second = rng.normal(0.0, 1.0, (2, 20_000, 5))
    if paired:
        second = first + rng.normal(1.3, 1.0, first.shape)
    else:
        second = second + 1.3
    found = test(second, first, axis=1)
    seen = float(((found.pvalue <= 0.05) & (found.statistic > 0)).mean())
    assert power(1.3, 1.0, 5, paired) == pytest.approx(seen, abs=0.012)


@pytest.mark.parametrize("paired", [True, False])
def test_a_just_detectable_difference_needs_that_number_of_seeds(paired):
    for n in (2, 3, 5, 20):
        difference = detectable_difference(0.5, n, paired)
        assert power(difference, 0.5, n, paired) == pytest.approx(POWER, abs=1e-6)
        assert seeds_needed(difference * 1.0001, 0.5, paired) == n
        assert seeds_needed(difference * 0.99, 0.5, paired) in (n, n + 1)


def test_known_numbers():
    # the published difference on CIFAR-100, .39, at its cells' standard deviations of .4 to .6, three seeds
    assert (seeds_needed(0.39, 0.4, paired=False), seeds_needed(0.39, 0.6, paired=False)) == (18, 39)
    assert detectable_difference(0.5, 1) == math.inf
    assert detectable_difference(0.0, 3) == 0
    assert seeds_needed(0.0, 1.0) is None


def test_expected_maximum_of_normal_numbers():
    assert expected_maximum(1) == pytest.approx(0, abs=1e-9)
    assert expected_maximum(2) == pytest.approx(1 / math.sqrt(math.pi), abs=1e-6)
    assert expected_maximum(3) == pytest.approx(1.5 / math.sqrt(math.pi), abs=1e-6)
    draws = np.random.default_rng(0).normal(size=(20_000, 16)).max(axis=1)
    assert expected_maximum(16) == pytest.approx(draws.mean(), abs=0.02)
    assert optimism(675, 0.85, 5000) - optimism(16, 0.85, 5000) == pytest.approx(0.0069, abs=1e-4)

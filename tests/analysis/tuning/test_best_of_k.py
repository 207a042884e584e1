import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.store.selection_rule import choose
from analysis.tuning.best_of_k import best_rank_probabilities, expected_test_scores, quantiles, rank_settings, weighted_quantiles

score = st.one_of(st.just(math.nan), st.integers(0, 3).map(float))
search = st.lists(st.tuples(score, st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9])), min_size=1, max_size=6)


def selected(unmodified, entries, places):
    """The test score of the model that the selection rule selects among the settings at `places`."""
    rows = pd.DataFrame(
        [
            {
                "position": place, "status": "failed" if math.isnan(entries[place][0]) else "ok", "val_noisy_acc": entries[place][0],
                "test_acc": entries[place][1], "settings": "{}",
            }
            for place in places
        ]
    )  # fmt: skip
    vanilla = pd.Series({"status": "ok", "val_noisy_acc": float(unmodified), "test_acc": 0.25})
    choice = choose(vanilla, rows, [{}], "val_noisy")
    return 0.25 if choice.row is None else float(choice.row["test_acc"])  # no row: every setting failed, the unmodified model stays


@settings(max_examples=25)
@given(st.integers(0, 3), search)
def test_expectation_equals_enumeration_of_all_subsets(unmodified, entries):
    ranking = rank_settings(unmodified, 0.25, np.array([one for one, _ in entries]), np.array([test for _, test in entries]))
    exact = [
        np.mean([selected(unmodified, entries, places) for places in itertools.combinations(range(len(entries)), k)])
        for k in range(1, len(entries) + 1)
    ]
    np.testing.assert_allclose(expected_test_scores(ranking), exact, atol=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 3), search, search)
def test_quantiles_equal_enumeration_over_subsets_and_seeds(unmodified, first, second):
    rankings, worlds = [], []
    for entries in (first, second):
        ranking = rank_settings(unmodified, 0.25, np.array([one for one, _ in entries]), np.array([test for _, test in entries]))
        rankings.append(ranking)
        worlds.append(entries)
    found = quantiles(rankings, (0.1, 0.5, 0.9))
    for k in range(1, found.shape[1] + 1):
        trajectories, weights = [], []
        for entries in worlds:
            subsets = list(itertools.combinations(range(len(entries)), k))
            trajectories += [selected(unmodified, entries, places) for places in subsets]
            weights += [1 / len(subsets)] * len(subsets)
        order = np.argsort(trajectories)
        exact = weighted_quantiles(np.array(trajectories)[order], np.array(weights)[order], (0.1, 0.5, 0.9))
        np.testing.assert_array_equal(found[:, k - 1], exact)


def test_rank_probabilities_are_binomial_coefficients_and_sum_to_one_at_675_settings():
    for k, chance_N in enumerate(best_rank_probabilities(675), start=1):
        assert chance_N.sum() == pytest.approx(1, abs=1e-12)
        if k in (1, 16, 400, 675):
            exact = [math.comb(i - 1, k - 1) / math.comb(675, k) for i in range(1, 676)]
            np.testing.assert_allclose(chance_N, exact, rtol=1e-12, atol=0)


def test_without_the_unmodified_model_it_is_the_estimator_of_tang():
    scores = np.array([0.3, 0.9, 0.5, 0.7])
    found = expected_test_scores(rank_settings(-math.inf, 0.0, scores, scores))
    exact = [np.mean([max(some) for some in itertools.combinations(scores, k)]) for k in range(1, 5)]
    np.testing.assert_allclose(found, exact, atol=1e-12)
    dodge = [sum(v * ((i / 4) ** k - ((i - 1) / 4) ** k) for i, v in enumerate(sorted(scores), 1)) for k in range(1, 5)]
    assert all(with_replacement <= exact_one + 1e-12 for with_replacement, exact_one in zip(dodge, found, strict=True))

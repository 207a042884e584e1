"""Tests of the table `recommendation`: exact p-values by hand, and the printed advice."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest

from analysis.__main__ import main
from analysis.store.load import load
from analysis.tables.recommendation import recommendation, recommendation_for_own_data
from analysis.tuning.mcnemar import LEVEL, McNemarTest


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


@pytest.fixture
def own(maker):
    """One baseline without added noise; SAP with two settings, of which the second is chosen, as a test sets won and lost."""

    def make(won, lost, score=0.7, noise_rate=0.0):
        maker.baseline(1, 0.6, None, 0.6, noise="none", noise_rate=noise_rate, num_val=50)
        counts = {"val_newly_right": won, "val_newly_wrong": lost, "num_val": 50, "noise": "none", "noise_rate": noise_rate}
        settings = [{"alpha": 3000.0, "num_trusted": 20}, {"alpha": 2000.0, "num_trusted": 20}]
        maker.search("sap", "alpha16", 1, settings, [(0.6, None, 0.6), (score, None, 0.7)], **counts)
        return load([maker.write()])

    return make


def words(results):
    (table,) = recommendation(results)
    (row,) = table.rows
    return {column.key: cell.text for column, cell in zip(table.columns, row, strict=True)}


def test_a_clear_gain_is_recommended(own):
    printed = words(own(won=12, lost=0))
    assert printed["recommendation"] == "use the corrected model"
    assert printed["chosen"] == "alpha=2000"
    assert (
        printed["settings_tried"],
        printed["val_samples"],
        printed["val_newly_right"],
        printed["val_newly_wrong"],
        printed["p_value"],
    ) == (
        "2",
        "50",
        "12",
        "0",
        "0.0005",
    )


def test_a_gain_that_chance_could_give_is_not(own):
    printed = words(own(won=5, lost=1))
    needed = McNemarTest(1, 5, 50, 2).samples_needed
    assert printed["recommendation"] == f"keep the unmodified model; about {needed} validation samples would decide"


def test_where_no_setting_is_better_the_model_is_kept(own):
    assert words(own(won=5, lost=5, score=0.6))["recommendation"] == "keep the unmodified model: no setting is better"


def test_rows_without_counts_make_no_table(own, small):
    assert recommendation(own(won=None, lost=None)) == ()
    assert recommendation(load([small.write()])) == ()


def test_the_report_prints_it_where_no_noise_was_added(own, capsys):
    results = own(won=12, lost=0)
    store = str(results.stores[0])
    assert main([store]) == 0
    assert "use the corrected model" in capsys.readouterr().out
    assert main([store, "table", "recommendation"]) == 0
    assert "use the corrected model" in capsys.readouterr().out


def test_the_report_leaves_it_to_the_folder_where_noise_was_added(own):
    results = own(won=12, lost=0, noise_rate=0.25)
    assert recommendation_for_own_data(results) == ()
    assert len(recommendation(results)) == 1


def test_a_search_in_which_every_setting_failed_gets_no_recommendation(maker):
    maker.baseline(1, 0.6, None, 0.6, noise="none", noise_rate=0.0, num_val=50)
    settings = [{"alpha": 3000.0, "num_trusted": 20}, {"alpha": 2000.0, "num_trusted": 20}]
    failed = {"status": "failed", "error_type": "diverged", "noise": "none", "noise_rate": 0.0}
    maker.search("sap", "alpha16", 1, settings, [(0.6, None, 0.6), (0.7, None, 0.7)], **failed)
    results = load([maker.write()])
    assert words(results)["recommendation"] == "no recommendation: every setting failed (2 diverged)"
    assert len(recommendation_for_own_data(results)) == 1

"""Optuna: both ask-and-tell implementations agree, random search draws without replacement, user samplers are checked."""

import pytest
from optuna.samplers import RandomSampler, TPESampler

from sap_core.errors import UserError
from sap_core.seeding import stream
from sweeper.backends.ray_backend import TuneAsker
from sweeper.config.search_space import SearchSpace
from sweeper.search.encoding import SettingSpace, setting_key
from sweeper.search.samplers import build_sampler, check_sampler, distributions, random_order, run_trials

LISTED = SettingSpace(SearchSpace.parse("s", {"a": {"grid": [1.0, 2.0, 3.0, 4.0]}, "b": {"choice": ["x", "y", "z"]}}).domains)
MIXED = SettingSpace(
    SearchSpace.parse("s", {"a": {"loguniform": [0.001, 1.0]}, "b": {"choice": ["x", "y"]}, "c": {"randint": [1, 6]}}).domains
)
TPE = {"target": "optuna.samplers.TPESampler", "settings": {"n_startup_trials": 3}}


def spec(sampler=None, seed=0, budget=12):
    return {"seed": seed, "sampler": sampler, "resource": None, "rungs": [budget]}


def trial_indices(points, given, baseline="base", **more):
    found = []

    def advance(trial, configuration, point):
        found.append(point)
        return None if point["b"] == "y" else (point["a"] * 7) % 3

    run_trials(points, given, baseline, advance, **more)
    return found


@pytest.mark.parametrize(("points", "budget"), [(LISTED, 12), (MIXED, 15)])
@pytest.mark.parametrize("sampler", [None, TPE])
def test_both_backends_ask_one_sampler(points, budget, sampler):
    """Repeats, failures and handed-out settings included: at 12 of 12 the sampler repeats itself for a long time."""
    local = trial_indices(points, spec(sampler, budget=budget))
    assert trial_indices(points, spec(sampler, budget=budget), make_sampler=TuneAsker) == local
    assert len(set(map(setting_key, local))) == budget


@pytest.mark.parametrize("sampler", [None, TPE])
def test_a_seed_fixes_the_sequence_on_one_baseline(sampler):
    first = trial_indices(LISTED, spec(sampler))
    assert trial_indices(LISTED, spec(sampler)) == first
    assert trial_indices(LISTED, spec(sampler, seed=1)) != first
    assert trial_indices(LISTED, spec(sampler), baseline="other") != first


def test_a_larger_budget_begins_as_a_smaller_one():
    assert trial_indices(LISTED, spec(TPE, budget=12))[:7] == trial_indices(LISTED, spec(TPE, budget=7))


def test_random_draws_every_setting_once_in_a_named_order():
    order = random_order(LISTED, stream(3, "search", "base"))
    assert sorted(order) == list(range(12))
    assert [LISTED.index(point) for point in trial_indices(LISTED, spec(seed=3))] == order


def test_grids_of_numbers_are_ordered_other_lists_are_not():
    found = distributions(
        SettingSpace(SearchSpace.parse("s", {"a": {"grid": [3, 1]}, "b": {"grid": ["x", "y"]}, "c": {"choice": [1, 2]}}).domains)
    )
    assert [type(one).__name__ for one in found.values()] == ["IntDistribution", "CategoricalDistribution", "CategoricalDistribution"]
    assert isinstance(build_sampler(None, MIXED, stream(0, "search")), RandomSampler)
    assert isinstance(build_sampler(TPE, MIXED, stream(0, "search")), TPESampler)


@pytest.mark.parametrize(
    ("target", "settings", "said"),
    [
        ("os.system", {}, "outside the packages that may be named"),
        ("optuna.samplers.Nothing", {}, "cannot be imported"),
        ("optuna.samplers.BaseSampler", {}, "rejects search.settings"),
        ("sap_core.sap.SAP", {}, "is not a subclass of optuna.samplers.BaseSampler"),
        ("optuna.samplers.TPESampler", {"startup": 3}, "rejects search.settings={'startup': 3}"),
        ("optuna.samplers.TPESampler", {"seed": 3}, "set search.seeds=[...] instead"),
    ],
)
def test_invalid_samplers_are_reported(target, settings, said):
    with pytest.raises(UserError) as caught:
        check_sampler(target, settings, [])
    assert said in str(caught.value)


def test_a_settings_free_sampler_of_optunas_can_be_named():
    entry = check_sampler("optuna.samplers.RandomSampler", {}, [])
    assert len(trial_indices(LISTED, spec(entry, budget=5))) == 5

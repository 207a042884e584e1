"""The loops of sequential search and successive halving, with scripted samplers and scores."""

import pytest
import torch

from sweeper.config.search_space import SearchSpace
from sweeper.search.encoding import SettingSpace
from sweeper.search.trials import MAX_REPEATED_PROPOSALS, Proposals, rung_sizes, sequential_search, successive_halving

POINTS = SettingSpace(SearchSpace.parse("s", {"a": {"grid": [10, 20, 30, 40]}}).domains)


class Scripted:
    """Proposes the given places, the last one for ever; writes down what it is told."""

    def __init__(self, *places):
        self.places, self.told = list(places), []

    def ask(self):
        return {"a": self.places.pop(0) if len(self.places) > 1 else self.places[0]}

    def tell(self, score):
        self.told.append(score)

    def add(self, parameters, score):
        self.told.append((parameters, score))


def proposals(asker, seed=0):
    return Proposals(POINTS, asker, torch.Generator().manual_seed(seed))


def test_a_repeated_proposal_is_reported_with_its_known_score_and_is_no_trial():
    asker, tried = Scripted(1, 1, 0, 1, 2), []

    def evaluate(number, point):
        tried.append((number, point["a"]))
        return None if point["a"] == 10 else point["a"] / 100

    sequential_search(proposals(asker), 3, evaluate)
    assert tried == [(0, 20), (1, 10), (2, 30)]
    assert asker.told == [0.2, 0.2, None, 0.2, 0.3]


@pytest.mark.parametrize("seed", range(3))
def test_a_sampler_that_only_repeats_itself_is_handed_the_rest_at_random(seed):
    asker, tried = Scripted(3), []
    sequential_search(proposals(asker, seed), 4, lambda number, point: tried.append(point["a"]) or point["a"] / 100)
    assert sorted(tried) == [10, 20, 30, 40]
    assert tried[0] == 40
    assert asker.told.count(0.4) == 1 + 3 * MAX_REPEATED_PROPOSALS
    assert [told for told in asker.told if isinstance(told, tuple)] == [({"a": value // 10 - 1}, value / 100) for value in tried[1:]]


def test_without_a_sampler_settings_come_at_random():
    orders = set()
    for seed in range(10):
        tried = []
        sequential_search(proposals(None, seed), 4, lambda number, point, tried=tried: tried.append(point["a"]) or 0.0)
        assert sorted(tried) == [10, 20, 30, 40]
        orders.add(tuple(tried))
    assert len(orders) > 5


@pytest.mark.parametrize(
    ("budget", "eta", "rungs"),
    [
        (16, 2, [8, 4, 2, 1, 1]),
        (64, 2, [33, 16, 8, 4, 2]),
        (675, 2, [135, 67, 33, 16, 8]),  # all 135 configurations enter; 259 trials
        (5, 2, [1, 1, 1, 1, 1]),
        (64, 4, [47, 11, 2, 1, 1]),
    ],
)
def test_rungs_spend_the_budget(budget, eta, rungs):
    assert rung_sizes(budget, 135, 5, eta) == rungs
    assert sum(rungs) <= budget
    assert rungs[0] == 135 or sum(rung_sizes(budget + 10, 135, 5, eta)) > budget


def climbed(scores, rungs, place=lambda point: point["a"]):
    """(configuration, level) by trial, and the configurations in the order in which they are closed."""
    levels, trials, closed = {}, [], []

    def advance(trial, number, point):
        assert trial == len(trials)
        assert number not in closed
        levels[number] = levels.get(number, -1) + 1
        trials.append((point["a"], levels[number]))
        return scores[point["a"]][levels[number]]

    successive_halving(proposals(Scripted(0, 1, 2, 3)), rungs, advance, lambda number: closed.append(10 * (number + 1)), place)
    return trials, closed


def test_the_best_go_on_and_the_others_are_closed_at_once():
    scores = {10: [0.5], 20: [0.9, 0.6], 30: [0.7, 0.8, 0.1], 40: [0.6]}
    trials, closed = climbed(scores, [4, 2, 1])
    assert trials == [(10, 0), (20, 0), (30, 0), (40, 0), (20, 1), (30, 1), (30, 2)]
    assert closed == [10, 40, 20, 30]


def test_ties_go_to_the_earlier_in_the_space_and_failures_go_last():
    scores = {10: [None], 20: [0.5], 30: [0.5, 0.1], 40: [0.2, 0.2]}
    assert climbed(scores, [4, 1], place=lambda point: -point["a"])[0][-1] == (30, 1)
    scores = {10: [None, None], 20: [None], 30: [0.0, 0.1], 40: [None]}
    assert climbed(scores, [4, 2])[0][-2:] == [(10, 1), (30, 1)], "a failed one goes on only where nothing else is left"
    assert climbed({a: [0.5, 0.5] for a in (10, 20, 30, 40)}, [4, 1], place=lambda point: None)[0][-1] == (10, 1)

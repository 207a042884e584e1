"""Search spaces: parsing, checking and listing settings."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sap_core.errors import UserError
from sweeper.config.search_space import DOMAIN_TYPES, Domain, SearchSpace, evenly_spaced

VALUES = st.lists(st.floats(0, 9, allow_nan=False) | st.integers(10, 99), min_size=1, max_size=4, unique_by=repr)


@given(st.dictionaries(st.sampled_from("abcd"), st.tuples(st.sampled_from(["grid", "choice"]), VALUES), max_size=3))
def test_a_grid_lists_every_combination_once_the_first_field_slowest(fields):
    space = SearchSpace.parse("mine", {field: {word: values} for field, (word, values) in fields.items()})
    grid = space.grid()
    assert len(grid) == math.prod(len(values) for _, values in fields.values())
    positions = [tuple(values.index(setting[field]) for field, (_, values) in fields.items()) for setting in grid]
    assert positions == sorted(positions)
    assert len(set(positions)) == len(grid)
    assert all(list(setting) == list(fields) for setting in grid)


def test_a_space_without_fields_is_one_setting():
    assert SearchSpace.parse("only", {}).grid() == [{}]


@pytest.mark.parametrize(("word", "values"), [("uniform", [0, 1]), ("loguniform", [1e-5, 1e-1]), ("randint", [1, 10])])
def test_ranges_are_read_but_cannot_be_listed(word, values):
    space = SearchSpace.parse("mine", {"rate": {word: values}})
    assert space.domains == (Domain("rate", word, tuple(values)),)
    with pytest.raises(UserError, match=rf"'rate' of space 'mine' is a '{word}' range.*grid: \[\.\.\.\]"):
        space.grid()


@pytest.mark.parametrize(
    ("given_words", "said"),
    [
        (
            {"gird": [1]},
            "unknown domain type 'gird' in the space of 'x' (did you mean 'grid'?); allowed: grid, choice, uniform, loguniform, randint",
        ),
        ({"grid": []}, "is empty"),
        ({"grid": [1, 2, 1]}, "names a value twice: [1, 2, 1]"),
        ({"uniform": [1]}, "[low, high]"),
        ({"uniform": [2, 1]}, "low < high"),
        ({"uniform": [1, 1]}, "low < high"),
        ({"randint": [True, 3]}, "[low, high]"),
        ({"loguniform": ["a", "b"]}, "[low, high]"),
        ({"loguniform": [0, 1]}, "above 0"),
        ({}, "exactly one of grid, choice"),
        ({"grid": [1], "choice": [2]}, "exactly one of grid, choice"),
        ([1, 2], "exactly one of grid, choice"),
        (None, "exactly one of grid, choice"),
    ],
)
def test_mistakes_are_named_with_their_field(given_words, said):
    with pytest.raises(UserError) as caught:
        SearchSpace.parse("mine", {"x": given_words})
    assert said in str(caught.value)
    assert "'x'" in str(caught.value)


def test_a_single_value_is_a_list_of_one():
    assert SearchSpace.parse("mine", {"x": {"grid": 3}}).grid() == [{"x": 3}]


@given(st.integers(1, 40), st.integers(1, 50))
def test_spread_keeps_the_ends_the_order_and_even_gaps(length, count):
    chosen = evenly_spaced(list(range(length)), count)
    assert len(chosen) == min(length, count)
    assert len(set(chosen)) == len(chosen)
    assert chosen == sorted(chosen)
    assert chosen[0] == 0
    if count > 1:
        assert chosen[-1] == length - 1
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_there_are_five_words():
    assert DOMAIN_TYPES == ("grid", "choice", "uniform", "loguniform", "randint")

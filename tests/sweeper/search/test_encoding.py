"""Settings by index, by a sampler's parameters, and at random."""

import pytest
import torch

from sweeper.config.search_space import SearchSpace
from sweeper.search.encoding import SettingSpace, setting_key

LISTED = SettingSpace(
    SearchSpace.parse("s", {"rate": {"grid": [0.1, 0.2]}, "how": {"choice": ["a", "b", "c"]}, "steps": {"grid": [3, 5]}}).domains
)
RANGES = SettingSpace(
    SearchSpace.parse(
        "s", {"rate": {"loguniform": [0.001, 1.0]}, "share": {"uniform": [0.0, 1.0]}, "steps": {"randint": [2, 4]}, "n": {"grid": [1, 9]}}
    ).domains
)


def test_indices_follow_the_order_of_the_grid():
    space = SearchSpace("s", LISTED.domains)
    assert [LISTED.at(place) for place in range(LISTED.size)] == space.grid()
    assert [LISTED.index(point) for point in space.grid()] == list(range(12))
    assert RANGES.index({"rate": 0.1, "share": 0.1, "steps": 3, "n": 1}) is None


def test_what_can_be_counted_is_counted():
    assert (LISTED.size, RANGES.size) == (12, None)
    assert SettingSpace(RANGES.domains[2:]).size == 6  # 2, 3 and 4, both ends included
    assert SettingSpace(()).size == 1


def test_a_samplers_numbers_and_back():
    for place in range(12):
        point = LISTED.at(place)
        assert LISTED.decode(LISTED.encode(point)) == point
    assert RANGES.decode({"rate": 0.5, "share": 0.25, "steps": 3.0, "n": 1}) == {"rate": 0.5, "share": 0.25, "steps": 3, "n": 9}


def test_draws_reach_everything_and_nothing_else():
    generator = torch.Generator().manual_seed(1)
    assert {LISTED.index(LISTED.draw(generator)) for _ in range(300)} == set(range(12))
    drawn = [RANGES.draw(generator) for _ in range(300)]
    assert {point["steps"] for point in drawn} == {2, 3, 4}
    assert all(0.001 <= point["rate"] <= 1 and 0 <= point["share"] <= 1 for point in drawn)
    assert 0.2 < sum(point["rate"] < 0.0316 for point in drawn) / 300 < 0.8, "half of a log-uniform range lies below its geometric middle"
    assert len(set(map(setting_key, drawn))) == 300


def test_a_field_can_be_taken_out():
    assert [domain.field for domain in LISTED.without("how").domains] == ["rate", "steps"]
    with pytest.raises(KeyError):
        LISTED.index({"rate": 0.1, "steps": 3})

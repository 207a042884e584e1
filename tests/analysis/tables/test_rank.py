"""The ranking rule against a naive reference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.store.labels import MISSING, number
from analysis.tables.notes import EDGE, GAP
from analysis.tables.rank import rank_column, ranks
from analysis.tables.render import Cell

VALUES = st.lists(st.one_of(st.none(), st.floats(-100, 100), st.sampled_from([95.418, 95.421, 95.42, 95.43, 0.0, -0.001])), max_size=8)


def naive(values, decimals):
    """Counts, by the printed texts, how many different better values each contender has above it."""
    texts = {place: number(value, decimals) for place, value in enumerate(values) if value is not None}
    found = []
    for place, value in enumerate(values):
        better = {text for other, text in texts.items() if place in texts and text != texts[place] and values[other] > value}
        found.append(len(better) + 1 if place in texts and len(texts) > 1 and len(better) < 2 else 0)
    return found


@given(VALUES, st.integers(0, 4))
def test_ranks_are_those_of_the_printed_values(values, decimals):
    assert ranks(values, decimals) == naive(values, decimals)


def test_a_lone_contender_has_no_rank_and_printed_ties_share_one():
    assert ranks([None, 3.0, None], 2) == [0, 0, 0]
    assert ranks([95.418, 95.421, 95.40, 95.30], 2) == [1, 1, 2, 0]
    assert ranks([95.418, 95.421], 3) == [2, 1]


def test_gaps_and_rows_that_do_not_contend_are_never_ranked():
    body = [[Cell("9", 9.0, marks=GAP)], [Cell("8", 8.0, marks=EDGE)], [Cell("7", 7.0)], [Cell("6", 6.0)], [Cell(MISSING)]]
    rank_column(body, 0, (0, 1, 3, 4), 2)
    assert [row[0].rank for row in body] == [0, 1, 0, 2, 0]

"""Tests of the ranking rule against a naive reference."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from analysis.store.labels import MISSING, number
from analysis.tables.notes import BOUNDARY_MARK, INCOMPLETE_MARK
from analysis.tables.rank import rank_column, ranks
from analysis.tables.render import FormattedCell

VALUES = st.lists(st.one_of(st.none(), st.floats(-100, 100), st.sampled_from([95.418, 95.421, 95.42, 95.43, 0.0, -0.001])), max_size=8)


def naive(values, decimals):
    """Ranks a value by the number of distinct printed values above it."""
    texts = {index: number(value, decimals) for index, value in enumerate(values) if value is not None}
    found = []
    for index, value in enumerate(values):
        better = {text for other, text in texts.items() if index in texts and text != texts[index] and values[other] > value}
        found.append(len(better) + 1 if index in texts and len(texts) > 1 and len(better) < 2 else 0)
    return found


@given(VALUES, st.integers(0, 4))
def test_ranks_are_those_of_the_printed_values(values, decimals):
    assert ranks(values, decimals) == naive(values, decimals)


def test_a_single_contender_has_no_rank_and_printed_ties_share_one():
    assert ranks([None, 3.0, None], 2) == [0, 0, 0]
    assert ranks([95.418, 95.421, 95.40, 95.30], 2) == [1, 1, 2, 0]
    assert ranks([95.418, 95.421], 3) == [2, 1]


def test_incomplete_cells_and_other_rows_are_not_ranked():
    body = [
        [FormattedCell("9", 9.0, marks=INCOMPLETE_MARK)],
        [FormattedCell("8", 8.0, marks=BOUNDARY_MARK)],
        [FormattedCell("7", 7.0)],
        [FormattedCell("6", 6.0)],
        [FormattedCell(MISSING)],
    ]
    rank_column(body, 0, (0, 1, 3, 4), 2)
    assert [row[0].rank for row in body] == [0, 1, 0, 2, 0]

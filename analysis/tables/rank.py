"""The ranking rule of every table: which cells of a column are printed as best (bold) and as second (underlined).

Values that are equal as printed are equal and share a rank. A cell marked as a gap and a cell without a number have no rank, and a single
contender has none either, because it was compared with nothing. What is printed with a spread or an interval ranks by its printed mean.
Which rows contend is for the table to decide: never references (the unmodified model, retraining), never scores under `test_oracle`.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import replace

from analysis.tables.notes import GAP
from analysis.tables.render import Cell

BEST, SECOND, UNRANKED = 1, 2, 0


def ranks(values: Sequence[float | None], decimals: int) -> list[int]:
    """The rank of each value, where higher is better: 1 for the best, 2 for the second best, 0 for all others.

    Args:
        values: the numbers in the printed unit; None for cells that do not contend.
        decimals: how many decimals are printed.
    """
    # the formula of `labels.number`, so that two values rank apart exactly when their texts differ
    printed = [None if value is None else round(value, decimals) or 0.0 for value in values]
    contenders = [value for value in printed if value is not None]
    if len(contenders) < 2:
        return [UNRANKED] * len(values)
    order = sorted(set(contenders), reverse=True)[:SECOND]
    return [order.index(value) + BEST if value in order else UNRANKED for value in printed]


def rank_column(body: Sequence[MutableSequence[Cell]], column: int, contenders: Iterable[int], decimals: int) -> None:
    """Sets the ranks of one column, in place.

    Args:
        body: the rows of the table.
        column: the column's index.
        contenders: indices of the rows that are compared; gaps among them are left out.
        decimals: how many decimals the column prints.
    """
    rows = list(contenders)
    values = [None if GAP in body[row][column].marks else body[row][column].value for row in rows]
    for row, rank in zip(rows, ranks(values, decimals), strict=True):
        body[row][column] = replace(body[row][column], rank=rank)

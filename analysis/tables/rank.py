"""The ranking rule of all tables: which cells of a column are printed as best (bold) and as second best (underlined).

Values are compared as printed, so values with equal text share a rank. A value printed with a standard deviation or an interval is ranked
by its mean. Cells that are marked incomplete or have no number are not ranked, and neither is a single contender. The table decides which
rows are contenders; references (the unmodified model, retraining) and scores selected by `test_oracle` never are.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence, Sequence
from dataclasses import replace

from analysis.tables.notes import INCOMPLETE_MARK
from analysis.tables.render import FormattedCell

BEST, SECOND, UNRANKED = 1, 2, 0


def ranks(values: Sequence[float | None], decimals: int) -> list[int]:
    """Ranks values of which higher is better: 1 for the best, 2 for the second best, 0 for all others.

    Args:
        values: the numbers in the printed unit; None for a cell that is not ranked.
        decimals: the number of printed decimals.
    """
    # rounded as by `labels.number`, so that two values differ in rank only if their texts differ
    printed = [None if value is None else round(value, decimals) or 0.0 for value in values]
    contenders = [value for value in printed if value is not None]
    # A single contender is not ranked.
    if len(contenders) < 2:
        return [UNRANKED] * len(values)
    order = sorted(set(contenders), reverse=True)[:SECOND]
    return [order.index(value) + BEST if value in order else UNRANKED for value in printed]


def rank_column(body: Sequence[MutableSequence[FormattedCell]], column: int, contenders: Iterable[int], decimals: int) -> None:
    """Sets the ranks of one column in place.

    Args:
        body: the rows of the table.
        column: the column's index.
        contenders: the indices of the rows to compare; incomplete cells among them are skipped.
        decimals: the number of printed decimals of the column.
    """
    rows = list(contenders)
    # A mean over fewer seeds could win by the seeds that it lacks.
    values = [None if INCOMPLETE_MARK in body[row][column].marks else body[row][column].value for row in rows]
    for row, value, rank in zip(rows, values, ranks(values, decimals), strict=True):
        body[row][column] = replace(body[row][column], rank=rank, contends=value is not None)

"""The printed columns of a described table: the store's numbers, the published ones, and their difference."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from analysis.reference.published import UNKNOWN_OURS
from analysis.tables.layout import TableLayout
from analysis.tables.spec import AxisSpec


@dataclass(frozen=True)
class PrintedColumn:
    """One printed column: a column of the layout, and the numbers of it that are printed."""

    column: int
    source: str  # ours | published | difference | span
    suffix: str = ""  # of published numbers under unidentified noise: " a" or " b"


def printed_columns(layout: TableLayout, show: str) -> Iterator[PrintedColumn]:
    """The printed columns of a layout, in order."""
    seen: set[tuple[Any, ...]] = set()
    run: list[int] = []
    for c, column in enumerate(layout.columns):
        # A column with an ambiguous kind of noise has two published candidates.
        suffixes = list(dict.fromkeys(suffix for (_, _, at), cell in layout.cells.items() if at == c for suffix, _ in cell.published))
        if column.span:
            yield PrintedColumn(c, "span")
        elif show == "ours":
            yield PrintedColumn(c, "ours")
        elif show == "both":
            yield PrintedColumn(c, "ours")
            for suffix in suffixes or ([""] if column.average else []):
                # Next to our column, so that the eye need not travel.
                yield from (PrintedColumn(c, "published", suffix), PrintedColumn(c, "difference", suffix))
        elif len(suffixes) > 1:  # adjacent columns of ours share the published kinds, so each published number is printed once
            run.append(c)
            following = layout.columns[c + 1] if c + 1 < len(layout.columns) else AxisSpec()
            if following.where.get("noise") in UNKNOWN_OURS:
                continue
            for suffix in suffixes:
                for member in run:
                    # Our two kinds of noise are candidates for the same published column, which must not be printed twice.
                    identity = (suffix, *((name, value) for name, value in layout.columns[member].where.items() if name != "noise"))
                    if identity not in seen:
                        seen.add(identity)
                        yield PrintedColumn(member, "published", suffix)
            run = []
        elif suffixes or column.average:
            yield PrintedColumn(c, "published", "".join(suffixes))

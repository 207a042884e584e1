"""Test accuracy by the size of the trusted set, for every space that varies it: the best setting of each size under the first rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.store.labels import MEASURES, MISSING, mean_std, method_label, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import GAP, cell_title
from analysis.tables.render import Cell, Column, Table

RULE = "val_noisy"


@dataclass(frozen=True)
class SizePoint:
    """One size of the trusted set, summarised over the seeds."""

    size: int
    test: Summary
    gain: Summary  # over the unmodified model, paired by seed
    precision: Summary  # share of the trusted samples whose label is true
    kept: int  # seeds in which the unmodified model was kept


@dataclass(frozen=True)
class SizeCurve:
    """A space's sizes, smallest first."""

    method: str
    space: str | None
    measure: str
    points: tuple[SizePoint, ...]


def size_curves(cell: CellResult) -> tuple[SizeCurve, ...]:
    """The curves of the cell's spaces in which rows differ in `num_trusted`."""
    found = []
    for (method, space), searches in cell.methods.items():
        sizes = sorted({int(size) for search in searches for size in search.rows["num_trusted"].dropna()})
        if len(sizes) > 1:
            found.append(SizeCurve(method, space, cell.measure, tuple(_point(searches, size) for size in sizes)))
    return tuple(found)


def trusted_size(results: Results) -> tuple[Table, ...]:
    """One table per cell that has such a space; none when no space varies the size."""
    return tuple(_table(cell, curves) for cell in cells(results) if (curves := size_curves(cell)))


def _point(searches: Sequence[SearchResult], size: int) -> SizePoint:
    test, gain, precision, kept = [], [], [], 0
    for search in searches:
        rows = search.rows[search.rows["num_trusted"] == size]
        choice = replace(search, rows=rows).choose(RULE)
        if choice.row is None or search.vanilla is None:
            continue
        column = score_column("test_oracle", search.measure)
        test.append(float(choice.row[column]))
        gain.append(float(choice.row[column]) - float(search.vanilla[column]))
        precision.append(summarise(rows["trusted_label_precision"]).mean)
        kept += choice.kept
    return SizePoint(size, summarise(test), summarise(gain), summarise(precision), kept)


def _table(cell: CellResult, curves: Sequence[SizeCurve]) -> Table:
    measure = MEASURES[cell.measure]
    unit = f" ({measure.unit})" if measure.unit else ""
    suffix = "_percent" if measure.unit == "%" else ""
    columns = (
        Column("method", "Method", numeric=False),
        Column("num_trusted", "Trusted samples"),
        Column("trusted_precision_percent", "with a right label (%)"),
        Column(f"test_{RULE}{suffix}", f"Test {measure.name}{unit}"),
        Column("gain_points", "Gain" + (" (points)" if measure.unit else "")),
        Column("unmodified_kept", "Kept vanilla"),
    )
    rows = []
    for curve in curves:
        for point in curve.points:
            test, gain, right = point.test.times(measure.factor), point.gain.times(measure.factor), point.precision.times(100)
            lacking = GAP if point.test.n < len(cell.seeds) else ""
            rows.append(
                (
                    Cell(method_label(curve.method, curve.space)),
                    Cell(str(point.size), point.size),
                    Cell(mean_std(right.mean, None, 1), right.mean, right.std),
                    Cell(mean_std(test.mean, test.std, measure.decimals), test.mean, test.std, lacking),
                    Cell(mean_std(gain.mean, gain.std, measure.decimals, sign=True), gain.mean, gain.std),
                    Cell(f"{point.kept} of {point.test.n}" if point.test.n else MISSING, point.kept),
                )
            )
    what = f"test {measure.name} of the setting that {RULE} chooses at each size"
    spread = spread_over(len(cell.seeds))
    return Table(
        name="trusted_size",
        cell=cell.name,
        caption=f"Size of the trusted set on {cell_title(cell)}: {what}; {spread}.",
        columns=columns,
        rows=tuple(rows),
        notes=(f"{GAP} Fewer seeds than planned.",) if any(cell_.marks for row in rows for cell_ in row) else (),
    )

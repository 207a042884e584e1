"""The layout of a described table over a store and the published numbers: every cell with its conditions and its numbers, unformatted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from analysis.reference.published import COMPUTE, Quote, alternatives, find, quotes
from analysis.store.load import Results
from analysis.tables.axis_labels import label
from analysis.tables.lookup import CellNumbers, StoreLookup
from analysis.tables.spec import ALL, ASCENDING, AxisSpec, TableSpec
from analysis.tables.values import check_value
from sap_core.records import VANILLA

Position = tuple[int, int, int]
"""(row group, row, column)"""


@dataclass(frozen=True)
class TableCell:
    """One cell: its conditions, its numbers, and the published ones by suffix ("", or " a" and " b" of unknown ones)."""

    conditions: Mapping[str, Any]
    value: str
    found: CellNumbers | None
    base: CellNumbers | None = None  # what it is relative to
    published: tuple[tuple[str, Quote | None], ...] = ()
    published_base: tuple[Quote | None, ...] = ()  # what a published gain is over


@dataclass(frozen=True)
class TableLayout:
    """The cells of one table: row groups -> rows -> columns; there is none under averages and spans."""

    spec: TableSpec
    title: str  # the values of `tables` that this one is of
    row_groups: tuple[AxisSpec, ...]
    rows: tuple[tuple[AxisSpec, ...], ...]  # of each row group
    columns: tuple[AxisSpec, ...]
    cells: Mapping[Position, TableCell]
    spans: Mapping[Position, tuple[list[float], list[float]]]  # (ours, published): smallest and largest
    most_seeds: Mapping[tuple[int, int], int] = field(default_factory=dict)  # (row group, column) -> the most seeds of a cell

    def of_row(self, group: int, row: int) -> list[TableCell]:
        return [cell for (g, r, _), cell in self.cells.items() if (g, r) == (group, row)]

    @property
    def found(self) -> list[CellNumbers]:
        return [cell.found for cell in self.cells.values() if cell.found is not None]

    @property
    def measure(self) -> str:
        """The measure of the cells of the sweep, acc or r2."""
        return next((found.cell.measure for found in self.found), "acc")

    def has_gap(self, at: Position) -> bool:
        """Whether the cell's sweep is unfinished, or it has fewer seeds than others of its column, so that its mean does not compare."""
        found = self.cells[at].found
        return found is not None and (found.has_gaps or len(found.values) < self.most_seeds[at[0], at[2]])

    def has_number(self, at: Position) -> bool:
        cell = self.cells.get(at)
        return cell is not None and cell.found is not None and cell.found.summary.mean is not None


def layouts(spec: TableSpec, results: Results | None, checked: bool = False) -> tuple[TableLayout, ...]:
    """The tables of a description: one, or one for each combination of the values in `tables`; those without what they need are left out.

    Args:
        spec: the description.
        results: the store or stores; None lays out the published numbers alone.
        checked: whether fields that no row of the store has are refused (a user's own table), or simply hold nowhere (a shipped one).

    Raises:
        UserError: a value or a field is not known, or a cell of the table means several cells of the sweep.
    """
    lookup = None if results is None else StoreLookup(results, spec.selection)
    where = f"the table '{spec.name}'"
    for axis in (*spec.rows, *spec.columns, *spec.row_groups):
        check_value(axis.value or spec.value, where)
        if checked and lookup is not None:
            lookup.check((*axis.where, *axis.each, *axis.relative_to, *spec.filter, *spec.tables), where)
    each = AxisSpec(each=spec.tables)
    combinations = _combinations(spec, each, list(spec.tables), lookup, {}) if spec.tables else [{}]
    found = (
        _layout(replace(spec, filter={**spec.filter, **made}), label(spec, made, list(made), ", "), lookup)
        for made in combinations
        if not spec.needs or lookup is None or lookup.has({**spec.filter, **made}, spec.needs)
    )
    return tuple(layout for layout in found if layout is not None)


def _layout(spec: TableSpec, title: str, lookup: StoreLookup | None) -> TableLayout | None:
    groups = list(_expanded(spec, spec.row_groups, lookup, {}))
    columns = tuple(_expanded(spec, spec.columns, lookup, {}, headers=True))
    rows = [tuple(_expanded(spec, spec.rows, lookup, group.where)) for group in groups]
    cells: dict[Position, TableCell] = {}
    spans: dict[Position, tuple[list[float], list[float]]] = {}
    for g, group in enumerate(groups):
        for r, row in enumerate(rows[g]):
            for c, column in enumerate(columns):
                if row.average or column.average:
                    continue
                if column.span:
                    spans[g, r, c] = _span(spec, lookup, group, row, column)
                else:
                    cells[g, r, c] = _cell(spec, lookup, group, row, column)
    most: dict[tuple[int, int], int] = {}
    for (g, _, c), cell in cells.items():
        most[g, c] = max(most.get((g, c), 0), len(cell.found.values) if cell.found is not None else 0)
    layout = TableLayout(spec, title, tuple(groups), tuple(rows), columns, cells, spans, most)
    return layout if lookup is None else _shown_alone(layout)


def _shown_alone(layout: TableLayout) -> TableLayout | None:
    """The layout without optional rows and columns that have no number, and without row groups that are smaller than `at_least`."""
    filled = {at for at in layout.cells if layout.has_number(at)}
    columns = [c for c, axis in enumerate(layout.columns) if not axis.optional or any(at[2] == c for at in filled)]
    groups = [g for g in range(len(layout.row_groups)) if _is_large(layout, [at for at in filled if at[0] == g])]
    if not groups:
        return None
    rows = {g: [r for r, axis in enumerate(layout.rows[g]) if not axis.optional or any(at[:2] == (g, r) for at in filled)] for g in groups}
    moved = {
        (g, r, c): (new_g, new_r, new_c)
        for new_g, g in enumerate(groups)
        for new_r, r in enumerate(rows[g])
        for new_c, c in enumerate(columns)
    }
    return replace(
        layout,
        row_groups=tuple(layout.row_groups[g] for g in groups),
        rows=tuple(tuple(layout.rows[g][r] for r in rows[g]) for g in groups),
        columns=tuple(layout.columns[c] for c in columns),
        cells={moved[at]: cell for at, cell in layout.cells.items() if at in moved},
        spans={moved[at]: span for at, span in layout.spans.items() if at in moved},
        most_seeds={(new[0], new[2]): layout.most_seeds[at[0], at[2]] for at, new in moved.items() if (at[0], at[2]) in layout.most_seeds},
    )


def _is_large(layout: TableLayout, filled: Sequence[Position]) -> bool:
    """Whether a row group with numbers at these positions has as many rows and columns as `at_least` asks for."""
    wanted = layout.spec.at_least
    return all(len({at[axis] for at in filled}) >= wanted.get(name, 0) for name, axis in (("rows", 1), ("columns", 2)))


def _cell(spec: TableSpec, lookup: StoreLookup | None, group: AxisSpec, row: AxisSpec, column: AxisSpec) -> TableCell:
    conditions = {**spec.filter, **group.where, **row.where, **column.where}
    value = column.value or spec.value
    found = base = None
    if lookup is not None:
        found = lookup.find(conditions, value, column.rule)
        base = lookup.find({**conditions, **column.relative_to}, value, column.rule) if column.relative_to else None
    if not spec.published or row.published is False or column.published is False:
        return TableCell(conditions, value, found, base)
    asked = {**conditions, **_extra(row), **_extra(column)}
    kinds = alternatives(spec.published, asked)
    quoted = tuple((suffix, find(spec.published, about)) for suffix, about in kinds)
    before = tuple(find(spec.published, {**about, "method": VANILLA}) for _, about in kinds) if value == "gain" else ()
    return TableCell(conditions, value, found, base, quoted, before)


def _span(spec: TableSpec, lookup: StoreLookup | None, group: AxisSpec, row: AxisSpec, column: AxisSpec) -> tuple[list[float], list[float]]:
    conditions = {**spec.filter, **group.where, **row.where, **column.where}
    ours = lookup.span(conditions, column.span) if lookup is not None else []
    quoted = (
        [float(quote.about[column.span]) for quote in quotes(spec.published) if quote.is_about(conditions) and column.span in quote.about]
        if (spec.published and spec.published != COMPUTE)
        else []
    )
    return ours, [min(quoted), max(quoted)] if quoted else []


def _extra(axis: AxisSpec) -> Mapping[str, Any]:
    return axis.published if isinstance(axis.published, Mapping) else {}


def _expanded(
    spec: TableSpec, axes: Sequence[AxisSpec], lookup: StoreLookup | None, within: Mapping[str, Any], headers: bool = False
) -> Iterator[AxisSpec]:
    """The entries with `each` multiplied out. Labels have the fields that differ; `headers` have the last, the others are their group."""
    for axis in axes:
        names = list(axis.each)
        if not names:
            yield replace(axis, label=axis.label or label(spec, axis.where, list(axis.where)[-1:], ""))
            continue
        for made in _combinations(spec, axis, names, lookup, within):
            shown = list(made)
            whole = not headers or {"method", "space"} == set(shown)
            head, rest = (shown, []) if whole else (shown[-1:], shown[:-1])
            where = {**axis.where, **made}
            yield replace(
                axis,
                where=where,
                each={},
                label=axis.label or label(spec, where, head, ", "),
                group=axis.group or label(spec, where, rest, ", "),
            )


def _combinations(
    spec: TableSpec, axis: AxisSpec, names: Sequence[str], lookup: StoreLookup | None, within: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Every combination of the values; of `all` those that the store has (without a store, the published table)."""
    if ALL not in axis.each.values():
        return [dict(zip(names, values, strict=True)) for values in product(*(axis.each[name] for name in names))]
    partial: list[dict[str, Any]] = [{}]
    for name in names:
        grown = []
        for made in partial:
            fixed = {**spec.filter, **within, **axis.where, **made}
            given = axis.each[name]
            values = _all(spec, name, fixed, lookup) if given == ALL else given
            grown += [{**made, name: value} for value in values]
            if lookup is None and not values:  # the published table does not say
                grown.append(made)
        partial = grown
    return partial


def _all(spec: TableSpec, name: str, fixed: Mapping[str, Any], lookup: StoreLookup | None) -> list[Any]:
    if lookup is not None:
        found = lookup.values(name, fixed)
    elif spec.published:
        found = list(dict.fromkeys(quote.about[name] for quote in quotes(spec.published) if name in quote.about and quote.is_about(fixed)))
    else:
        found = []
    order = spec.order.get(name, ())
    if order == ASCENDING:
        return sorted(found, key=lambda value: (value is None, value))
    known = list(order)
    return sorted(found, key=lambda value: known.index(value) if value in known else len(known))

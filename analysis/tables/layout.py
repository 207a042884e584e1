"""Resolves a description to a layout: every entry of the table with its conditions, its numbers and the published ones, unformatted."""

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
from analysis.tables.values import CHOSEN, check_value
from sap_core.records import VANILLA

Position = tuple[int, int, int]
"""Indices (row group, row, column)."""


@dataclass(frozen=True)
class LayoutCell:
    """One entry of a table, unformatted.

    Published numbers have a suffix: empty, or " a" and " b" for the two kinds of noise that the paper does not identify.
    """

    conditions: Mapping[str, Any]
    value: str
    found: CellNumbers | None
    base: CellNumbers | None = None  # the numbers of the entry that it is divided by
    published: tuple[tuple[str, Quote | None], ...] = ()
    published_base: tuple[Quote | None, ...] = ()  # the unmodified model, for a published gain


@dataclass(frozen=True)
class TableLayout:
    """The entries of one table. Averages and spans have none; they are computed when the table is formatted."""

    spec: TableSpec
    title: str  # the values of the fields in `tables`
    row_groups: tuple[AxisSpec, ...]
    rows: tuple[tuple[AxisSpec, ...], ...]  # of each row group
    columns: tuple[AxisSpec, ...]
    cells: Mapping[Position, LayoutCell]
    spans: Mapping[Position, tuple[list[float], list[float]]]  # (ours, published), each [smallest, largest] or empty
    most_seeds: Mapping[tuple[int, int], int] = field(
        default_factory=dict
    )  # (row group, column) -> the largest number of seeds of an entry

    def of_row(self, group: int, row: int) -> list[LayoutCell]:
        """The entries of one row."""
        return [cell for (g, r, _), cell in self.cells.items() if (g, r) == (group, row)]

    @property
    def found(self) -> list[CellNumbers]:
        """The numbers of all entries that the plan contains."""
        return [cell.found for cell in self.cells.values() if cell.found is not None]

    @property
    def measure(self) -> str:
        """The measure of the store, acc or r2."""
        return next((found.cell.measure for found in self.found), "acc")

    def is_incomplete(self, at: Position) -> bool:
        """Whether runs are missing, or there are fewer seeds than in other entries of the column, so that means are not comparable."""
        found = self.cells[at].found
        return found is not None and (found.incomplete or len(found.values) < self.most_seeds[at[0], at[2]])

    def has_number(self, at: Position) -> bool:
        """Whether the store has a number for an entry."""
        cell = self.cells.get(at)
        return cell is not None and cell.found is not None and cell.found.summary.mean is not None


def layouts(spec: TableSpec, results: Results | None, checked: bool = False) -> tuple[TableLayout, ...]:
    """Resolves a description to one layout, or to one per combination of the values in `tables`; tables without numbers are left out.

    Args:
        spec: the description.
        results: the store or stores; None for the published numbers alone.
        checked: whether unknown fields and values are an error (a user's own table) or match nothing (a shipped one, which is tried on
            every store).

    Raises:
        UserError: a value or a field is unknown, or an entry matches several cells of the sweep.
    """
    lookup = None if results is None else StoreLookup(results, spec.selection)
    where = f"the table '{spec.name}'"
    # All names are checked before any number is looked up, so that a misspelt field is an error and not an empty table.
    for axis in (*spec.rows, *spec.columns, *spec.row_groups):
        check_value(axis.value or spec.value, where)
        if checked and lookup is not None:
            _check(spec, axis, lookup, where)
    axis = AxisSpec(each=spec.tables)
    # `tables` is expanded like an axis, and each combination becomes a filter.
    combinations = _combinations(spec, axis, list(spec.tables), lookup, {}) if spec.tables else [{}]
    # A generator: with `needs`, tables without that column are dropped before they are resolved.
    found = (
        _layout(replace(spec, filter={**spec.filter, **values}), label(spec, values, list(values), ", "), lookup)
        for values in combinations
        if not spec.needs or lookup is None or lookup.has({**spec.filter, **values}, spec.needs)
    )
    return tuple(layout for layout in found if layout is not None)


def _check(spec: TableSpec, axis: AxisSpec, lookup: StoreLookup, where: str) -> None:
    """Checks the fields, their values and the hyperparameter that one row, column or row group of a user's own table names."""
    lookup.check((*axis.where, *axis.each, *axis.relative_to, *spec.filter, *spec.tables), where)
    for conditions in (axis.where, axis.relative_to, spec.filter):
        for name, value in conditions.items():
            lookup.check_values(name, [value], where)
    for listed in (axis.each, spec.tables):
        for name, values in listed.items():
            lookup.check_values(name, [] if values == ALL else values, where)
    value = axis.value or spec.value
    if value.startswith(CHOSEN):
        lookup.check_hyperparameter(value.removeprefix(CHOSEN), f"'value' of {where}")


def _layout(spec: TableSpec, title: str, lookup: StoreLookup | None) -> TableLayout | None:
    # Rows are expanded within each group, because the values of `all` may differ between groups.
    groups = list(_expanded(spec, spec.row_groups, lookup, {}))
    columns = tuple(_expanded(spec, spec.columns, lookup, {}, headers=True))
    rows = [tuple(_expanded(spec, spec.rows, lookup, group.where)) for group in groups]
    cells: dict[Position, LayoutCell] = {}
    spans: dict[Position, tuple[list[float], list[float]]] = {}
    for g, group in enumerate(groups):
        for r, row in enumerate(rows[g]):
            for c, column in enumerate(columns):
                # Averages need the printed entries, which depend on what is shown.
                if row.average or column.average:
                    continue
                # A span is a range over many rows, not a number of one entry.
                if column.span:
                    spans[g, r, c] = _span(spec, lookup, group, row, column)
                else:
                    cells[g, r, c] = _cell(spec, lookup, group, row, column)
    # Entries of one column are compared with each other, so their means must be over equally many seeds.
    most_seeds: dict[tuple[int, int], int] = {}
    for (g, _, c), cell in cells.items():
        most_seeds[g, c] = max(most_seeds.get((g, c), 0), len(cell.found.values) if cell.found is not None else 0)
    layout = TableLayout(spec, title, tuple(groups), tuple(rows), columns, cells, spans, most_seeds)
    # Published numbers alone leave nothing out: an empty entry is one that is not printed.
    return layout if lookup is None else _without_empty(layout)


def _without_empty(layout: TableLayout) -> TableLayout | None:
    """Removes optional rows and columns without numbers, and row groups smaller than `at_least`; None if no row group remains."""
    # What counts is a number in the store; published numbers do not keep an empty row.
    filled = {at for at in layout.cells if layout.has_number(at)}
    # Positions are renumbered after the removal, because cells are found by them.
    columns = [c for c, axis in enumerate(layout.columns) if not axis.optional or any(at[2] == c for at in filled)]
    groups = [g for g in range(len(layout.row_groups)) if _is_large_enough(layout, [at for at in filled if at[0] == g])]
    if not groups:
        return None
    rows = {g: [r for r, axis in enumerate(layout.rows[g]) if not axis.optional or any(at[:2] == (g, r) for at in filled)] for g in groups}
    new_positions = {
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
        cells={new_positions[at]: cell for at, cell in layout.cells.items() if at in new_positions},
        spans={new_positions[at]: span for at, span in layout.spans.items() if at in new_positions},
        most_seeds={
            (new[0], new[2]): layout.most_seeds[at[0], at[2]] for at, new in new_positions.items() if (at[0], at[2]) in layout.most_seeds
        },
    )


def _is_large_enough(layout: TableLayout, filled: Sequence[Position]) -> bool:
    """Whether a row group with numbers at the given positions has at least `at_least` rows and columns."""
    at_least = layout.spec.at_least
    return all(len({at[axis] for at in filled}) >= at_least.get(name, 0) for name, axis in (("rows", 1), ("columns", 2)))


def _cell(spec: TableSpec, lookup: StoreLookup | None, group: AxisSpec, row: AxisSpec, column: AxisSpec) -> LayoutCell:
    # The more specific condition wins.
    conditions = {**spec.filter, **group.where, **row.where, **column.where}
    value = column.value or spec.value
    found = base = None
    if lookup is not None:
        found = lookup.find(conditions, value, column.rule)
        # The entry to divide by differs in the conditions that `relative_to` names.
        base = lookup.find({**conditions, **column.relative_to}, value, column.rule) if column.relative_to else None
    if not spec.published or row.published is False or column.published is False:
        return LayoutCell(conditions, value, found, base)
    # One published number per kind of noise that it may belong to.
    candidates = alternatives(spec.published, {**conditions, **_published_conditions(row), **_published_conditions(column)})
    quoted = tuple((suffix, find(spec.published, about)) for suffix, about in candidates)
    # Publications print scores; a gain is computed from the unmodified model's score under the same conditions.
    vanilla = tuple(find(spec.published, {**about, "method": VANILLA}) for _, about in candidates) if value == "gain" else ()
    return LayoutCell(conditions, value, found, base, quoted, vanilla)


def _span(spec: TableSpec, lookup: StoreLookup | None, group: AxisSpec, row: AxisSpec, column: AxisSpec) -> tuple[list[float], list[float]]:
    conditions = {**spec.filter, **group.where, **row.where, **column.where}
    ours = lookup.span(conditions, column.span) if lookup is not None else []
    quoted = (
        [float(quote.about[column.span]) for quote in quotes(spec.published) if quote.is_about(conditions) and column.span in quote.about]
        if (spec.published and spec.published != COMPUTE)
        else []
    )
    return ours, [min(quoted), max(quoted)] if quoted else []


def _published_conditions(axis: AxisSpec) -> Mapping[str, Any]:
    return axis.published if isinstance(axis.published, Mapping) else {}


def _expanded(
    spec: TableSpec, axes: Sequence[AxisSpec], lookup: StoreLookup | None, within: Mapping[str, Any], headers: bool = False
) -> Iterator[AxisSpec]:
    """Expands `each` into one axis entry per combination of values.

    A row is labelled by all fields of `each`. A column (`headers`) is labelled by the last one, and the others name its column group; a
    method and its space stay together.
    """
    for axis in axes:
        names = list(axis.each)
        if not names:
            yield replace(axis, label=axis.label or label(spec, axis.where, list(axis.where)[-1:], ""))
            continue
        for values in _combinations(spec, axis, names, lookup, within):
            # The last field varies within a column group and is the column's own header.
            varied = list(values)
            # A method and its space are one label, `SAP (alpha16)`.
            together = not headers or {"method", "space"} == set(varied)
            head, rest = (varied, []) if together else (varied[-1:], varied[:-1])
            where = {**axis.where, **values}
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
    """All combinations of the values of `each`; `all` selects the values in the plan (without a store, in the published table)."""
    # Listed values do not depend on the store, so their product is complete at once.
    if ALL not in axis.each.values():
        return [dict(zip(names, values, strict=True)) for values in product(*(axis.each[name] for name in names))]
    partial: list[dict[str, Any]] = [{}]
    for name in names:
        extended = []
        for combination in partial:
            # values of later fields depend on those of earlier ones: not every data set has every noise
            fixed = {**spec.filter, **within, **axis.where, **combination}
            values = axis.each[name]
            if values == ALL:
                values = _all_values(spec, name, fixed, lookup)
            extended += [{**combination, name: value} for value in values]
            # A field that the published table does not have.
            if lookup is None and not values:
                extended.append(combination)
        partial = extended
    return partial


def _all_values(spec: TableSpec, name: str, fixed: Mapping[str, Any], lookup: StoreLookup | None) -> list[Any]:
    if lookup is not None:
        found = lookup.values(name, fixed)
    elif spec.published:
        found = list(dict.fromkeys(quote.about[name] for quote in quotes(spec.published) if name in quote.about and quote.is_about(fixed)))
    else:
        found = []
    # Without an order, values follow the plan, which follows the experiment's file.
    order = spec.order.get(name, ())
    if order == ASCENDING:
        # None cannot be compared with numbers and comes last.
        return sorted(found, key=lambda value: (value is None, value))
    # Values that `order` does not name follow in the order of the plan.
    known = list(order)
    return sorted(found, key=lambda value: known.index(value) if value in known else len(known))

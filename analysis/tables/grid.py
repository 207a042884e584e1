"""A table's description laid over a store and the published numbers: every place with its conditions and what stands there, before ink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from analysis.reference.published import COMPUTE, UNKNOWN_OURS, Quote, alternatives, find, quotes
from analysis.store.labels import dataset_label, method_label, network_label, plain, trainer_label
from analysis.store.load import Results
from analysis.tables.places import Finder, Found, check_value
from analysis.tables.spec import ALL, Line, Spec
from sap_core.records import VANILLA


@dataclass(frozen=True)
class Place:
    """One place: its conditions, what the store says, and the published numbers by suffix ("", or " a" and " b" of unknown ones)."""

    conditions: Mapping[str, Any]
    value: str
    found: Found | None
    base: Found | None = None  # what it is relative to
    published: tuple[tuple[str, Quote | None], ...] = ()
    published_base: tuple[Quote | None, ...] = ()  # what a published gain is over


@dataclass(frozen=True)
class Grid:
    """The places of a table: blocks -> rows -> columns; None under averages and spans."""

    spec: Spec
    blocks: tuple[Line, ...]
    rows: tuple[tuple[Line, ...], ...]  # of each block
    columns: tuple[Line, ...]
    places: Mapping[tuple[int, int, int], Place]
    spans: Mapping[tuple[int, int, int], tuple[list[float], list[float]]]  # (ours, published): smallest and largest

    def of_row(self, block: int, row: int) -> list[Place]:
        return [place for (b, r, _), place in self.places.items() if (b, r) == (block, row)]

    @property
    def found(self) -> list[Found]:
        return [place.found for place in self.places.values() if place.found is not None]


def grid(spec: Spec, results: Results | None, checked: bool = False) -> Grid:
    """Lays the description over a store; with no store, over the published numbers alone.

    Args:
        spec: the description.
        results: the store or stores.
        checked: whether fields that no row of the store has are refused (a user's own table), or simply hold nowhere (a shipped one).

    Raises:
        UserError: a value or a field is not known, or a place means several cells.
    """
    finder = None if results is None else Finder(results, spec.selection)
    where = f"the table '{spec.name}'"
    for line in (*spec.rows, *spec.columns, *spec.blocks):
        check_value(line.value or spec.value, where)
        if checked and finder is not None:
            finder.check((*line.where, *line.each, *line.relative_to, *spec.filter), where)
    blocks = tuple(_expanded(spec, spec.blocks, finder, {}, as_block=True))
    columns = tuple(_expanded(spec, spec.columns, finder, {}))
    rows = tuple(tuple(_expanded(spec, spec.rows, finder, block.where)) for block in blocks)
    places, spans = {}, {}
    for b, block in enumerate(blocks):
        for r, row in enumerate(rows[b]):
            for c, column in enumerate(columns):
                if row.average or column.average:
                    continue
                if column.span:
                    spans[b, r, c] = _span(spec, finder, block, row, column)
                else:
                    places[b, r, c] = _place(spec, finder, block, row, column)
    return Grid(spec, blocks, rows, columns, places, spans)


def _place(spec: Spec, finder: Finder | None, block: Line, row: Line, column: Line) -> Place:
    conditions = {**spec.filter, **block.where, **row.where, **column.where}
    value = column.value or spec.value
    found = base = None
    if finder is not None:
        found = finder.find(conditions, value)
        base = finder.find({**conditions, **column.relative_to}, value) if column.relative_to else None
    if not spec.published or row.published is False or column.published is False:
        return Place(conditions, value, found, base)
    said = {**conditions, **_extra(row), **_extra(column)}
    kinds = alternatives(spec.published, said)
    told = tuple((suffix, find(spec.published, asked)) for suffix, asked in kinds)
    before = tuple(find(spec.published, {**asked, "method": VANILLA}) for _, asked in kinds) if value == "gain" else ()
    return Place(conditions, value, found, base, told, before)


def _span(spec: Spec, finder: Finder | None, block: Line, row: Line, column: Line) -> tuple[list[float], list[float]]:
    conditions = {**spec.filter, **block.where, **row.where, **column.where}
    ours = finder.span(conditions, column.span) if finder is not None else []
    said = (
        [float(quote.about[column.span]) for quote in quotes(spec.published) if quote.is_about(conditions) and column.span in quote.about]
        if (spec.published and spec.published != COMPUTE)
        else []
    )
    return ours, [min(said), max(said)] if said else []


def _extra(line: Line) -> Mapping[str, Any]:
    return line.published if isinstance(line.published, Mapping) else {}


def _expanded(
    spec: Spec, lines: Sequence[Line], finder: Finder | None, within: Mapping[str, Any], as_block: bool = False
) -> Iterator[Line]:
    """The lines with `each` multiplied out; labels say what differs."""
    for line in lines:
        names = list(line.each)
        if not names:
            yield replace(line, label=line.label or _label(spec, line.where, list(line.where)[-1:], ""))
            continue
        for made in _combinations(spec, line, names, finder, within):
            shown = list(made)
            head, rest = (shown[-1:], shown[:-1]) if line.group != "" or not as_block else (shown, [])
            where = {**line.where, **made}
            yield replace(
                line,
                where=where,
                each={},
                label=line.label or _label(spec, where, head, ", "),
                group=line.group or _label(spec, where, rest, ", "),
            )


def _combinations(spec: Spec, line: Line, names: Sequence[str], finder: Finder | None, within: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of the values; of `all` those that the store has (without a store, the published table)."""
    if ALL not in line.each.values():
        return [dict(zip(names, values, strict=True)) for values in product(*(line.each[name] for name in names))]
    partial: list[dict[str, Any]] = [{}]
    for name in names:
        grown = []
        for made in partial:
            fixed = {**spec.filter, **within, **line.where, **made}
            given = line.each[name]
            values = _all(spec, name, fixed, finder) if given == ALL else given
            grown += [{**made, name: value} for value in values]
            if finder is None and not values:  # the published table does not say
                grown.append(made)
        partial = grown
    return partial


def _all(spec: Spec, name: str, fixed: Mapping[str, Any], finder: Finder | None) -> list[Any]:
    if finder is not None:
        found = finder.values(name, fixed)
    elif spec.published:
        found = list(dict.fromkeys(quote.about[name] for quote in quotes(spec.published) if name in quote.about and quote.is_about(fixed)))
    else:
        found = []
    order = list(spec.order.get(name, ()))
    return sorted(found, key=lambda value: order.index(value) if value in order else len(order))


def _label(spec: Spec, where: Mapping[str, Any], names: Sequence[str], between: str) -> str:
    return between.join(shown(spec, name, where[name], where) for name in names)


def shown(spec: Spec, name: str, value: Any, where: Mapping[str, Any] | None = None) -> str:
    """A value of a field as the table shows it."""
    for given, text in spec.names.get(name, {}).items():
        if given == value:
            return text
    if name in ("dataset", "network", "trainer"):
        return {"dataset": dataset_label, "network": network_label, "trainer": trainer_label}[name](str(value))
    if name == "method":
        return method_label(str(value))
    if name == "noise" and (where or {}).get("noise") in UNKNOWN_OURS:
        return str(value)
    if name in ("noise_rate", "keep_fraction") and isinstance(value, int | float):
        return f"{value * 100:g} %"
    if value is None:
        return "none"
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

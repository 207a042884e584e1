"""Tables that a YAML file describes, from a store, from the published numbers, or from both side by side with their difference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from analysis.reference.published import UNKNOWN_NOISE, UNKNOWN_OURS
from analysis.store.labels import MISSING, REFERENCES, mean_std, number, seconds, span
from analysis.store.load import Results
from analysis.tables.captions import caption, notes
from analysis.tables.grid import Grid, Place, grid
from analysis.tables.notes import GAP, SHARED
from analysis.tables.render import Cell, Column, Table
from analysis.tables.spec import Line, Spec
from analysis.tables.units import Unit, unit_of_value
from sap_core.errors import UserError, unknown

SHOWS = {"ours": "this store's numbers", "published": "the published numbers", "both": "both, with the difference"}


_MOST_ROWS = 35
"""Of one table, for a page's sake; more blocks go on in another."""


@dataclass(frozen=True)
class Sub:
    """One printed column: a column of the grid, whose numbers it shows, and (published non-symmetric noise) which of the two."""

    column: int
    kind: str  # ours | published | difference | span
    suffix: str = ""


@dataclass(frozen=True)
class Shown:
    """One number in the printed unit."""

    mean: float | None
    std: float | None = None
    marks: str = ""


def paper_tables(spec: Spec, results: Results | None, show: str = "ours", checked: bool = False) -> tuple[Table, ...]:
    """The table; side by side one for each block, because they are wide; many blocks in several. None where there is nothing to show.

    Args:
        spec: the description.
        results: the store; None shows published numbers alone.
        show: a key of `SHOWS`.
        checked: whether unknown fields are refused, see `grid`.

    Raises:
        UserError: see `grid`; or the table is held against no published one, and they are asked for.
    """
    if show not in SHOWS:
        raise unknown("numbers to show", show, SHOWS, "--show")
    if show != "ours" and not spec.published:
        raise UserError(
            f"the table '{spec.name}' has no published numbers beside it; leave --show out, or name a published table in its file"
        )
    laid = grid(spec, None if show == "published" else results, checked)
    builder = _Builder(laid, show)
    blocks = [b for b in range(len(laid.blocks)) if any(builder.has_numbers(b, r) for r in range(len(laid.rows[b])))]
    if not blocks:
        return ()
    each = 1 if show == "both" else max(1, _MOST_ROWS // max(len(rows) for rows in laid.rows))
    groups = [blocks[start : start + each] for start in range(0, len(blocks), each)]
    return tuple(builder.table(group, results) for group in groups)


class _Builder:
    """Turns the places of a grid into cells."""

    def __init__(self, laid: Grid, show: str) -> None:
        self.grid = laid
        self.show = show
        self.subs = list(_subs(laid, show))

    def has_numbers(self, b: int, r: int) -> bool:
        """Whether a row has anything to show; averages have nothing of their own."""
        for place in self.grid.of_row(b, r):
            if self.show != "published" and place.found is not None:
                return True
            if self.show != "ours" and any(quote is not None for _, quote in place.published):
                return True
        return False

    def rows(self, b: int) -> list[int]:
        """The rows of a block that are printed: all in our own table, elsewhere those with a number; averages of at least two rows."""
        kept = [r for r, row in enumerate(self.grid.rows[b]) if not row.average and (self.show == "ours" or self.has_numbers(b, r))]
        return kept + [r for r, row in enumerate(self.grid.rows[b]) if row.average and len(kept) > 1]

    def table(self, blocks: Sequence[int], results: Results | None) -> Table:
        body: list[tuple[Cell, ...]] = []
        titles: dict[int, str] = {}
        rules: set[int] = set()
        for b in blocks:
            if len(self.grid.blocks) > 1 and self.grid.blocks[b].label:
                titles[len(body)] = self._title(b)
            rows = self.rows(b)
            cells = {r: [Cell(self.grid.rows[b][r].label), *(self._cell(b, r, sub) for sub in self.subs)] for r in rows}
            for place, sub in enumerate(self.subs, start=1):
                self._rank(b, place, sub, cells)
            for r in rows:
                if r != rows[0] and (self._reference(b, rows[rows.index(r) - 1]) != self._reference(b, r) or self.grid.rows[b][r].average):
                    rules.add(len(body))
                body.append(tuple(cells[r]))
        spec = self.grid.spec
        title = "" if len(blocks) > 1 or len(self.grid.blocks) == 1 else self._title(blocks[0])
        table = Table(
            name=spec.name,
            cell=title,
            caption=caption(self.grid, self.show, title, blocks),
            columns=(Column("row", "", numeric=False), *(self._column(sub) for sub in self.subs)),
            rows=tuple(body),
            notes=notes(self.grid, self.show, blocks, results),
            rules=frozenset(rules),
            titles={} if title else titles,
        )
        return table

    def _title(self, b: int) -> str:
        line = self.grid.blocks[b]
        return ", ".join(part for part in (line.group, line.label) if part)

    def _reference(self, b: int, r: int) -> bool:
        row = self.grid.rows[b][r]
        return row.reference or row.where.get("method") in REFERENCES

    def _unit(self, c: int) -> Unit:
        column = self.grid.columns[c]
        unit = unit_of_value(column.value or self.grid.spec.value)
        if column.relative_to:
            unit = Unit(1.0, 2, "", "times")
        return unit if column.decimals is None else replace(unit, decimals=column.decimals)

    def number(self, b: int, r: int, sub: Sub) -> Shown:
        """The number of one printed place."""
        if sub.kind == "difference":
            ours, published = (self.number(b, r, replace(sub, kind=kind)) for kind in ("ours", "published"))
            known = ours.mean is not None and published.mean is not None
            return Shown(ours.mean - published.mean if known else None)  # type: ignore[operator]
        row, column = self.grid.rows[b][r], self.grid.columns[sub.column]
        if row.average:
            return _average([self.number(b, other, sub) for other in self.rows(b) if not self.grid.rows[b][other].average])
        if column.average:
            return _average([self.number(b, r, other) for other in self._averaged(sub)])
        place = self.grid.places[b, r, sub.column]
        return _published(place, sub.suffix) if sub.kind == "published" else self._ours(place, sub.column)

    def _averaged(self, sub: Sub) -> Iterator[Sub]:
        """The printed columns that an average column stands for."""
        for c, column in enumerate(self.grid.columns):
            if column.average or column.span or column.relative_to or (column.value or self.grid.spec.value) != self.grid.spec.value:
                continue
            # both kinds of noise whose mapping is unknown are in the average, so it does not depend on the mapping
            noise = column.where.get("noise")
            two = sub.kind == "published" and any(len(place.published) > 1 for (_, _, at), place in self.grid.places.items() if at == c)
            suffix = f" {UNKNOWN_NOISE[UNKNOWN_OURS.index(str(noise))][-1]}" if two else ""
            yield Sub(c, sub.kind, suffix)

    def _ours(self, place: Place, c: int) -> Shown:
        found = place.found
        if found is None:
            return Shown(None)
        unit = self._unit(c)
        summary = found.summary.times(unit.factor)
        mean, std = summary.mean, None if unit.kind == "number" else summary.std
        if self.grid.columns[c].relative_to:
            base = None if place.base is None else place.base.summary.mean
            mean, std = (summary.mean / base if base and summary.mean is not None else None), None
        lacking = SHARED if mean is None and place.value.endswith("_seconds") else GAP if found.has_gaps else ""
        return Shown(mean, std, lacking)

    def _cell(self, b: int, r: int, sub: Sub) -> Cell:
        if sub.kind == "span":
            ours, published = self.grid.spans.get((b, r, sub.column), ([], []))
            values = published if self.show == "published" else ours
            return Cell(span(values) if values else MISSING, values[-1] if values else None)
        shown, unit = self.number(b, r, sub), self._unit(sub.column)
        sign = unit.sign or sub.kind == "difference"
        if unit.kind == "large":
            return Cell(seconds(shown.mean), shown.mean, shown.std, shown.marks)
        text = mean_std(shown.mean, shown.std, unit.decimals, sign) if shown.std is not None else number(shown.mean, unit.decimals, sign)
        return Cell(text, shown.mean, shown.std, shown.marks)

    def _rank(self, b: int, place: int, sub: Sub, cells: Mapping[int, list[Cell]]) -> None:
        """Marks best and second among real contenders; equal as printed is equal."""
        column = self.grid.columns[sub.column]
        oracle = sub.kind == "ours" and self.grid.spec.selection.rule == "test_oracle"
        if sub.kind not in ("ours", "published") or not column.rank or oracle or not self._unit(sub.column).higher_is_better:
            return
        decimals = self._unit(sub.column).decimals
        values: dict[int, float] = {}
        for r, row in cells.items():
            value = row[place].value
            contends = GAP not in row[place].marks and not self._reference(b, r) and not self.grid.rows[b][r].average
            if value is not None and contends:
                values[r] = round(value, decimals)
        order = sorted(set(values.values()), reverse=True)
        for r, value in values.items() if len(values) > 1 else ():
            if value in order[:2]:
                cells[r][place] = replace(cells[r][place], rank=order.index(value) + 1)

    def _column(self, sub: Sub) -> Column:
        column = self.grid.columns[sub.column]
        group, label = column.group, column.label
        if self.show == "published" and sub.suffix:
            group, label = (_unnamed(text, sub.suffix) for text in (group, label))
        words = [*(str(value) for value in column.where.values()), column.label if not column.where else "", sub.suffix.strip()]
        base = re.sub(r"[^a-z0-9.]+", "_", "_".join(word for word in words if word).lower()).strip("_")
        unit = "" if sub.kind == "span" else self._unit(sub.column).suffix
        value = column.value or column.span or ("average" if column.average else self.grid.spec.value)
        key = "_".join(
            part
            for part in (value, "relative" if column.relative_to else "", base, "" if sub.kind in ("ours", "span") else sub.kind, unit)
            if part
        )
        if self.show != "both" or sub.kind == "span" or not self._has_published(sub.column):
            return Column(key, label, group)
        head = {"ours": "ours", "published": f"published{sub.suffix}", "difference": f"difference{sub.suffix}"}[sub.kind]
        return Column(key, head, ", ".join(part for part in (group, label) if part))

    def _has_published(self, c: int) -> bool:
        return self.grid.columns[c].published is not False


def _unnamed(text: str, suffix: str) -> str:
    return re.sub("|".join(UNKNOWN_OURS), f"non-symmetric{suffix}", text)


def _subs(laid: Grid, show: str) -> Iterator[Sub]:
    """The printed columns, in order."""
    seen: set[tuple[Any, ...]] = set()
    run: list[int] = []
    for c, column in enumerate(laid.columns):
        suffixes = list(dict.fromkeys(suffix for (_, _, at), place in laid.places.items() if at == c for suffix, _ in place.published))
        if column.span:
            yield Sub(c, "span")
        elif show == "ours":
            yield Sub(c, "ours")
        elif show == "both":
            yield Sub(c, "ours")
            for suffix in suffixes or ([""] if column.average else []):
                yield from (Sub(c, "published", suffix), Sub(c, "difference", suffix))
        elif len(suffixes) > 1:  # two columns of ours, two published kinds: each published number once
            run.append(c)
            following = laid.columns[c + 1] if c + 1 < len(laid.columns) else Line()
            if following.where.get("noise") in UNKNOWN_OURS:
                continue
            for suffix in suffixes:
                for member in run:
                    about = (suffix, *((name, value) for name, value in laid.columns[member].where.items() if name != "noise"))
                    if about not in seen:
                        seen.add(about)
                        yield Sub(member, "published", suffix)
            run = []
        elif suffixes or column.average:
            yield Sub(c, "published", "".join(suffixes))


def _published(place: Place, suffix: str) -> Shown:
    for number_, (name, quote) in enumerate(place.published):
        if name != suffix or quote is None:
            continue
        if not place.published_base:
            return Shown(quote.mean, quote.std)
        before = place.published_base[number_]
        return Shown(None if before is None else quote.mean - before.mean)
    return Shown(None)


def _average(numbers: Sequence[Shown]) -> Shown:
    """The mean of means; none where one of them is missing."""
    means = [shown.mean for shown in numbers]
    there = [mean for mean in means if mean is not None]
    gap = any(shown.marks for shown in numbers) or 0 < len(there) < len(means)
    return Shown(fmean(there) if there and len(there) == len(means) else None, None, GAP if gap else "")

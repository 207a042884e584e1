"""Builds the tables that are described in YAML: from a store, from the published numbers, or from both with their difference."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from analysis.reference.published import UNKNOWN_NOISE, UNKNOWN_OURS
from analysis.store.labels import DASH, MISSING, REFERENCES, mean_std, number, plain, seconds, span
from analysis.store.load import Results
from analysis.tables.captions import caption, notes, with_score_name
from analysis.tables.layout import LayoutCell, Position, TableLayout, layouts
from analysis.tables.notes import INCOMPLETE_MARK, NO_SECONDS_MARK
from analysis.tables.printed_columns import PrintedColumn, printed_columns
from analysis.tables.rank import rank_column
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tables.spec import TableSpec
from analysis.tables.values import ValueFormat, value_format
from sap_core.errors import UserError, unknown

SHOWS = {"ours": "the store's numbers", "published": "the published numbers", "both": "both, with their difference"}
"""Value of the option --show -> description."""

_MAX_ROWS = 35
"""The most rows of one table, so that it fits a page; further row groups go into another table."""


@dataclass(frozen=True)
class PrintedNumber:
    """One number in the printed unit."""

    mean: float | None
    std: float | None = None
    marks: str = ""
    total: int = 0  # of a count: the number of seeds
    values: tuple[float, ...] = ()  # of a hyperparameter: the value of each seed


def described_tables(spec: TableSpec, results: Results | None, show: str = "ours", checked: bool = False) -> tuple[Table, ...]:
    """Builds the tables of a description; none if there are no numbers.

    A table with published numbers is wide, so each of its row groups becomes a table. Others are split where they would exceed a page.

    Args:
        spec: the description.
        results: the store; None for the published numbers alone.
        show: a key of `SHOWS`.
        checked: whether unknown fields and values are an error, see `layouts`.

    Raises:
        UserError: see `layouts`; or published numbers are requested and the description names no published table.
    """
    if show not in SHOWS:
        raise unknown("numbers to show", show, SHOWS, "--show")
    if show != "ours" and not spec.published:
        raise UserError(f"the table '{spec.name}' has no published numbers to compare with; omit --show, or set 'published' in its file")
    # Without the store, so that its plan does not decide which published numbers are shown.
    found = layouts(spec, None if show == "published" else results, checked)
    return tuple(table for layout in found for table in _tables(layout, show, results))


def _tables(layout: TableLayout, show: str, results: Results | None) -> Iterator[Table]:
    # One builder per layout, because ranks and averages need all entries of a column.
    builder = _Builder(layout, show)
    # Groups without any number would print headings over empty rows.
    groups = [g for g in range(len(layout.row_groups)) if any(builder.has_numbers(g, r) for r in range(len(layout.rows[g])))]
    groups_per_table = 1 if show == "both" else max(1, _MAX_ROWS // max([1, *(len(rows) for rows in layout.rows)]))
    for start in range(0, len(groups), groups_per_table):
        yield builder.table(groups[start : start + groups_per_table], results)


class _Builder:
    """Formats the entries of one layout."""

    def __init__(self, layout: TableLayout, show: str) -> None:
        self.layout = layout
        self.show = show
        self.printed = list(printed_columns(layout, show))

    def has_numbers(self, g: int, r: int) -> bool:
        """Whether a row has a number of its own; averages have none."""
        for cell in self.layout.of_row(g, r):
            if self.show != "published" and cell.found is not None:
                return True
            if self.show != "ours" and any(quote is not None for _, quote in cell.published):
                return True
        return False

    def rows(self, g: int) -> list[int]:
        """The printed rows of a row group: all in a table of the store, otherwise those with a number; averages over at least two rows."""
        # In a table of the store an empty row shows what is still missing.
        kept = [r for r, row in enumerate(self.layout.rows[g]) if not row.average and (self.show == "ours" or self.has_numbers(g, r))]
        return kept + [r for r, row in enumerate(self.layout.rows[g]) if row.average and len(kept) > 1]

    def table(self, groups: Sequence[int], results: Results | None) -> Table:
        """Formats some row groups as one table."""
        body: list[list[FormattedCell]] = []
        # Titles and rules are keyed by the index of the row that they precede.
        titles: dict[int, str] = {}
        rules: set[int] = set()
        for g in groups:
            if self._titled() and self.layout.row_groups[g].label:
                titles[len(body)] = self._title(g)
            rows = self.rows(g)
            cells = {
                r: [FormattedCell(self.layout.rows[g][r].label), *(self._cell(g, r, printed) for printed in self.printed)] for r in rows
            }
            # Ranked within the row group: its rows share a data set or noise rate, those of other groups do not.
            for index, printed in enumerate(self.printed, start=1):
                self._rank(g, index, printed, cells)
            for r in rows:
                # A line where references and contenders meet, and above averages.
                if r != rows[0] and (
                    self._reference(g, rows[rows.index(r) - 1]) != self._reference(g, r) or self.layout.rows[g][r].average
                ):
                    rules.add(len(body))
                body.append(cells[r])
        spec = self.layout.spec
        # The title of an only group goes into the caption.
        single = "" if len(groups) > 1 or not self._titled() or spec.tables else self._title(groups[0])
        title = self.layout.title or single
        return Table(
            name=spec.name,
            cell=title,
            caption=caption(self.layout, self.show, title, groups),
            columns=(Column("row", spec.row_label, numeric=False), *(self._column(printed) for printed in self.printed)),
            rows=tuple(map(tuple, body)),
            notes=notes(self.layout, self.show, groups, results),
            rules=frozenset(rules),
            titles={} if single else titles,
        )

    def _titled(self) -> bool:
        """Whether row groups have titles; the only one of a description without `tables` needs none."""
        return len(self.layout.row_groups) > 1 or bool(self.layout.spec.tables)

    def _title(self, g: int) -> str:
        return self.layout.row_groups[g].label

    def _reference(self, g: int, r: int) -> bool:
        row = self.layout.rows[g][r]
        return row.reference or row.where.get("method") in REFERENCES

    def _format(self, c: int) -> ValueFormat:
        column = self.layout.columns[c]
        form = value_format(column.value or self.layout.spec.value, self.layout.measure)
        if column.relative_to:
            form = ValueFormat(1.0, 2, "", "times")
        return form if column.decimals is None else replace(form, decimals=column.decimals)

    def number(self, g: int, r: int, printed: PrintedColumn) -> PrintedNumber:
        """The number of one entry, in the printed unit."""
        # Of the unrounded numbers.
        if printed.source == "difference":
            ours, published = (self.number(g, r, replace(printed, source=source)) for source in ("ours", "published"))
            known = ours.mean is not None and published.mean is not None
            return PrintedNumber(ours.mean - published.mean if known else None)  # type: ignore[operator]
        row, column = self.layout.rows[g][r], self.layout.columns[printed.column]
        # An average is over what is printed, so that a reader can recompute it.
        if row.average:
            return _average([self.number(g, other, printed) for other in self.rows(g) if not self.layout.rows[g][other].average])
        if column.average:
            return _average([self.number(g, r, other) for other in self._averaged(printed)])
        at = (g, r, printed.column)
        return _published(self.layout.cells[at], printed.suffix) if printed.source == "published" else self._ours(at)

    def _averaged(self, printed: PrintedColumn) -> Iterator[PrintedColumn]:
        """The printed columns that an average column averages: those that print the same value."""
        for c, column in enumerate(self.layout.columns):
            if column.average or column.span or column.relative_to or (column.value or self.layout.spec.value) != self.layout.spec.value:
                continue
            # the average contains both kinds of unidentified noise, so it does not depend on which is which
            noise = column.where.get("noise")
            ambiguous = printed.source == "published" and any(
                len(cell.published) > 1 for (_, _, at), cell in self.layout.cells.items() if at == c
            )
            suffix = f" {UNKNOWN_NOISE[UNKNOWN_OURS.index(str(noise))][-1]}" if ambiguous else ""
            yield PrintedColumn(c, printed.source, suffix)

    def _ours(self, at: Position) -> PrintedNumber:
        cell, column, form = self.layout.cells[at], self.layout.columns[at[2]], self._format(at[2])
        if cell.found is None:
            return PrintedNumber(None)
        summary = cell.found.summary.times(form.factor)
        mean, std = summary.mean, summary.std if form.quantity not in ("number", "count", "setting") else None
        if column.relative_to:
            base = None if cell.base is None else cell.base.summary.mean
            mean, std = (summary.mean / base if base and summary.mean is not None else None), None
        # The value of a seed is 0 or 1, so mean x n is the count.
        if form.quantity == "count" and mean is not None:
            mean = round(mean * summary.n)
        # Absent seconds have a reason of their own, which is no gap in the sweep.
        no_seconds = mean is None and cell.value.endswith("_seconds") and cell.found.method not in REFERENCES
        mark = NO_SECONDS_MARK if no_seconds else INCOMPLETE_MARK if self.layout.is_incomplete(at) else ""
        settings = tuple(one.value for one in cell.found.values if one.value is not None) if form.quantity == "setting" else ()
        return PrintedNumber(mean, std, mark, summary.n, settings)

    def _cell(self, g: int, r: int, printed: PrintedColumn) -> FormattedCell:
        if printed.source == "span":
            ours, published = self.layout.spans.get((g, r, printed.column), ([], []))
            values = published if self.show == "published" else ours
            if not values:
                return FormattedCell(MISSING)
            low, high = values[0], values[-1]
            return FormattedCell(span(values), low) if low == high else FormattedCell(span(values), interval=(low, high))
        entry, form = self.number(g, r, printed), self._format(printed.column)
        sign = form.sign or printed.source == "difference"
        # Counts are of seeds: `2 of 3`.
        if form.quantity == "count":
            text = MISSING if entry.mean is None else f"{entry.mean:.0f} of {entry.total}"
        elif form.quantity == "setting" and entry.mean is not None:
            text = _setting(entry, self.layout.columns[printed.column].decimals)
        elif form.quantity == "large" and self.layout.columns[printed.column].decimals is None:
            text = seconds(entry.mean)
        else:
            text = mean_std(entry.mean, entry.std if self.layout.columns[printed.column].spread else None, form.decimals, sign)
        # The mean of different settings may be none of the values of the grid; CSV has their range as well.
        differ = len(set(entry.values)) > 1
        return FormattedCell(text, entry.mean, entry.std, entry.marks, interval=(min(entry.values), max(entry.values)) if differ else None)

    def _rank(self, g: int, index: int, printed: PrintedColumn, cells: Mapping[int, list[FormattedCell]]) -> None:
        """Ranks the contenders of a column: neither references nor averages, and no setting that was selected by its test score."""
        column, form = self.layout.columns[printed.column], self._format(printed.column)
        # A setting selected by its test score has an unfair advantage.
        oracle = printed.source == "ours" and (column.rule or self.layout.spec.selection.rule) == "test_oracle"
        # A difference to the published number has no best value.
        if printed.source not in ("ours", "published") or not column.rank or oracle or not form.higher_is_better:
            return
        contenders = [position for position, r in enumerate(cells) if not self._reference(g, r) and not self.layout.rows[g][r].average]
        rank_column(list(cells.values()), index, contenders, form.decimals)

    def _column(self, printed: PrintedColumn) -> Column:
        column = self.layout.columns[printed.column]
        group, label = column.group, column.label
        if self.show == "published" and printed.suffix:
            group, label = (_anonymous(text, printed.suffix) for text in (group, label))
        parts = [
            *(str(value) for value in column.where.values() if value is not None),
            column.label if not column.where else "",
            printed.suffix.strip(),
        ]
        # Names in CSV follow from the conditions, so that they stay the same if a label is reworded.
        base = re.sub(r"[^a-z0-9.]+", "_", "_".join(part for part in parts if part).lower()).strip("_")
        # The unit is part of the column's name, so that CSV needs no second header.
        suffix = "" if printed.source == "span" else self._format(printed.column).suffix
        value = column.value or column.span or ("average" if column.average else self.layout.spec.value)
        source = "" if printed.source in ("ours", "span") else printed.source
        names = (column.key,) if column.key else (value, column.rule, "relative" if column.relative_to else "", base)
        key = "_".join(part for part in (*names, source, suffix) if part)
        if self.show != "both" or printed.source == "span" or not self._has_published(printed.column):
            return Column(key, with_score_name(label, self.layout.measure), with_score_name(group, self.layout.measure))
        head = {"ours": "ours", "published": f"published{printed.suffix}", "difference": f"difference{printed.suffix}"}[printed.source]
        return Column(key, head, ", ".join(part for part in (group, label) if part))

    def _has_published(self, c: int) -> bool:
        return self.layout.columns[c].published is not False


def _anonymous(text: str, suffix: str) -> str:
    """Replaces our names of the noise by the published one, which does not say which of ours it is."""
    return re.sub("|".join(UNKNOWN_OURS), f"non-symmetric{suffix}", text)


def _published(cell: LayoutCell, suffix: str) -> PrintedNumber:
    for index, (name, quote) in enumerate(cell.published):
        if name != suffix or quote is None:
            continue
        # Anything but a gain is compared as printed.
        if not cell.published_base:
            return PrintedNumber(quote.mean, quote.std)
        vanilla = cell.published_base[index]
        # Publications print scores, not gains; the spread of the difference is unknown.
        return PrintedNumber(None if vanilla is None else quote.mean - vanilla.mean)
    return PrintedNumber(None)


def _setting(entry: PrintedNumber, decimals: int | None) -> str:
    """A hyperparameter: its value, or its range if the seeds chose different ones, whose mean may be none of the values of the grid."""

    def text(value: float) -> str:
        return plain(value) if decimals is None else number(value, decimals)

    if not entry.values:
        # An average over rows or columns; four significant digits suffice, whereas values of a grid are printed in full.
        assert entry.mean is not None
        return text(float(f"{entry.mean:.4g}") if decimals is None else entry.mean)
    low, high = text(min(entry.values)), text(max(entry.values))
    return low if low == high else f"{low}{DASH}{high}"


def _average(numbers: Sequence[PrintedNumber]) -> PrintedNumber:
    """The mean of the means; None if one of them is missing."""
    known = [printed.mean for printed in numbers if printed.mean is not None]
    # An average over the entries that happen to exist would not be comparable with that of another row.
    incomplete = any(printed.marks for printed in numbers) or 0 < len(known) < len(numbers)
    return PrintedNumber(fmean(known) if known and len(known) == len(numbers) else None, None, INCOMPLETE_MARK if incomplete else "")

"""The main table: every method and space beside the unmodified model and the retrained one. One table per cell of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MEASURES, MISSING, REFERENCES, RETRAIN, Measure, mean_std, method_label, seconds, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.entries import Entry, entries, failed, information, tried
from analysis.tables.notes import EDGE, GAP, SHARED, cell_title, notes
from analysis.tables.rank import rank_column
from analysis.tables.render import Cell, Column, Table
from analysis.tuning.cost import per_seed, unit_of
from sap_core.records import VANILLA

RULES_SHOWN = ("val_noisy", "val_clean_part")

_OPTIONAL = ("failed", "shared_giga_flops", "alone_giga_flops", "unmodified_kept", "trusted_label_precision", "wrong_given", "wrong_true")
"""Columns that are left out where no row has anything to say in them."""


def comparison(results: Results, rules: Sequence[str] = RULES_SHOWN) -> tuple[Table, ...]:
    """One table per cell. The first rule is the one that gains, trusted sets and wrong labels are told under.

    Raises:
        UserError: the store is a smoke run's, or plans nothing that a table could show.
    """
    return tuple(_table(results, cell, rules) for cell in cells(results))


def _table(results: Results, cell: CellResult, rules: Sequence[str]) -> Table:
    measure = MEASURES[cell.measure]
    listed = entries(cell, rules)
    with_flops = any(unit_of(entry.searches) == "flops" for entry in listed)
    body = [_vanilla_row(cell, rules, measure), *(_method_row(cell, entry, rules, measure, with_flops) for entry in listed)]
    columns = _columns(rules, measure)
    contenders = [number for number, entry in enumerate(listed, start=1) if entry.method not in REFERENCES and not entry.incomplete]
    for number, column in enumerate(columns):
        if column.key.startswith("test_") and "oracle" not in column.key:
            rank_column(body, number, contenders, measure.decimals)
    shown = [
        number
        for number, column in enumerate(columns)
        if not column.key.startswith(_OPTIONAL) or any(row[number].text not in (MISSING, "0") for row in body)
    ]
    references = next((number for number, entry in enumerate(listed, start=1) if entry.method == RETRAIN), 0)
    return Table(
        name="comparison",
        cell=cell.name,
        caption=_caption(cell, listed, measure),
        columns=tuple(columns[number] for number in shown),
        rows=tuple(tuple(row[number] for number in shown) for row in body),
        notes=notes(results, cell, listed, rules),
        rules=frozenset({1, references} - {0}) if listed else frozenset(),
    )


def _columns(rules: Sequence[str], measure: Measure) -> list[Column]:
    unit = f" ({measure.unit})" if measure.unit else ""
    suffix = "_percent" if measure.unit == "%" else ""
    return [
        Column("method", "Method", numeric=False),
        Column("tried", "Configurations", numeric=False),
        Column("failed", "Failed", numeric=False),
        Column("information", "Information used", numeric=False),
        *(Column(f"test_{rule}{suffix}", rule, f"Test {measure.name}{unit}") for rule in rules),
        Column("gain_points", "Gain" + (" (points)" if measure.unit else "")),
        Column("tuning_seconds", "shared", "Tuning cost (s)"),
        Column("alone_seconds", "alone", "Tuning cost (s)"),
        Column("shared_giga_flops", "shared", "Tuning cost (GFLOP)"),
        Column("alone_giga_flops", "alone", "Tuning cost (GFLOP)"),
        Column("unmodified_kept", "Kept vanilla", numeric=False),
        Column("trusted_precision_percent", "Trusted right (%)"),
        Column("wrong_given_percent", "as given", "Wrong labels (%)"),
        Column("wrong_true_percent", "as true", "Wrong labels (%)"),
    ]


def _vanilla_row(cell: CellResult, rules: Sequence[str], measure: Measure) -> list[Cell]:
    rows = [baseline.row for baseline in cell.baselines]
    lacking = GAP if any(row is None for row in rows) else ""

    def mean(column: str, shown: Measure) -> Cell:
        return _number(summarise(None if row is None else float(row[column]) for row in rows), shown)

    test = mean(score_column("test_oracle", cell.measure), measure)
    blank = Cell(MISSING)
    return [
        Cell(method_label(VANILLA), marks=lacking), blank, blank, Cell("none"), *(test for _ in rules), *([blank] * 7),
        mean("mislabelled_given_acc", _SHARE), mean("mislabelled_true_acc", _SHARE),
    ]  # fmt: skip


def _method_row(cell: CellResult, entry: Entry, rules: Sequence[str], measure: Measure, with_flops: bool) -> list[Cell]:
    test, first = score_column("test_oracle", cell.measure), rules[0]
    flops = per_seed(entry.searches, "flops") if with_flops else (Summary(None, None, 0),) * 2
    mark = "" if unit_of(entry.searches) == "seconds" else SHARED
    gains = [
        None if choice.row is None or search.vanilla is None else float(choice.row[test]) - float(search.vanilla[test])
        for search, choice in zip(entry.searches, entry.chosen[first], strict=True)
    ]
    kept = sum(choice.kept for choice in entry.chosen[first])
    trusted = [
        None if choice.kept or choice.row is None else float(choice.row["trusted_label_precision"]) for choice in entry.chosen[first]
    ]
    return [
        Cell(method_label(entry.method, entry.space), marks=GAP if entry.incomplete else ""),
        Cell(tried(entry)),
        Cell(failed(entry)),
        Cell(information(entry)),
        *(_number(summarise(entry.scores(rule, test)), measure, marks=_marks(entry, rule)) for rule in rules),
        _number(summarise(gains), measure, sign=True),
        *(Cell(seconds(cost.mean), cost.mean, cost.std, mark) for cost in per_seed(entry.searches)),
        *(giga_flops(cost) for cost in flops),
        Cell(f"{kept} of {len(entry.searches)}" if kept else "0"),
        _number(summarise(trusted), _SHARE),
        _number(summarise(entry.scores(first, "mislabelled_given_acc")), _SHARE),
        _number(summarise(entry.scores(first, "mislabelled_true_acc")), _SHARE),
    ]


_SHARE = Measure("share", "%", 100, 1)


def _number(summary: Summary, measure: Measure, marks: str = "", sign: bool = False) -> Cell:
    shown = summary.times(measure.factor)
    text = mean_std(shown.mean, None if measure is _SHARE else shown.std, measure.decimals, sign)
    return Cell(text, shown.mean, shown.std, marks)


def giga_flops(cost: Summary) -> Cell:
    """FLOPs in thousands of millions."""
    shown = cost.times(1e-9)
    return Cell(seconds(shown.mean), shown.mean, shown.std)


def _marks(entry: Entry, rule: str) -> str:
    edge = any(choice.boundary_values for choice in entry.chosen[rule])
    gap = any(choice.row is None for choice in entry.chosen[rule])
    return (EDGE if edge else "") + (GAP if gap else "")


def _caption(cell: CellResult, listed: Sequence[Entry], measure: Measure) -> str:
    gaps = sum(choice.row is None for entry in listed for choices in entry.chosen.values() for choice in choices)
    lacking = f" {gaps} values are missing and marked {GAP}." if gaps else ""
    spread = spread_over(len(cell.seeds))
    return f"Test {measure.name} after tuning on {cell_title(cell)}: {spread}.{lacking}"

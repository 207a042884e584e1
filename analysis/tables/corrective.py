"""Corrective unlearning: accuracy on the part of the test set that the noise concerns, and on the rest. One table per cell.

The part and the rest are the noise's to say (two confused classes, images with a painted trigger); rows of other noise have no such scores
and make no table.
"""

from __future__ import annotations

import pandas as pd

from analysis.store.labels import MISSING, REFERENCES, mean_std, method_label, span, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import RULES
from analysis.store.stats import Summary, summarise
from analysis.tables.comparison import RULES_SHOWN
from analysis.tables.entries import Entry, entries, information
from analysis.tables.notes import GAP, cell_title
from analysis.tables.render import Cell, Column, Table
from sap_core.records import VANILLA

PARTS = {"test_affected_acc": "affected", "test_unaffected_acc": "rest"}

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("information", "Information used", numeric=False),
    Column("known_percent", "Wrong known (%)"),
    *(Column(f"{part}_{rule}_percent", name, f"Test accuracy (%), {rule}") for rule in RULES_SHOWN for part, name in PARTS.items()),
    Column("unmodified_kept", "Kept vanilla", numeric=False),
)

_NOTES = (
    "Affected: test images that the noise concerns (of the confused classes; with the trigger painted on them), under their true labels. "
    "Rest: the test images of the other classes; with a trigger, all test images as they are.",
    "Wrong known: forget samples handed to the method, as a share of the wrongly labelled training samples.",
    *(f"{rule}: {RULES[rule].format(score='accuracy')}." for rule in RULES_SHOWN),
)


def corrective(results: Results) -> tuple[Table, ...]:
    """One table per cell whose rows have such scores."""
    return tuple(_table(cell) for cell in cells(results) if cell.rows["test_affected_acc"].notna().any())


def _table(cell: CellResult) -> Table:
    listed = entries(cell, RULES_SHOWN)
    body = [_vanilla(cell), *(_row(entry) for entry in listed)]
    references = next((number for number, entry in enumerate(listed, start=1) if entry.method in REFERENCES), 0)
    return Table(
        name="corrective",
        cell=cell.name,
        caption=f"What correcting does to the affected domain and to the rest, on {cell_title(cell)}: {spread_over(len(cell.seeds))}.",
        columns=_COLUMNS,
        rows=tuple(body),
        notes=(*_NOTES, *((f"{GAP} Settings or seeds are missing.",) if any(cell_.marks for row in body for cell_ in row) else ())),
        rules=frozenset({1, references} - {0}) if listed else frozenset(),
    )


def _vanilla(cell: CellResult) -> tuple[Cell, ...]:
    rows = [baseline.row for baseline in cell.baselines]
    scores = [_number(summarise(None if row is None else float(row[part]) for row in rows)) for part in PARTS]
    lacking = GAP if any(row is None for row in rows) else ""
    return (Cell(method_label(VANILLA), marks=lacking), Cell("none"), Cell(MISSING), *(scores * len(RULES_SHOWN)), Cell(MISSING))


def _row(entry: Entry) -> tuple[Cell, ...]:
    known = _known(entry)
    kept = {rule: sum(choice.kept for choice in entry.chosen[rule]) for rule in RULES_SHOWN}
    return (
        Cell(_label(entry), marks=GAP if entry.incomplete else ""),
        Cell(information(entry)),
        Cell(span(known * 100), float(known.mean() * 100) if len(known) else None),
        *(_number(summarise(entry.scores(rule, part))) for rule in RULES_SHOWN for part in PARTS),
        Cell(", ".join(f"{count} ({rule})" for rule, count in kept.items() if count) or "0"),
    )


def _label(entry: Entry) -> str:
    """With the space, which says how much was known; a retraining that is told everything has the only one there is."""
    name = method_label(entry.method, entry.space)
    return f"{name} ({entry.space})" if entry.method in REFERENCES and entry.space not in (None, "only") else name


def _known(entry: Entry) -> pd.Series:
    """Verified forget samples by wrongly labelled training samples, per row; samples doubted by a score are not known to be wrong."""
    rows = pd.concat([search.rows for search in entry.searches])
    rows = rows[rows["num_forget"].gt(0) & rows["information"].isin(["oracle", "verified_file"])]
    return (rows["num_forget"] / (rows["noise_rate_measured"] * rows["num_train"])).dropna()


def _number(summary: Summary) -> Cell:
    shown = summary.times(100)
    return Cell(mean_std(shown.mean, shown.std, 2), shown.mean, shown.std)

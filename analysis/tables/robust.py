"""Ways of training side by side, and what correction adds to each: the form of SAP's second table.

One table per data set, noise and network that has several ways of training (trainers, selections) with tuned methods.
"""

from __future__ import annotations

from collections.abc import Sequence

from analysis.store.labels import MEASURES, mean_std, method_label, spread_over
from analysis.store.load import Results
from analysis.store.results import CellResult, cells
from analysis.store.selection_rule import score_column
from analysis.store.stats import Summary, summarise
from analysis.tables.notes import GAP
from analysis.tables.prl import gap_note, number, ranked
from analysis.tables.render import Cell, Column, Table

RULE = "val_noisy"


def robust(results: Results) -> tuple[Table, ...]:
    """The tables, in the plan's order; none where each data set, noise and network has one way of training, or nothing was tuned.

    Raises:
        UserError: see `analysis.store.results.cells`.
    """
    if not (results.plan["job_type"] == "tune").any():
        return ()
    groups: dict[str, list[CellResult]] = {}
    for cell in cells(results):
        if cell.measure == "acc" and cell.methods:
            groups.setdefault("/".join(cell.name.split("/")[:3]), []).append(cell)
    return tuple(_table(name, members) for name, members in groups.items() if len(members) > 1)


def _table(name: str, members: Sequence[CellResult]) -> Table:
    measure, column = MEASURES["acc"], score_column("test_oracle", "acc")
    methods = list(dict.fromkeys(key for cell in members for key in cell.methods))
    body = []
    for cell in members:
        before = [None if baseline.row is None else float(baseline.row[column]) for baseline in cell.baselines]
        row = [Cell("/".join(cell.name.split("/")[3:])), number(summarise(before).times(measure.factor), measure.decimals)]
        for key in methods:
            searches = cell.methods.get(key, ())
            chosen = [search.choose(RULE).row for search in searches]
            after = summarise(None if row_ is None else float(row_[column]) for row_ in chosen).times(measure.factor)
            gains = summarise(
                None if row_ is None or search.vanilla is None else float(row_[column]) - float(search.vanilla[column])
                for row_, search in zip(chosen, searches, strict=True)
            ).times(measure.factor)
            lacking = GAP if any(search.missing for search in searches) else ""
            row += [number(after, measure.decimals, lacking), _gain(gains)]
        body.append(row)
    for place in range(1, 2 + 2 * len(methods)):
        if place == 1 or place % 2 == 0:
            ranked(body, place, range(len(body)))
    columns = [Column("training", "Training", numeric=False), Column("vanilla_percent", "Uncorrected", "Test accuracy (%)")]
    for method, space in methods:
        label = method_label(method, space)
        columns.append(Column(f"{method}_{space}_percent", label, "Test accuracy (%)"))
        columns.append(Column(f"{method}_{space}_gain_points", f"by {label}", "Gain"))
    seeds = max(len(cell.seeds) for cell in members)
    caption = f"Ways of training, and correction after each, on {name}; settings chosen by {RULE}: {spread_over(seeds)}."
    return Table("robust", name, caption, tuple(columns), tuple(map(tuple, body)), gap_note(body))


def _gain(gains: Summary) -> Cell:
    return Cell(mean_std(gains.mean, gains.std, 2, sign=True), gains.mean, gains.std)

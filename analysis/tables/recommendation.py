"""Use the corrected model or keep yours: one line for each search, from the paired answers on its validation samples."""

from __future__ import annotations

import pandas as pd

from analysis.store.labels import MISSING, counted, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.tables.entries import setting_text
from analysis.tables.notes import cell_title
from analysis.tables.render import Cell, Column, Table
from analysis.tuning.mcnemar import LEVEL, McNemarTest

RULE = "val_noisy"

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("seed", "Seed"),
    Column("chosen", "Chosen setting", numeric=False),
    Column("settings_tried", "Settings tried"),
    Column("val_samples", "samples", "Validation"),
    Column("val_newly_right", "won", "Validation"),
    Column("val_newly_wrong", "lost", "Validation"),
    Column("p_value", "p"),
    Column("recommendation", "Recommendation", numeric=False),
)


_NOTES = (
    "Won: validation samples (given labels) that the corrected model has right and the unmodified one wrong; lost: the other way about.",
    f"p: exact one-sided sign test on these samples, times all distinct settings tried on this baseline (Bonferroni); the corrected "
    f"model is recommended where p is at most {LEVEL:g}.",
    "The number of samples that would decide takes won and lost to go on at the observed rates: a guess where few samples differ.",
)


def recommendation(results: Results) -> tuple[Table, ...]:
    """One table per cell whose rows count won and lost validation samples; none for older stores and for regressions."""
    return tuple(_table(cell) for cell in cells(results) if cell.rows["val_newly_right"].notna().any())


def recommendation_for_own_data(results: Results) -> tuple[Table, ...]:
    """The tables of cells without added noise: there the labels, right or wrong, are what somebody really has."""
    own = {cell.name for cell in cells(results) if not (cell.rows["noise_rate"] > 0).any()}
    return tuple(table for table in recommendation(results) if table.cell in own)


def _table(cell: CellResult) -> Table:
    searches = [search for found in cell.methods.values() for search in found]
    tried = {seed: _tried([search for search in searches if search.seed == seed]) for seed in cell.seeds}
    return Table(
        name="recommendation",
        cell=cell.name,
        caption=f"Corrected model or yours, on {cell_title(cell)}: the setting that {RULE} chooses against the unmodified model.",
        columns=_COLUMNS,
        rows=tuple(_row(search, tried[search.seed]) for search in searches),
        notes=_NOTES,
    )


def _tried(searches: list[SearchResult]) -> int:
    """Distinct settings on one baseline, all its searches together."""
    return sum(int(search.planned["computation_id"].nunique()) for search in searches)


def _row(search: SearchResult, tried: int) -> tuple[Cell, ...]:
    choice = search.choose(RULE)
    row = choice.row
    label = (Cell(method_label(search.method, search.space)), Cell(str(search.seed), search.seed))
    if row is None or choice.kept or pd.isna(row["val_newly_right"]):
        why = choice.problem or ("keep the unmodified model: no setting is better" if choice.kept else "won and lost were not recorded")
        return (*label, Cell(MISSING), Cell(str(tried), tried), *(Cell(MISSING) for _ in range(4)), Cell(why))
    found = McNemarTest(int(row["val_newly_wrong"]), int(row["val_newly_right"]), int(row["num_val"]), tried)
    return (
        *label,
        Cell(_setting(search, row)),
        Cell(str(tried), tried),
        *(Cell(str(value), value) for value in (found.samples, found.newly_right, found.newly_wrong)),
        Cell(number(found.p_value, 4), found.p_value),
        Cell(_words(found)),
    )


def _words(found: McNemarTest) -> str:
    if found.significant:
        return "use the corrected model"
    needed = found.samples_needed
    more = f"about {counted(needed, 'validation sample')} would decide" if needed is not None else "more samples would hardly decide"
    return f"keep the unmodified model; {more}"


def _setting(search: SearchResult, row: pd.Series) -> str:
    (chosen,) = [setting for setting, run_id in zip(search.settings, search.planned["run_id"], strict=True) if run_id == row["run_id"]]
    return setting_text(chosen, search.settings)

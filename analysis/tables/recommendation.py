"""Table `recommendation`: whether to use the corrected model or keep the unmodified one, by a paired test on the validation samples."""

from __future__ import annotations

import pandas as pd

from analysis.store.labels import MISSING, counted, method_label, number
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.tables.method_rows import setting_text
from analysis.tables.notes import cell_title
from analysis.tables.render import Column, FormattedCell, Table
from analysis.tuning.mcnemar import LEVEL, McNemarTest

RULE = "val_noisy"

_COLUMNS = (
    Column("method", "Method", numeric=False),
    Column("seed", "Seed"),
    Column("chosen", "Selected setting", numeric=False),
    Column("settings_tried", "Settings tried"),
    Column("val_samples", "samples", "Validation"),
    Column("val_newly_right", "newly right", "Validation"),
    Column("val_newly_wrong", "newly wrong", "Validation"),
    Column("p_value", "p"),
    Column("recommendation", "Recommendation", numeric=False),
)


_NOTES = (
    "Newly right: validation samples whose given label the corrected model predicts and the unmodified model does not. Newly wrong: the "
    "reverse.",
    "p: exact one-sided sign test (McNemar) on these samples, Bonferroni-corrected for all distinct settings tried on this baseline; the "
    f"corrected model is recommended if p is at most {LEVEL:g}.",
    "The number of samples that would decide extrapolates the observed rates, and is imprecise if few samples differ.",
)


def recommendation(results: Results) -> tuple[Table, ...]:
    """Computes one table per cell whose rows count newly right and newly wrong validation samples, or whose settings all failed.

    Regressions count none and have no table.
    """
    return tuple(_table(cell) for cell in cells(results) if cell.rows["val_newly_right"].notna().any() or _all_failed(cell))


def _all_failed(cell: CellResult) -> bool:
    """Whether a classification's searches have rows and all of them failed, so that none counts changed predictions."""
    rows = [search.rows for found in cell.methods.values() for search in found if len(search.rows)]
    return cell.measure == "acc" and bool(rows) and all((part["status"] != "ok").all() for part in rows)


def recommendation_for_own_data(results: Results) -> tuple[Table, ...]:
    """The tables of cells without synthetic noise: the labels are the user's own, so the recommendation is of practical use."""
    # With synthetic noise a user would know the right labels anyway.
    own = {cell.name for cell in cells(results) if not (cell.rows["noise_rate"] > 0).any()}
    return tuple(table for table in recommendation(results) if table.cell in own)


def _table(cell: CellResult) -> Table:
    searches = [search for found in cell.methods.values() for search in found]
    # Counted over all searches on the baseline, because a user picks among all of them.
    num_settings = {seed: _num_settings([search for search in searches if search.seed == seed]) for seed in cell.seeds}
    return Table(
        name="recommendation",
        cell=cell.name,
        caption=f"Corrected or unmodified model on {cell_title(cell)}: paired test of the setting selected by {RULE}.",
        columns=_COLUMNS,
        rows=tuple(_row(search, num_settings[search.seed]) for search in searches),
        notes=_NOTES,
    )


def _num_settings(searches: list[SearchResult]) -> int:
    """The number of distinct settings on one baseline over all its searches, for the Bonferroni correction."""
    return sum(int(search.planned["computation_id"].nunique()) for search in searches)


def _row(search: SearchResult, num_settings: int) -> tuple[FormattedCell, ...]:
    choice = search.choose(RULE)
    row = choice.row
    label = (FormattedCell(method_label(search.method, search.space)), FormattedCell(str(search.seed), search.seed))
    # Without a change there is nothing to test.
    if row is None or choice.kept or pd.isna(row["val_newly_right"]):
        reason = f"no recommendation: {choice.problem or 'the changed predictions were not recorded'}"
        if choice.kept:
            reason = "keep the unmodified model: no setting is better"
        return (
            *label,
            FormattedCell(MISSING),
            FormattedCell(str(num_settings), num_settings),
            *(FormattedCell(MISSING) for _ in range(4)),
            FormattedCell(reason),
        )
    # The counts are stored by the platform, which has both predictions of each validation sample.
    test = McNemarTest(int(row["val_newly_wrong"]), int(row["val_newly_right"]), int(row["num_val"]), num_settings)
    return (
        *label,
        FormattedCell(_setting(search, row)),
        FormattedCell(str(num_settings), num_settings),
        *(FormattedCell(str(value), value) for value in (test.samples, test.newly_right, test.newly_wrong)),
        FormattedCell(number(test.p_value, 4), test.p_value),
        FormattedCell(_advice(test)),
    )


def _advice(test: McNemarTest) -> str:
    if test.significant:
        return "use the corrected model"
    # A negative answer states what would change it.
    needed = test.samples_needed
    more = f"about {counted(needed, 'validation sample')} would decide" if needed is not None else "more samples are unlikely to decide"
    return f"keep the unmodified model; {more}"


def _setting(search: SearchResult, row: pd.Series) -> str:
    (chosen,) = [setting for setting, run_id in zip(search.settings, search.planned["run_id"], strict=True) if run_id == row["run_id"]]
    return setting_text(chosen, search.settings)

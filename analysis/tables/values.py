"""The values that a described table can contain: how the value of one seed is computed, and its printed unit and decimals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from analysis.store.labels import MEASURES, REFERENCES
from analysis.store.results import SearchResult
from analysis.store.selection_rule import score_column
from analysis.store.stats import difference, number_of
from analysis.tuning.cost import exclusive_device
from sap_core.errors import unknown
from sap_core.records import Row

ROW_FIELDS = tuple(item.name for item in fields(Row))

SCORES = {"test": "test_oracle", "val_noisy": "val_noisy", "val_clean": "val_clean_part"}
"""Score in the measure of the task (accuracy, or R² of a regression) -> the selection rule that uses the same column."""

ALWAYS_SCORED = ("test", "val_noisy", "gain")
"""Values that every stored row has, whatever the task, so that an entry without one is incomplete."""

COMPUTED = ("gain", "kept", "settings", "optimism", "trained_noise_rate", "forget_known_rate")
"""Values that are computed from several columns or rows."""

SUMMED, AVERAGED, CHOSEN, LAST = "search_", "mean_", "chosen.", "last."
"""Prefixes of values: `search_flops` is the sum over the settings of the search, `mean_trusted_label_precision` the mean over them,
`chosen.alpha` a hyperparameter of the selected setting, `last.kept_label_precision` the last point of a series of the run."""


@dataclass(frozen=True)
class ValueFormat:
    """How a value is printed: stored value x factor, rounded to `decimals`."""

    factor: float
    decimals: int
    suffix: str  # of the column's name in CSV, the unit
    quantity: str  # share | points | score | large | number | count | times | setting
    sign: bool = False

    @property
    def higher_is_better(self) -> bool:
        """Whether the column is ranked."""
        return self.quantity in ("share", "points", "score")


def value_format(value: str, measure: str = "acc") -> ValueFormat:
    """The format of a column of the rows or of a computed value; `measure` is that of the task, acc or r2."""
    score = MEASURES[measure]
    # Before the endings: a learning rate is no share.
    if value.startswith(CHOSEN):
        return ValueFormat(1, 0, "", "setting")
    if value in ("gain", "optimism"):
        return ValueFormat(score.factor, score.decimals, "points", "points" if value == "gain" else "number", sign=True)
    if value in SCORES:
        return ValueFormat(score.factor, score.decimals, "percent" if score.unit else "", "share" if score.unit else "score")
    if value == "kept":
        return ValueFormat(1, 0, "", "count")
    # Units follow from the names of columns, so that a new column needs no entry here.
    if value.endswith(("_acc", "_precision", "_rate", "_rate_measured")):
        return ValueFormat(100, 2, "percent", "share")
    if value.endswith("_r2"):
        return ValueFormat(1, 4, "", "score")
    if "flops" in value:
        return ValueFormat(1e-9, 0, "giga", "large")
    if value.endswith(("_seconds", "_forwards", "_backwards")):
        return ValueFormat(1, 0, "", "large")
    if value.endswith("_bytes"):
        return ValueFormat(2**-20, 0, "megabytes", "large")
    return ValueFormat(1, 0, "", "number")


def check_value(value: str, where: str) -> None:
    """Checks the name of a value.

    Raises:
        UserError: `value` is unknown.
    """
    if value in (*COMPUTED, *SCORES, *ROW_FIELDS) or value.startswith((CHOSEN, LAST)):
        return
    if any(value.startswith(prefix) and value.removeprefix(prefix) in ROW_FIELDS for prefix in (SUMMED, AVERAGED)):
        return
    # The message lists columns that make sense in a table, not ids and paths.
    numeric = [
        name
        for name in ROW_FIELDS
        if name.endswith(("_acc", "_r2", "_seconds", "_precision", "_bytes"))
        or name.startswith(("num_", "flops", "sample_", "standalone_"))
    ]
    prefixed = ("search_COLUMN", "mean_COLUMN", "chosen.HYPERPARAMETER", "last.SERIES")
    raise unknown("value", value, [*COMPUTED, *SCORES, *numeric, *prefixed], where)


@dataclass(frozen=True)
class ChosenRun:
    """The selected row of one seed; `search` is None for the unmodified model itself."""

    search: SearchResult | None
    row: pd.Series | None
    kept: bool  # whether the unmodified model was kept
    measure: str
    rule: str


def value_of(value: str, chosen: ChosenRun, last_point: Callable[[str, str], float | None]) -> float | None:
    """Computes the value of one seed in stored units; None if it does not exist.

    Args:
        value: the name of the value.
        chosen: the search and the selected row of the seed.
        last_point: returns the last point of a series, given the names of the series and of the run.
    """
    search, row = chosen.search, chosen.row
    if value == "settings":
        return None if search is None else float(len(search.planned))
    # The number of settings is known from the plan; everything else needs a result.
    if row is None or row["status"] != "ok":
        return None
    if value in COMPUTED:
        return _computed(value, chosen, row)
    if value in SCORES:
        return number_of(row[score_column(SCORES[value], chosen.measure)])
    if value.startswith(CHOSEN):
        # The unmodified model has no hyperparameters.
        setting = {} if search is None or chosen.kept else json.loads(row["settings"])
        found = setting.get(value.removeprefix(CHOSEN))
        # A hyperparameter that is a text has no mean over seeds.
        return float(found) if isinstance(found, int | float) else None
    if value.startswith(LAST):
        return last_point(value.removeprefix(LAST), str(row["run_id"]))
    return _of_column(value, row, search)


def _of_column(value: str, row: pd.Series, search: SearchResult | None) -> float | None:
    """A column of the selected row, or its sum or mean over the rows of the search."""
    prefix = next((name for name in (SUMMED, AVERAGED) if value.startswith(name)), "")
    column = value.removeprefix(prefix)
    # The unmodified model and retraining were not searched: their training is not the cost of a search.
    if prefix and (search is None or search.method in REFERENCES):
        return None
    rows = row.to_frame().T if search is None else search.rows
    # seconds measured on a shared device do not measure the method
    if column.endswith("_seconds") and not exclusive_device(rows):
        return None
    # Failed settings are included: they cost what they cost.
    if prefix == SUMMED:
        return number_of(pd.to_numeric(rows[column], errors="coerce").sum(min_count=1))
    if prefix == AVERAGED:
        return number_of(pd.to_numeric(rows[column], errors="coerce").mean())
    return number_of(row[column])


def _computed(value: str, chosen: ChosenRun, row: pd.Series) -> float | None:
    test = score_column("test_oracle", chosen.measure)
    if value == "kept":
        return None if chosen.search is None else float(chosen.kept)
    # Under the rule that selected, because that is the score which the selection inflates.
    if value == "optimism":
        return _difference(row[score_column(chosen.rule, chosen.measure)], row[test])
    if value == "gain":
        # The gain of the unmodified model over itself is 0.
        before = row if chosen.search is None else chosen.search.vanilla
        return None if before is None else _difference(row[test], before[test])
    # Without a pruner, of all training samples.
    if value == "trained_noise_rate":
        kept = number_of(row["kept_noise_rate"])
        return number_of(row["noise_rate_measured"]) if kept is None else kept
    return _forget_known_rate(chosen.search)


def _forget_known_rate(search: SearchResult | None) -> float | None:
    """Verified forget samples as a share of the mislabelled training samples; samples suspected by a score alone do not count."""
    if search is None:
        return None
    # Per setting and then averaged, because settings may use different numbers of samples.
    rows = search.rows[search.rows["num_forget"].gt(0) & search.rows["information"].isin(["oracle", "verified_file"])]
    return number_of((rows["num_forget"] / (rows["noise_rate_measured"] * rows["num_train"])).mean())


def _difference(one: Any, other: Any) -> float | None:
    first, second = number_of(one), number_of(other)
    # Exactly 0 where the scores are equal, so that rounding errors are no gain.
    return None if first is None or second is None else difference(first, second)

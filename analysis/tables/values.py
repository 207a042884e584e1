"""The values that a described table can show: how one seed's is computed, and in which unit and with how many decimals it is printed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import pandas as pd

from analysis.store.labels import MEASURES
from analysis.store.results import SearchResult
from analysis.store.selection_rule import score_column
from analysis.tuning.cost import exclusive_device
from sap_core.errors import unknown
from sap_core.records import Row

ROW_FIELDS = tuple(item.name for item in fields(Row))

SCORES = {"test": "test_oracle", "val_noisy": "val_noisy", "val_clean": "val_clean_part"}
"""Scores in the measure of the task (accuracy, or R² of a regression) -> the rule that looks at the same column."""

COMPUTED = ("gain", "kept", "settings", "optimism", "trained_noise_rate", "forget_known_rate")

SUMMED, AVERAGED, CHOSEN, LAST = "search_", "mean_", "chosen.", "last."
"""`search_flops`: summed over the settings of the search. `mean_trusted_precision`: averaged over them. `chosen.alpha`: a hyperparameter of
the chosen setting. `last.kept_label_precision`: the last point of a series of the run."""


@dataclass(frozen=True)
class Unit:
    """Stored value x factor = printed value."""

    factor: float
    decimals: int
    suffix: str  # of the column's name in CSV
    kind: str  # share | points | score | large | number | count | times
    sign: bool = False

    @property
    def higher_is_better(self) -> bool:
        return self.kind in ("share", "points", "score")


def unit_of_value(value: str, measure: str = "acc") -> Unit:
    """The unit of a column of rows, or of a computed value; `measure` is that of the task, acc or r2."""
    score = MEASURES[measure]
    if value in ("gain", "optimism"):
        return Unit(score.factor, score.decimals, "points", "points" if value == "gain" else "number", sign=True)
    if value in SCORES:
        return Unit(score.factor, score.decimals, "percent" if score.unit else "", "share" if score.unit else "score")
    if value == "kept":
        return Unit(1, 0, "", "count")
    if value.endswith(("_acc", "_precision", "_rate", "_rate_true")):
        return Unit(100, 2, "percent", "share")
    if value.endswith("_r2"):
        return Unit(1, 4, "", "score")
    if "flops" in value:
        return Unit(1e-9, 0, "giga", "large")
    if value.endswith(("_seconds", "_forwards", "_backwards", "_alone")):
        return Unit(1, 0, "", "large")
    if value.endswith("_bytes"):
        return Unit(2**-20, 0, "megabytes", "large")
    return Unit(1, 0, "", "number")


def check_value(value: str, where: str) -> None:
    """Refuses values that no cell can show.

    Raises:
        UserError: `value` is not known.
    """
    if value in (*COMPUTED, *SCORES, *ROW_FIELDS) or value.startswith((CHOSEN, LAST)):
        return
    if any(value.startswith(prefix) and value.removeprefix(prefix) in ROW_FIELDS for prefix in (SUMMED, AVERAGED)):
        return
    numeric = [
        name
        for name in ROW_FIELDS
        if name.endswith(("_acc", "_r2", "_seconds", "_precision", "_bytes")) or name.startswith(("num_", "flops", "sample_"))
    ]
    prefixed = ("search_COLUMN", "mean_COLUMN", "chosen.HYPERPARAMETER", "last.SERIES")
    raise unknown("value", value, [*COMPUTED, *SCORES, *numeric, *prefixed], where)


@dataclass(frozen=True)
class Chosen:
    """What a value is computed from: one seed's chosen row; `search` is None for the unmodified model."""

    search: SearchResult | None
    row: pd.Series | None
    kept: bool  # the unmodified model was kept
    measure: str
    rule: str


def value_of(value: str, chosen: Chosen, last_point: Callable[[str, str], float | None]) -> float | None:
    """The value as stored, None when there is none.

    Args:
        value: its name.
        chosen: the seed's search and chosen row.
        last_point: gives the last point of a run's series, by the series' name and the run id.
    """
    search, row = chosen.search, chosen.row
    if value == "settings":
        return None if search is None else float(len(search.planned))
    if row is None or row["status"] != "ok":
        return None
    if value in COMPUTED:
        return _computed(value, chosen, row)
    if value in SCORES:
        return number_of(row[score_column(SCORES[value], chosen.measure)])
    if value.startswith(CHOSEN):
        setting = {} if search is None or chosen.kept else json.loads(row["settings"])
        found = setting.get(value.removeprefix(CHOSEN))
        return float(found) if isinstance(found, int | float) else None
    if value.startswith(LAST):
        return last_point(value.removeprefix(LAST), str(row["run_id"]))
    return _of_column(value, row, search)


def _of_column(value: str, row: pd.Series, search: SearchResult | None) -> float | None:
    """A column of the chosen row, or summed or averaged over the rows of the search."""
    prefix = next((name for name in (SUMMED, AVERAGED) if value.startswith(name)), "")
    column = value.removeprefix(prefix)
    rows = row.to_frame().T if search is None else search.rows
    if column.endswith("_seconds") and not exclusive_device(rows):
        return None
    if prefix == SUMMED and search is not None:
        return number_of(pd.to_numeric(rows[column], errors="coerce").sum(min_count=1))
    if prefix == AVERAGED and search is not None:
        return number_of(pd.to_numeric(rows[column], errors="coerce").mean())
    return number_of(row[column])


def _computed(value: str, chosen: Chosen, row: pd.Series) -> float | None:
    test = score_column("test_oracle", chosen.measure)
    if value == "kept":
        return None if chosen.search is None else float(chosen.kept)
    if value == "optimism":
        return _minus(row[score_column(chosen.rule, chosen.measure)], row[test])
    if value == "gain":
        before = row if chosen.search is None else chosen.search.vanilla
        return None if before is None else _minus(row[test], before[test])
    if value == "trained_noise_rate":  # of all training samples where no pruner selected some of them
        kept = number_of(row["kept_noise_rate"])
        return number_of(row["noise_rate_measured"]) if kept is None else kept
    return _forget_known(chosen.search)


def _forget_known(search: SearchResult | None) -> float | None:
    """Verified forget samples as a share of the wrongly labelled training samples; samples doubted by a score are not known to be wrong."""
    if search is None:
        return None
    rows = search.rows[search.rows["num_forget"].gt(0) & search.rows["information"].isin(["oracle", "verified_file"])]
    return number_of((rows["num_forget"] / (rows["noise_rate_measured"] * rows["num_train"])).mean())


def _minus(one: Any, other: Any) -> float | None:
    first, second = number_of(one), number_of(other)
    return None if first is None or second is None else first - second


def number_of(value: Any) -> float | None:
    """A stored value as a number; None where it is missing, NaN or no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number

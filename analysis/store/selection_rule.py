"""The selection rule: which setting of a search is taken. Printed under every table.

Selection is replayed from the stored scores, one search at a time: one method, one space, one baseline. Nothing here looks at a test
score, unless the rule is `test_oracle`, which is an upper bound and never a result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from sap_core.errors import unknown

RULES = {
    "val_noisy": "highest {score} on the validation set with its given labels",
    "val_clean_part": "highest {score} on the validation samples whose given label is true (which takes an oracle)",
    "test_oracle": "highest {score} on the test set (an upper bound, never a result)",
}
"""Name of the rule -> what it means, in words."""

TIES = (
    "The unmodified model is a candidate of every search and wins ties; among settings a tie goes to the earlier one in its space; "
    "failed settings count as tried and never win."
)

FALLBACKS = {
    "strict": "The unmodified model is a candidate of every search and is kept unless a setting beats it.",
    "never": "The unmodified model is no candidate: the best setting is taken even where it is worse.",
}
"""What becomes of the unmodified model -> in words."""

_COLUMNS = {"val_noisy": "val_noisy", "val_clean_part": "val_clean", "test_oracle": "test"}


@dataclass(frozen=True)
class BoundaryValue:
    """A chosen value that is the smallest or the largest of its range: a wider range might hold a better one."""

    field: str
    value: float
    side: str  # smallest | largest


@dataclass(frozen=True)
class Choice:
    """What one search chose. `row` is the chosen row (the baseline's own when the unmodified model was kept), None for a gap."""

    row: pd.Series | None
    kept: bool = False  # the unmodified model was kept
    boundary_values: tuple[BoundaryValue, ...] = ()
    problem: str | None = None  # why there is no choice


def score_column(rule: str, measure: str = "acc") -> str:
    """The column that `rule` looks at; `measure` is acc (classification) or r2 (regression)."""
    if rule not in RULES:
        raise unknown("selection rule", rule, RULES)
    return f"{_COLUMNS[rule]}_{measure}"


def best(unmodified: float, scores: Sequence[float]) -> int | None:
    """The place of the winning setting in `scores` (in the order of the space), or None when the unmodified model is kept.

    NaN stands for a setting that failed or was not evaluated under the rule; it never wins.
    """
    winner, highest = None, unmodified
    for index, score in enumerate(scores):
        if score > highest:
            winner, highest = index, score
    return winner


def choose(
    vanilla: pd.Series | None,
    rows: pd.DataFrame,
    space: Sequence[Mapping[str, Any]],
    rule: str,
    measure: str = "acc",
    fallback: str = "strict",
) -> Choice:
    """Applies `rule` to one search.

    Args:
        vanilla: the row of the uncorrected baseline; None when the store lacks it.
        rows: the search's rows, in any order.
        space: the settings of the whole space as planned, by which edges are told.
        rule: a key of `RULES`.
        measure: acc or r2.
        fallback: a key of `FALLBACKS`: whether the unmodified model is a candidate.
    """
    column = score_column(rule, measure)
    if rows.empty:
        return Choice(None, problem="no setting has run")
    if vanilla is None:
        return Choice(None, problem="the uncorrected baseline has no row")
    if vanilla["status"] != "ok" or math.isnan(vanilla[column]):
        return Choice(None, problem=f"the uncorrected baseline has no {column}")
    ordered = rows.sort_values("position", kind="stable")
    scores = ordered[column].where(ordered["status"] == "ok")
    if (ordered["status"] == "ok").any() and scores.isna().all():
        return Choice(None, problem=f"no setting has a {column}")
    index = best(float(vanilla[column]) if fallback == "strict" else -math.inf, scores.astype(float).tolist())
    if index is None and fallback != "strict":
        return Choice(None, problem="every setting failed, and the unmodified model is no candidate")
    if index is None:
        return Choice(vanilla, kept=True)
    winner = ordered.iloc[index]
    return Choice(winner, boundary_values=boundary_values(json.loads(winner["settings"]), space))


def boundary_values(chosen: Mapping[str, Any], space: Sequence[Mapping[str, Any]]) -> tuple[BoundaryValue, ...]:
    """The numeric fields of `chosen` whose value is the smallest or the largest of several in `space`."""
    found = []
    for field, value in chosen.items():
        values = {setting[field] for setting in space if _is_number(setting.get(field))}
        if not _is_number(value) or len(values) < 2:
            continue
        if value <= min(values):
            found.append(BoundaryValue(field, value, "smallest"))
        elif value >= max(values):
            found.append(BoundaryValue(field, value, "largest"))
    return tuple(found)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

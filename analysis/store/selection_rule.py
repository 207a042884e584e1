"""The selection rule: selects one setting of a search by its validation scores. All tables and plots and the sweeper's `save_best` use it.

Let s_0 be the score of the unmodified baseline under the rule, and s_1, ..., s_N those of the settings in the order of the search space.
The selected model is

    the setting i with the largest s_i, if s_i > s_0; the smallest such i if several settings have this score;
    the unmodified baseline otherwise.

So the unmodified model is a candidate of every search and wins ties, and among settings the earlier one wins ties. A setting that failed or
diverged, or that has no score under the rule, counts as tried and cost what it cost, but is never selected; if all failed, nothing is
selected, and not even the unmodified model: the search is a failure. The comparison uses the stored
float64 scores, not the printed ones.

The score s depends on the rule:

    val_noisy       accuracy (or R^2) on the validation set with its given, partly wrong labels; what a user can compute
    val_clean_part  the same on the validation samples whose given label is correct; requires knowledge of the true labels
    test_oracle     the same on the test set; an upper bound, never a result. The only rule that looks at a test score

With `fallback="never"` the unmodified model is no candidate (s_0 is minus infinity). Pooling over seeds is in `selection_policy`.

Selection is recomputed from the stored scores, one search (one method, one space, one baseline) at a time, and is never stored itself: a
table with another rule needs no new run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sap_core.errors import unknown

if TYPE_CHECKING:  # the sweeper imports `best`, and its workers need no pandas
    import pandas as pd

RULES = {
    "val_noisy": "highest {score} on the validation set with its given labels",
    "val_clean_part": "highest {score} on the validation samples whose given label is correct (requires the true labels)",
    "test_oracle": "highest {score} on the test set (an upper bound, never a result)",
}
"""Rule -> description printed below tables, with {score} in place of the name of the score."""

TIES = (
    "The unmodified model is a candidate of every search and wins ties; among settings a tie goes to the earlier one in its space; "
    "failed settings count as tried and never win."
)

FALLBACKS = {
    "strict": "The unmodified model is a candidate of every search and is kept unless a setting beats it.",
    "never": "The unmodified model is not a candidate: the best setting is selected even if it is worse.",
}
"""Whether the unmodified model is a candidate -> description printed below tables."""

_COLUMNS = {"val_noisy": "val_noisy", "val_clean_part": "val_clean", "test_oracle": "test"}
"""Rule -> prefix of the column with its scores."""


@dataclass(frozen=True)
class BoundaryValue:
    """A selected hyperparameter value at the boundary of its search range; a wider range might contain a better value."""

    field: str
    value: float
    side: str  # smallest | largest


@dataclass(frozen=True)
class Choice:
    """The result of applying a rule to one search."""

    row: pd.Series | None  # the selected row: the baseline's if the unmodified model was kept; None if nothing could be selected
    kept: bool = False  # whether the unmodified model was kept
    boundary_values: tuple[BoundaryValue, ...] = ()
    problem: str | None = None  # the reason if `row` is None


def score_column(rule: str, measure: str = "acc") -> str:
    """The column with the scores of `rule`; `measure` is acc (classification) or r2 (regression).

    Raises:
        UserError: the rule is unknown.
    """
    if rule not in RULES:
        raise unknown("selection rule", rule, RULES)
    return f"{_COLUMNS[rule]}_{measure}"


def best(unmodified: float, scores: Sequence[float]) -> int | None:
    """The index of the selected setting, or None if the unmodified model is kept.

    Args:
        unmodified: the score of the unmodified model; minus infinity if it is not a candidate.
        scores: the scores of the settings in the order of the space; NaN for a setting that failed or has no score under the rule.
    """
    winner, highest = None, unmodified
    for index, score in enumerate(scores):
        # Strictly, so that the earlier of equal scores wins; False for NaN.
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
        vanilla: the row of the unmodified baseline; None if it is missing.
        rows: the rows of the search, in any order.
        space: all planned settings; determines which selected values are at the boundary of their range.
        rule: a key of `RULES`.
        measure: acc or r2.
        fallback: a key of `FALLBACKS`.
    """
    column = score_column(rule, measure)
    # Reasons are returned and not raised, because a table prints them beside the seeds that do have a choice.
    if rows.empty:
        return Choice(None, problem="no setting has run")
    if vanilla is None:
        return Choice(None, problem="the unmodified baseline has no row")
    if vanilla["status"] != "ok" or math.isnan(vanilla[column]):
        return Choice(None, problem=f"the unmodified baseline has no {column}")
    # Rows are stored in the order in which jobs ended; the tie-break needs the order of the space.
    ordered = rows.sort_values("position", kind="stable")
    # A diverged setting may have stored a score; it counts as tried and is never selected.
    scores = ordered[column].where(ordered["status"] == "ok")
    # The score may be unknown for all settings alike: val_clean_part needs the true labels.
    if (ordered["status"] == "ok").any() and scores.isna().all():
        return Choice(None, problem=f"no setting has a {column}")
    # Of a method whose settings all failed nothing is known, so it is not said that none is better than the unmodified model.
    if every_setting_failed(ordered):
        return Choice(None, problem=every_setting_failed(ordered))
    index = best(float(vanilla[column]) if fallback == "strict" else -math.inf, scores.astype(float).tolist())
    if index is None:
        return Choice(vanilla, kept=True)
    winner = ordered.iloc[index]
    return Choice(winner, boundary_values=boundary_values(json.loads(winner["settings"]), space))


def every_setting_failed(rows: pd.DataFrame) -> str:
    """`every setting failed (3 diverged, 1 error)`; "" if a setting succeeded or none has a row."""
    if not len(rows) or (rows["status"] == "ok").any():
        return ""
    counts = rows.reindex(columns=["error_type"])["error_type"].fillna("error").value_counts()
    return f"every setting failed ({', '.join(f'{count} {kind}' for kind, count in sorted(counts.items()))})"


def boundary_values(chosen: Mapping[str, Any], space: Sequence[Mapping[str, Any]]) -> tuple[BoundaryValue, ...]:
    """The numeric fields of `chosen` whose value is the smallest or largest of at least two values in `space`."""
    found = []
    for field, value in chosen.items():
        # Planned, not stored settings: a range does not shrink because its last setting failed.
        values = {setting[field] for setting in space if _is_number(setting.get(field))}
        # A field with one value was not searched, and names have no order.
        if not _is_number(value) or len(values) < 2:
            continue
        if value <= min(values):
            found.append(BoundaryValue(field, value, "smallest"))
        elif value >= max(values):
            found.append(BoundaryValue(field, value, "largest"))
    return tuple(found)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

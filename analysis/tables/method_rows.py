"""The rows of tables by method: one method over one space with its searches, and the text of its descriptive columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.store.labels import MISSING, RETRAIN, plain, span
from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import Choice
from analysis.store.stats import number_of

_SOURCES = {"verified_file": "verified file"}


@dataclass(frozen=True)
class MethodRow:
    """One method over one space: its searches, one per seed, and the setting that each rule selects in each of them."""

    method: str
    space: str | None
    searches: tuple[SearchResult, ...]
    chosen: dict[str, tuple[Choice, ...]]  # rule -> one choice per search
    unplanned: tuple[int, ...] = ()  # seeds of the cell for which the method was not planned

    @property
    def incomplete(self) -> bool:
        """Whether some planned setting has no row, or a seed of the cell has no search: means over other seeds are not comparable."""
        return bool(self.unplanned) or any(search.missing for search in self.searches)

    def scores(self, rule: str, column: str) -> list[float | None]:
        """The value of `column` in each selected row; None where no setting could be selected, or the value is missing."""
        return [None if choice.row is None else number_of(choice.row[column]) for choice in self.chosen[rule]]


def method_rows(cell: CellResult, rules: Sequence[str]) -> list[MethodRow]:
    """The methods of a cell in the order of the plan, references last."""
    found = [
        MethodRow(
            method,
            space,
            searches,
            {rule: tuple(search.choose(rule) for search in searches) for rule in rules},
            tuple(seed for seed in cell.seeds if seed not in {search.seed for search in searches}),
        )
        for (method, space), searches in cell.methods.items()
    ]
    # sorted is stable, so the others keep the order of the plan.
    return sorted(found, key=lambda row: row.method == RETRAIN)


def settings_text(row: MethodRow) -> str:
    """`675`; `12 (8 distinct)` where some settings differ only in fields without effect and are one computation."""
    # Planned and not stored settings, so that an unfinished search shows its real size.
    sizes = [len(search.planned) for search in row.searches]
    distinct = [int(search.planned["computation_id"].nunique()) for search in row.searches]
    size = span(map(float, sizes))
    return size if distinct == sizes else f"{size} ({span(map(float, distinct))} distinct)"


def failures_text(row: MethodRow) -> str:
    """`5 diverged, 1 error`, summed over the seeds; `0` if no setting failed."""
    rows = pd.concat([search.rows for search in row.searches])
    counts = rows.loc[rows["status"] == "failed", "error_type"].fillna("error").value_counts()
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "0"


def information_text(row: MethodRow) -> str:
    """`200 trusted (scored)`, `200 retain + 40 forget (oracle)`, `none`."""
    # From the rows and not from the configuration: numbers of samples may be fractions or null there.
    rows = pd.concat([search.rows for search in row.searches])
    if rows.empty:
        return MISSING
    sources = "/".join(dict.fromkeys(_SOURCES.get(source, source) for source in rows["information"] if source != "none"))
    sizes = [
        f"{span(rows[column])} {column.removeprefix('num_')}"
        for column in ("num_trusted", "num_retain", "num_forget")
        if rows[column].gt(0).any()
    ]
    return " + ".join(sizes) + (f" ({sources})" if sources else "") if sizes else sources or "none"


def setting_text(setting: Mapping[str, Any], space: Sequence[Mapping[str, Any]]) -> str:
    """The hyperparameters that vary in the space, with their values in `setting`: `alpha=10000, num_trusted=200`."""
    # By repr, so that lists can be compared and 1 differs from True.
    varied = [name for name in setting if len({repr(other.get(name)) for other in space}) > 1]
    return ", ".join(f"{name}={_value(setting[name])}" for name in varied) or "the only setting"


def _value(value: Any) -> str:
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

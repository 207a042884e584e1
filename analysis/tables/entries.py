"""The rows of tables of methods: one method in one space with its searches over the seeds, and the words in its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.store.labels import MISSING, RETRAIN, plain, span
from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import Choice

_SOURCES = {"verified_file": "verified file"}


@dataclass(frozen=True)
class Entry:
    """One row: a method in one space, its searches over the seeds, and what each rule chose for each of them."""

    method: str
    space: str | None
    searches: tuple[SearchResult, ...]
    chosen: dict[str, tuple[Choice, ...]]  # by rule, one per search

    @property
    def incomplete(self) -> bool:
        """Whether some planned setting has no row."""
        return any(search.missing for search in self.searches)

    def scores(self, rule: str, column: str) -> list[float | None]:
        """The value of `column` in each chosen row."""
        return [None if choice.row is None else float(choice.row[column]) for choice in self.chosen[rule]]


def entries(cell: CellResult, rules: Sequence[str]) -> list[Entry]:
    """The methods in the order of the plan, references last."""
    found = [
        Entry(method, space, searches, {rule: tuple(search.choose(rule) for search in searches) for rule in rules})
        for (method, space), searches in cell.methods.items()
    ]
    return sorted(found, key=lambda entry: entry.method == RETRAIN)


def tried(entry: Entry) -> str:
    """`675 (675 distinct)`; `1` for a method without a search."""
    sizes = [len(search.planned) for search in entry.searches]
    if max(sizes) == 1:
        return "1"
    return f"{span(map(float, sizes))} ({span(float(search.planned['computation_id'].nunique()) for search in entry.searches)} distinct)"


def failed(entry: Entry) -> str:
    """`5 diverged, 1 error`, over all seeds."""
    rows = pd.concat([search.rows for search in entry.searches])
    kinds = rows.loc[rows["status"] == "failed", "error_type"].fillna("error").value_counts()
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())) or "0"


def information(entry: Entry) -> str:
    """`200 trusted (scored)`, `200 retain + 40 forget (oracle)`, `none`."""
    rows = pd.concat([search.rows for search in entry.searches])
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
    """The fields in which the settings of the space differ, as chosen: `alpha=10000, num_trusted=200`."""
    varied = [name for name in setting if len({repr(other.get(name)) for other in space}) > 1]
    return ", ".join(f"{name}={_value(setting[name])}" for name in varied) or "the only setting"


def _value(value: Any) -> str:
    return plain(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)

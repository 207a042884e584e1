"""The entries of `cells` and `searches`: checked, with the lists inside each entry crossed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from sap_core.errors import UserError, unknown
from sweeper.config.schema import CELL_GROUPS, EXTRA_CELL_KEYS, SearchConfig

SEARCH_ENTRY_KEYS = ("methods", "search", *(item.name for item in fields(SearchConfig) if item.name != "name"))


def expand_searches(entries: Sequence[Any]) -> list[tuple[list[str], str, dict[str, Any]]]:
    """(methods, name of a search, its other keys) of each entry of `searches`; lists of searches and of budgets are crossed.

    Raises:
        UserError: an entry that is not a mapping, lacks methods or a search, or has an unknown key.
    """
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("methods"), list) or not entry.get("search"):
            raise UserError(
                f"searches contains {entry!r}; each entry names methods and a search, as in {{methods: [scrub], search: tpe, budget: 64}}"
            )
        for key in entry:
            if key not in SEARCH_ENTRY_KEYS:
                raise unknown("key", key, SEARCH_ENTRY_KEYS, "searches")
        # One list per key is enough to compare searches at several budgets.
        names = entry["search"] if isinstance(entry["search"], list) else [entry["search"]]
        budgets = entry.get("budget") if isinstance(entry.get("budget"), list) else [entry.get("budget")]
        given = {key: value for key, value in entry.items() if key not in ("methods", "search", "budget")}
        for name, budget in itertools.product(names, budgets or [None]):
            found.append((list(map(str, entry["methods"])), str(name), given if budget is None else {**given, "budget": budget}))
    return found


def expand_cells(cells: Sequence[Any]) -> list[dict[str, Any]]:
    """Cross the lists inside each entry of `cells`; entries are concatenated.

    Raises:
        UserError: an entry that is not a mapping, or a key that is neither a group, a field of one, nor in `EXTRA_CELL_KEYS`.
    """
    found = []
    for entry in cells:
        if not isinstance(entry, Mapping):
            raise UserError(
                f"cells contains {entry!r}; each entry maps groups to choices, as in {{dataset: digits, noise.rate: [0.1, 0.25]}}"
            )
        for key in entry:
            if str(key).split(".")[0] not in (*CELL_GROUPS, *EXTRA_CELL_KEYS):
                raise unknown("key", key, (*CELL_GROUPS, *EXTRA_CELL_KEYS, "noise.rate"), "cells")
        # The last key varies fastest, as in nested loops written in the order of the entry.
        values = [value if isinstance(value, list) else [value] for value in entry.values()]
        found += [dict(zip(map(str, entry), chosen, strict=True)) for chosen in itertools.product(*values)]
    return found

"""The tables by name: those written in Python, and the order of all tables that a report of any store has."""

from __future__ import annotations

from collections.abc import Callable

from analysis.store.load import Results
from analysis.tables.chosen import chosen
from analysis.tables.comparison import comparison
from analysis.tables.cost import cost
from analysis.tables.optimism import optimism
from analysis.tables.recommendation import recommendation
from analysis.tables.render import Table
from analysis.tables.search import search
from analysis.tables.significance import significance
from analysis.tables.spec import shipped

TABLES: dict[str, Callable[[Results], tuple[Table, ...]]] = {
    "comparison": comparison, "cost": cost, "search": search, "chosen": chosen, "recommendation": recommendation, "optimism": optimism,
    "tests": significance,
}  # fmt: skip
"""Tables that are more than rows x columns of values. All others are YAML files, see `analysis.tables.spec`."""

OF_EVERY_STORE = (
    "comparison", "trusted_size", "cost", "search", "chosen", "recommendation", "corrective", "robust", "trainers", "prl", "prune4rel",
    "optimism", "tests",
)  # fmt: skip
"""The tables of a report, each left out where the store has no numbers for it."""


def names() -> list[str]:
    """Every table of the program, those of every store first."""
    return list(dict.fromkeys([*OF_EVERY_STORE, *TABLES, *shipped()]))

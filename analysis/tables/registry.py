"""Tables by name: those computed in Python, and the order of the tables in a report."""

from __future__ import annotations

from collections.abc import Callable

from analysis.store.load import Results
from analysis.tables.chosen import chosen
from analysis.tables.comparison import comparison
from analysis.tables.cost import cost
from analysis.tables.duplicates import duplicates
from analysis.tables.optimism import optimism
from analysis.tables.recommendation import recommendation
from analysis.tables.render import Table
from analysis.tables.search import search
from analysis.tables.significance import significance
from analysis.tables.spec import shipped

TABLES: dict[str, Callable[[Results], tuple[Table, ...]]] = {
    "comparison": comparison, "cost": cost, "search": search, "chosen": chosen, "recommendation": recommendation, "optimism": optimism,
    "tests": significance, "duplicates": duplicates,
}  # fmt: skip
"""Tables computed in Python, because they contain text or statistics. All others are described in YAML, see `analysis.tables.spec`."""

OF_EVERY_STORE = (
    "comparison", "trusted_size", "cost", "search", "chosen", "recommendation", "corrective", "robust", "trainers", "prl", "prune4rel",
    "optimism", "tests", "duplicates",
)  # fmt: skip
"""The tables of a report, in order; those without numbers in the store are left out."""


def names() -> list[str]:
    """The names of all tables, those of a report first."""
    return list(dict.fromkeys([*OF_EVERY_STORE, *TABLES, *shipped()]))

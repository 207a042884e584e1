"""The tables that are written in Python, by name. `analysis.tables.spec` has those that a YAML file describes."""

from __future__ import annotations

from collections.abc import Callable

from analysis.store.load import Results
from analysis.tables.chosen import chosen
from analysis.tables.comparison import comparison
from analysis.tables.corrective import corrective
from analysis.tables.cost import cost
from analysis.tables.optimism import optimism
from analysis.tables.prl import prl
from analysis.tables.prune4rel import prune4rel
from analysis.tables.recommendation import recommendation
from analysis.tables.render import Table
from analysis.tables.robust import robust
from analysis.tables.search import search
from analysis.tables.significance import significance
from analysis.tables.trainers import trainers
from analysis.tables.trusted_size import trusted_size as trusted_size_table

TABLES: dict[str, Callable[[Results], tuple[Table, ...]]] = {
    "comparison": comparison, "trusted_size": trusted_size_table, "cost": cost, "search": search, "chosen": chosen,
    "recommendation": recommendation, "corrective": corrective, "robust": robust, "trainers": trainers, "prl": prl, "prune4rel": prune4rel,
    "optimism": optimism, "tests": significance,
}  # fmt: skip

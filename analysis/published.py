"""The published numbers that our own are held against: `analysis/reference/*.csv`, whose README says where they come from.

A published number carries the names of our rows (data set, network, noise, method, ...), so a table finds it by the conditions by which it
finds its own. Accuracies are percent, as printed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sap_core.errors import UserError, unknown

FOLDER = Path(__file__).with_name("reference")

TABLES = ("table1", "table2", "table3", "ablation_alpha", "ablation_trusted_size", "ablation_trusted_strategy", "earlier_version")
"""Files with means and spreads."""

SEEDS = 3
"""Seeds behind every published mean."""

UNKNOWN_NOISE = ("nonsymmetric_a", "nonsymmetric_b")
"""The published table 1 does not say which of them is asymmetric and which hierarchical."""

UNKNOWN_MAPPING = (
    "Which of the two published kinds of non-symmetric noise (a and b, in the order of their columns) is asymmetric and which hierarchical is "
    "not known, so both stand beside both."
)

_NUMBERS = frozenset({"noise_rate", "num_retain", "num_forget", "num_trusted", "alpha", "ratio"})


@dataclass(frozen=True)
class Quote:
    """One published number, in percent, with what it is about; `std` is None where none is printed."""

    about: Mapping[str, str | float]
    mean: float
    std: float | None

    def is_about(self, conditions: Mapping[str, object]) -> bool:
        """Whether every condition holds; what the source does not say contradicts nothing but the method."""
        return all(self.about[field] == value for field, value in conditions.items() if field in self.about)

    def key(self, fields: Iterable[str]) -> tuple[str | float | None, ...]:
        """What it says of some fields."""
        return tuple(self.about.get(field) for field in fields)


@dataclass(frozen=True)
class Derived:
    """An average or an improvement as printed beside the numbers that it is computed from."""

    table: str
    what: str  # average | gain | average_gain
    about: Mapping[str, str | float]
    printed: float


@cache
def quotes(table: str) -> tuple[Quote, ...]:
    """The numbers of one published table, in the order of its file.

    Raises:
        UserError: there is no such table, or its file is damaged.
    """
    if table not in TABLES:
        raise unknown("published table", table, TABLES)
    return tuple(_quote(table, line) for line in _lines(table))


@cache
def derived() -> tuple[Derived, ...]:
    """The averages and improvements that the tables print."""
    return tuple(
        Derived(line["table"], line["what"], _about(line, ("table", "what", "printed")), float(line["printed"]))
        for line in _lines("derived")
    )


@cache
def compute_ratios() -> Mapping[str, float]:
    """Way of training -> its compute as a multiple of the correction's, as published for the earlier version."""
    return {line["training"]: float(line["ratio"]) for line in _lines("compute")}


def _quote(table: str, line: Mapping[str, str]) -> Quote:
    try:
        mean, std = float(line["mean"]), float(line["std"]) if line["std"] else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"'{FOLDER / table}.csv' is damaged: a line has no numbers under mean and std; restore it from the release"
        ) from error
    return Quote(_about(line, ("mean", "std")), mean, std)


def _about(line: Mapping[str, str], without: Iterable[str]) -> dict[str, str | float]:
    return {
        field: float(text) if field in _NUMBERS else text for field, text in line.items() if text not in ("", None) and field not in without
    }


def _lines(name: str) -> list[dict[str, str]]:
    try:
        with (FOLDER / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"the published numbers '{FOLDER / name}.csv' cannot be read ({reason}); restore them from the release") from error

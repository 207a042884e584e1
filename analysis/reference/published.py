"""Reads the published numbers with which reports compare a store: `analysis/reference/*.csv`; their README names the sources.

A published number has the same fields as a row (data set, network, noise, method, ...), so a table looks it up by the same conditions as
its own numbers. Accuracies are in percent, as printed.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sap_core.errors import UserError, unknown

FOLDER = Path(__file__).parent

TABLES = ("table1", "table2", "table3", "ablation_alpha", "ablation_trusted_size", "ablation_trusted_strategy", "earlier_version")
"""Files with means and standard deviations."""

COMPUTE = "compute"
"""The published figure of compute; its values are multiples of the correction's compute, not accuracies."""

SEEDS = 3
"""Number of seeds of every published mean."""

UNKNOWN_NOISE = ("nonsymmetric_a", "nonsymmetric_b")
"""Names of two noise types in the published table 1, which does not state which is asymmetric and which hierarchical."""

UNKNOWN_OURS = ("asymmetric", "hierarchical")
"""The corresponding noise types of this project, in unknown order."""

UNKNOWN_MAPPING = (
    "Which of the two published kinds of non-symmetric noise (a and b, in the order of their columns) is asymmetric and which hierarchical "
    "is not known"
)

_NUMBERS = frozenset({"noise_rate", "num_retain", "num_forget", "num_trusted", "alpha", "ratio"})


@dataclass(frozen=True)
class Quote:
    """One published number in percent with the fields that identify it; `std` is None if none is printed."""

    about: Mapping[str, str | float]
    mean: float
    std: float | None

    def is_about(self, conditions: Mapping[str, object]) -> bool:
        """Whether all conditions hold; fields that the source does not state are ignored."""
        return all(self.about[field] == value for field, value in conditions.items() if field in self.about)

    def key(self, fields: Iterable[str]) -> tuple[str | float | None, ...]:
        """The values of some fields, None for fields that the source does not state."""
        return tuple(self.about.get(field) for field in fields)


@dataclass(frozen=True)
class Derived:
    """A printed average or improvement, which can be recomputed from other printed numbers."""

    table: str
    quantity: str  # average | gain | average_gain
    about: Mapping[str, str | float]
    printed: float


@cache
def quotes(table: str) -> tuple[Quote, ...]:
    """Reads the numbers of one published table, in the order of its file.

    Raises:
        UserError: the table is unknown, or its file is damaged.
    """
    if table not in (*TABLES, COMPUTE):
        raise unknown("published table", table, (*TABLES, COMPUTE))
    return tuple(_quote(table, line) for line in _lines(table))


@cache
def derived() -> tuple[Derived, ...]:
    """Reads the averages and improvements printed in the tables."""
    return tuple(
        Derived(line["table"], line["what"], _about(line, ("table", "what", "printed")), float(line["printed"]))
        for line in _lines("derived")
    )


def alternatives(table: str, conditions: Mapping[str, object]) -> tuple[tuple[str, Mapping[str, object]], ...]:
    """The (suffix, conditions) of the published numbers that a cell may correspond to: two if the noise type is ambiguous."""
    # Table 1 names its columns of non-symmetric noise ambiguously, and no other table has them.
    ambiguous = any(quote.about.get("noise") in UNKNOWN_NOISE for quote in quotes(table))
    if not ambiguous or conditions.get("noise") not in UNKNOWN_OURS:
        return (("", conditions),)
    # Both kinds are offered, because the publication does not say which of the two ours is.
    return tuple((f" {kind.rpartition('_')[2]}", {**conditions, "noise": kind}) for kind in UNKNOWN_NOISE)


def find(table: str, conditions: Mapping[str, object]) -> Quote | None:
    """The single published number that meets the conditions; None if there is none or more than one."""
    found = [quote for quote in quotes(table) if quote.is_about(conditions)]
    # Several matches mean that the conditions do not identify a number; picking one would be a guess.
    return found[0] if len(found) == 1 else None


def _quote(table: str, line: Mapping[str, str]) -> Quote:
    try:
        mean, std = float(line["mean"]), float(line["std"]) if line["std"] else None
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"'{FOLDER / table}.csv' is damaged: a line lacks numbers in mean or std; restore the file from the release"
        ) from error
    return Quote(_about(line, ("mean", "std")), mean, std)


def _about(line: Mapping[str, str], without: Iterable[str]) -> dict[str, str | float]:
    # Numbers are compared with those of a store, names as text; an empty field is one that the source does not state.
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

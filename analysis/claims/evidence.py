"""Finds the differences that a claim is about: by seed in a store, from means and standard deviations in the published tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from analysis.claims.spec import Claim, Claims, known_fields
from analysis.reference import published
from analysis.reference.published import Quote
from analysis.store.labels import dataset_label, network_label, plain, trainer_label
from analysis.store.load import Results
from analysis.store.results import cells
from analysis.store.stats import Summary, summarise
from analysis.tables.conditions import CELL_FIELDS, SEARCH_FIELDS, equal
from analysis.tables.lookup import CellNumbers, StoreLookup
from sap_core.errors import unknown

_CELL = ("dataset", "network", "noise", "noise_rate", "trainer")
"""Fields that identify a cell of the published tables."""

_PERCENT = 100.0


@dataclass(frozen=True)
class Difference:
    """The difference of two methods' test accuracies in one cell, in percentage points."""

    cell: str
    of: Summary  # in percent, over seeds
    against: Summary
    by_seed: Mapping[int, float]  # seed -> difference; empty if only means are known
    complete: bool = True  # whether every planned setting and seed has a row
    other: str = ""  # the other value of a hyperparameter that the claim compares with

    @property
    def mean(self) -> float:
        """The mean over the seeds."""
        if self.by_seed:
            return summarise(self.by_seed.values()).mean or 0.0
        assert self.of.mean is not None
        assert self.against.mean is not None
        return self.of.mean - self.against.mean

    @property
    def n(self) -> int:
        """The number of seeds."""
        return len(self.by_seed) or min(self.of.n, self.against.n)


@dataclass(frozen=True)
class Sizes:
    """The numbers of settings of the searches of each method, over all cells."""

    sizes: Mapping[str, tuple[int, ...]]  # method -> the different numbers, sorted; empty if it was not searched
    cells: int


def of_published(claim: Claim) -> tuple[Difference, ...]:
    """The differences in the published tables, one per cell; a cell that several tables contain is taken from the first."""
    found: dict[tuple[Any, ...], list[Difference]] = {}
    for table in claim.published:
        quotes = [quote for quote in published.quotes(table) if _in_cells(quote, claim)]
        for quote in quotes:
            key = quote.key(_CELL)
            if key in found or not _matches(quote, claim.of):
                continue
            others = [other for other in quotes if other.key(_CELL) == key and _matches(other, claim.against) and other is not quote]
            # Several numbers mean that the conditions do not identify one.
            if len(others) == 1 or (others and claim.every_other):
                found[key] = [_quoted(quote, other, claim.every_other) for other in others]
    return tuple(difference for differences in found.values() for difference in differences)


def of_store(claim: Claim, claims: Claims, results: Results) -> tuple[Difference, ...]:
    """The differences in a store, paired by seed, one per cell that has both methods."""
    lookup = StoreLookup(results, claims.policy)
    # At a fixed value of a hyperparameter nothing is selected, so the unmodified model is no candidate.
    fixed = StoreLookup(results, replace(claims.policy, fallback="never"))
    _check_fields(claim, lookup.hyperparameters)
    found = []
    for cell in _cells(claim, lookup):
        one = _find(cell, claim.of, lookup, fixed)
        # An R² is in no percentage points.
        if one is None or one.cell.measure != "acc":
            continue
        for value, other in _others(cell, claim, lookup, fixed):
            difference = _paired(one, other, value)
            if difference is not None:
                found.append(difference)
    return tuple(found)


def sizes_of(claim: Claim, claims: Claims, results: Results) -> Sizes:
    """The numbers of planned settings of the first space of each method that the claim names."""
    names = set(_cells(claim, StoreLookup(results, claims.policy)))
    members = [cell for cell in cells(results) if cell.name in names]
    sizes: dict[str, set[int]] = {method: set() for method in claim.settings}
    for cell in members:
        for wanted in claim.settings:
            searches = next((searches for (method, _), searches in cell.methods.items() if method == wanted), ())
            sizes[wanted] |= {len(search.planned) for search in searches}
    return Sizes({method: tuple(sorted(found)) for method, found in sizes.items()}, len(members))


def _in_cells(quote: Quote, claim: Claim) -> bool:
    # A field that the source does not state cannot exclude a cell.
    excluded = bool(claim.where_not) and all(quote.about.get(name) == value for name, value in claim.where_not.items())
    return quote.is_about(claim.where) and not excluded


def _matches(quote: Quote, conditions: Mapping[str, Any]) -> bool:
    return quote.is_about({name: float(value) if isinstance(value, int) else value for name, value in conditions.items()})


def _quoted(one: Quote, other: Quote, field: str) -> Difference:
    value = f"{field} = {other.about[field]:g}" if field else ""
    return Difference(_cell_label(one.about), _summary(one), _summary(other), {}, other=value)


def _summary(quote: Quote) -> Summary:
    return Summary(quote.mean, quote.std, published.SEEDS)


def _cell_label(about: Mapping[str, Any]) -> str:
    """`CIFAR-10, ResNet18, symmetric 25 %, MixUp`; parts that are unknown are left out."""
    parts = [dataset_label(str(about["dataset"])), network_label(str(about["network"]))]
    if about.get("noise") not in (None, "none"):
        rate = f" {float(about['noise_rate']) * 100:g} %" if about.get("noise_rate") is not None else ""
        parts.append(str(about["noise"]).replace("_", " ") + rate)
    if about.get("trainer") not in (None, "sgd"):
        parts.append(trainer_label(str(about["trainer"])))
    return ", ".join(parts)


def _check_fields(claim: Claim, hyperparameters: Iterable[str]) -> None:
    """Raises if a condition on a method is on a field that neither a store nor the published tables have.

    Raises:
        UserError: the field is unknown.
    """
    columns = [name for table in published.TABLES for quote in published.quotes(table)[:1] for name in quote.about]
    known = dict.fromkeys([*SEARCH_FIELDS, *hyperparameters, *columns, *known_fields()])
    for part in (claim.of, claim.against):
        for name in part:
            if name not in known:
                raise unknown("field", name, known, f"claim '{claim.name}'")


def _cells(claim: Claim, lookup: StoreLookup) -> list[str]:
    """The names of the cells that the claim is about, in the order of the plan."""
    names = lookup.values("cell", claim.where)
    without = set(lookup.values("cell", {**claim.where, **claim.where_not})) if claim.where_not else set()
    return [name for name in names if name not in without]


def _find(cell: str, conditions: Mapping[str, Any], lookup: StoreLookup, fixed: StoreLookup) -> CellNumbers | None:
    own = [name for name in conditions if name not in (*CELL_FIELDS, *SEARCH_FIELDS)]
    return (fixed if own else lookup).find({"cell": cell, **conditions}, "test_acc")


def _others(cell: str, claim: Claim, lookup: StoreLookup, fixed: StoreLookup) -> Iterator[tuple[str, CellNumbers]]:
    """The numbers that the claim compares with in one cell, with the value of the hyperparameter that they belong to ("" without one)."""
    field = claim.every_other
    if not field:
        one = _find(cell, claim.against, lookup, fixed)
        yield from [("", one)] if one is not None else []
        return
    for value in fixed.values(field, {"cell": cell, **claim.against}):
        if not equal(value, claim.of[field]):
            found = fixed.find({"cell": cell, **claim.against, field: value}, "test_acc")
            if found is not None:
                yield f"{field} = {plain(value) if isinstance(value, int | float) else value}", found


def _paired(one: CellNumbers, other: CellNumbers, value: str) -> Difference | None:
    first, second = ({value.seed: value.value for value in numbers.values if value.value is not None} for numbers in (one, other))
    by_seed = {seed: (first[seed] - second[seed]) * _PERCENT for seed in first if seed in second}
    if not by_seed:
        return None
    line = one.cell.rows.iloc[0]
    about = {name: None if line[name] != line[name] else line[name] for name in _CELL}
    return Difference(
        _cell_label(about),
        summarise(first[seed] for seed in by_seed).times(_PERCENT),
        summarise(second[seed] for seed in by_seed).times(_PERCENT),
        by_seed,
        not (one.incomplete or other.incomplete),
        value,
    )

"""The numbers behind the one-page report on tuning cost: every search of a cell, SAP against each of the others, and what they can show.

Everything is under one selection rule, with the unmodified model as a candidate that wins ties (`analysis.store.selection_rule`). `analysis.reports.headline_text`
says it in sentences.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from analysis.store.labels import REFERENCES
from analysis.store.load import Results
from analysis.store.results import Cell, Search, cells
from analysis.store.selection_rule import Edge, best, score_column
from analysis.store.stats import Summary, summarise
from analysis.tuning.alpha import AlphaCurve, Transfer, alpha_curves, transfers
from analysis.tuning.anytime import Account, Unit, by_itself, seconds_allowed
from analysis.tuning.head_to_head import TARGETS, Contender, Ratio, Reach, ahead, band, contender, ratio_to_target, reach
from analysis.tuning.power import detectable_gap, optimism, seeds_needed

RULE = "val_noisy"
TRIALS = (1, 4, 16, 64)
"""Budgets at which the expected test score is told, beside the whole search."""

ACCOUNTS = {
    "own and preparation": Account(True, False),
    "own only": Account(False, False),
    "own, preparation and baseline": Account(True, True),
    "own and baseline": Account(False, True),
}
"""Which items of the bill are counted; the first is the one that all other numbers are under."""

MAIN = Account(True, False)


@dataclass(frozen=True)
class Default:
    """A method's default setting: one trial."""

    test: Summary  # of the default, or of the unmodified model where that scores as high on the validation set
    cost: Summary  # by itself, every piece of its work whole


@dataclass(frozen=True)
class Line:
    """One search, over the seeds."""

    method: str
    space: str | None
    settings: int
    hashes: tuple[str, ...]
    default: Default | None  # None: its default stands in none of its spaces here
    by_trials: tuple[float | None, ...]  # expected test score at TRIALS; None beyond the space
    bands: tuple[tuple[float, float] | None, ...]
    final: Summary  # the whole search
    total: float  # its cost, in the cell's unit
    best_gain: float
    trials_to: tuple[float, ...]  # trials to each of TARGETS of the own best gain; infinite if there is none
    cost_to: tuple[float, ...]
    kept: int  # seeds in which the unmodified model was kept
    edges: tuple[Edge, ...]
    optimism: float  # of the maximum, at most (see `analysis.tuning.power.optimism`)
    flattery: Summary  # measured: the chosen score on the validation samples with true labels minus its test score


@dataclass(frozen=True)
class Duel:
    """A search against SAP's."""

    method: str
    space: str | None
    settings: float  # ratio of numbers of settings
    total: float  # ratio of costs of the whole searches
    trials: Ratio  # of trials to the common target
    cost: Mapping[str, Ratio]  # of costs to the common target, by account
    ahead: tuple[tuple[float, float], ...]  # (budget, P(SAP ahead)): at SAP's whole cost, and at the other's
    gap: Summary  # test score of the other's whole search minus SAP's, paired by seed
    detectable: float  # the smallest true gap that as many seeds show
    needed: int | None  # seeds that would show this gap


@dataclass(frozen=True)
class Headline:
    """One cell."""

    cell: Cell
    unit: Unit
    device: str
    lines: tuple[Line, ...]
    sap: Line | None  # the search that the others are held against: SAP's first space
    duels: tuple[Duel, ...]
    curves: tuple[AlphaCurve, ...]
    validation: int
    by_phase: bool


def headlines(results: Results, rule: str = RULE) -> tuple[Headline, ...]:
    """One per cell that has a search; in FLOPs where a job shared its device.

    Raises:
        UserError: the store is a smoke run's.
    """
    found = [_headline(results, cell, rule) for cell in cells(results)]
    return tuple(each for each in found if each.lines)


def all_transfers(results: Results, rule: str = RULE) -> dict[tuple[str, str | None], tuple[Transfer, ...]]:
    """What alpha from another cell loses, by method and space; empty where a store has one cell."""
    swept = [cell for cell in cells(results) if cell.measure == "acc"]
    keys = dict.fromkeys(key for cell in swept for key in cell.methods)
    found = {key: transfers(swept, *key, rule) for key in keys}
    return {key: each for key, each in found.items() if each}


def _headline(results: Results, cell: Cell, rule: str) -> Headline:
    searches = {key: many for key, many in cell.methods.items() if key[0] not in REFERENCES}
    everything = [search for many in searches.values() for search in many]
    unit: Unit = "seconds" if seconds_allowed(everything, Account(baseline=True)) else "flops"
    paid = {key: one for key, many in searches.items() if (one := contender(results, *key, many, rule, unit))}
    tried = {key: one for key, many in searches.items() if (one := contender(results, *key, many, rule, "trials"))}
    validation = summarise(cell.rows["num_val"].astype(float)).mean
    lines = tuple(_line(results, tried[key], paid[key], rule, int(validation or 0)) for key in paid if key in tried)
    saps = [key for key in paid if key[0] == "sap"]
    duels = tuple(_duel(paid[saps[0]], paid[key], tried[saps[0]], tried[key]) for key in paid if saps and key != saps[0])
    return Headline(
        cell, unit, _device(everything), lines, next((line for line in lines if line.method == "sap"), None),
        tuple(duel for duel in duels if duel is not None), alpha_curves(cell), int(validation or 0),
        all(bill.by_phase for one in paid.values() for bill in one.bills),
    )  # fmt: skip


def _device(searches: Sequence[Search]) -> str:
    """`cpu, 1 thread a job`."""
    pairs = {(str(row["device"]), int(row["threads"])) for search in searches for _, row in search.rows[["device", "threads"]].iterrows()}
    return "; ".join(f"{device}, {threads} {'thread' if threads == 1 else 'threads'} a job" for device, threads in sorted(pairs))


def _line(results: Results, tried: Contender, paid: Contender, rule: str, validation: int) -> Line:
    in_trials, in_cost = reach(tried, MAIN), reach(paid, MAIN)
    mean_K, bands = in_trials.test.mean(axis=0), band(tried, MAIN, in_trials.budgets)
    gain_trials, gain_cost = in_trials.best_gain(), in_cost.best_gain()
    chosen = [search.choose(rule) for search in tried.searches]
    test = score_column("test_oracle", tried.searches[0].measure)
    clean = score_column("val_clean_part", tried.searches[0].measure)
    edges = {edge: None for choice in chosen for edge in choice.edges}
    score = score_column(rule, tried.searches[0].measure)
    accuracy = summarise(float(search.vanilla[score]) for search in tried.searches if search.vanilla is not None)
    honest = tried.searches[0].measure == "acc" and validation > 0 and accuracy.mean is not None
    distinct = max(int(search.planned["distinct"].nunique()) for search in tried.searches)
    return Line(
        method=tried.method,
        space=tried.space,
        settings=tried.settings,
        hashes=tuple(dict.fromkeys(str(name) for search in tried.searches for name in search.planned["space_hash"].dropna().unique())),
        default=default_of(results, paid, rule),
        by_trials=tuple(float(mean_K[k - 1]) if k <= len(mean_K) else None for k in TRIALS),
        bands=tuple((float(bands[0, k - 1]), float(bands[1, k - 1])) if k <= len(mean_K) else None for k in TRIALS),
        final=summarise(steps.final for steps in tried.ladders),
        total=paid.total(MAIN),
        best_gain=gain_trials,
        trials_to=_to(in_trials, gain_trials),
        cost_to=_to(in_cost, gain_cost),
        kept=sum(choice.kept for choice in chosen),
        edges=tuple(edges),
        optimism=optimism(distinct, accuracy.mean or 0.0, validation) if honest else math.nan,
        flattery=summarise(float(choice.row[clean]) - float(choice.row[test]) for choice in chosen if choice.row is not None),
    )


def _to(curve: Reach, gain: float) -> tuple[float, ...]:
    return tuple(curve.cost_to(share * gain) if gain > 0 else math.inf for share in TARGETS)


def _duel(sap: Contender, other: Contender, sap_trials: Contender, other_trials: Contender) -> Duel | None:
    """None when the two have no seed in common."""
    seeds = [seed for seed in sap.seeds if seed in other.seeds]
    if not seeds:
        return None
    sap, other, sap_trials, other_trials = (one.only(seeds) for one in (sap, other, sap_trials, other_trials))
    ratios = {name: ratio_to_target(reach(sap, account), reach(other, account)) for name, account in ACCOUNTS.items()}
    played = sap.outcomes(MAIN), other.outcomes(MAIN, turn=1)
    gap = summarise(theirs.final - ours.final for ours, theirs in zip(sap.ladders, other.ladders, strict=True))
    spread = gap.std or 0.0
    return Duel(
        method=other.method,
        space=other.space,
        settings=other.settings / sap.settings,
        total=other.total(MAIN) / sap.total(MAIN) if sap.total(MAIN) else math.nan,
        trials=ratio_to_target(reach(sap_trials, MAIN), reach(other_trials, MAIN)),
        cost=ratios,
        ahead=tuple((budget, ahead(*played, budget)) for budget in (sap.total(MAIN), other.total(MAIN))),
        gap=gap,
        detectable=detectable_gap(spread, gap.n),
        needed=seeds_needed(abs(gap.mean or 0.0), spread) if spread > 0 else None,
    )


def default_of(results: Results, paid: Contender, rule: str) -> Default | None:
    """The default setting's row of every seed, with the unmodified model as a candidate; None where no seed has it."""
    wanted = _defaults(results.stores).get(paid.method)
    tests, costs = [], []
    for search in paid.searches:
        column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
        for _, row in search.rows.iterrows():
            if wanted is not None and row["status"] == "ok" and _same(json.loads(row["settings"]), wanted) and search.vanilla is not None:
                kept = best(float(search.vanilla[column]), [float(row[column])]) is None
                tests.append(float((search.vanilla if kept else row)[test]))
                costs.append(by_itself(row, paid.unit))
    return Default(summarise(tests), summarise(costs)) if tests else None


def _same(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(wanted.get(name) == value for name, value in settings.items())


@lru_cache(maxsize=4)
def _defaults(stores: tuple[Path, ...]) -> dict[str, Mapping[str, Any]]:
    """By method, the fields of its default setting, as the stores' `config.yaml` has them; of several stores the first that names it."""
    found: dict[str, Mapping[str, Any]] = {}
    for store in stores:
        try:
            config = yaml.safe_load((store / "config.yaml").read_text(encoding="utf-8"))
            methods = config["method"].items()
        except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError):
            continue  # a store without its configuration tells no defaults
        for name, entry in methods:
            if isinstance(entry, dict) and isinstance(entry.get("corrector"), dict):
                found.setdefault(str(entry.get("name", name)), entry["corrector"])
    return found

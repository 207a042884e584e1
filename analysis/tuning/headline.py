"""Computes the numbers of the one-page report on tuning cost: every search of a cell, and SAP head to head with each other method.

All numbers use one selection rule, with the unmodified model as a candidate that wins ties (`analysis.store.selection_rule`).
`analysis.reports.headline_text` and `headline_tables` turn them into sentences and tables.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.store.labels import REFERENCES
from analysis.store.load import Results
from analysis.store.results import CellResult, SearchResult, cells
from analysis.store.selection_rule import BoundaryValue, best, score_column
from analysis.store.stats import Summary, difference, number_of, summarise
from analysis.tuning.alpha import AlphaCurve, Transfer, alpha_curves, transfers
from analysis.tuning.anytime import CostItems, Unit, seconds_comparable, standalone_cost
from analysis.tuning.head_to_head import (
    TARGETS,
    AnytimeCurve,
    Chance,
    CostRatio,
    MethodSearches,
    anytime_curves,
    band,
    cost_ratio_to_target,
    mean_scores,
    method_searches,
    probability_ahead,
)
from analysis.tuning.intervals import Bounds, mean_of
from analysis.tuning.power import PairedPower, optimism, paired_power
from sap_core.files import load_text

RULE = "val_noisy"
"""The selection rule of the report."""

TRIALS = (1, 4, 16, 64)
"""Budgets in trials at which the expected test score is reported, in addition to the complete search."""

COST_ITEM_SETS = {
    "own and preparation": CostItems(True, False),
    "own only": CostItems(False, False),
    "own, preparation and baseline": CostItems(True, True),
    "own and baseline": CostItems(False, True),
}
"""Name printed -> the cost items that are counted. All numbers but those named otherwise use the first, `MAIN_ITEMS`."""

MAIN_ITEMS = CostItems(True, False)


@dataclass(frozen=True)
class Default:
    """The result of a method's default setting, a search of one trial."""

    test: Summary  # of the default, or of the unmodified model if that scores at least as high on the validation set
    cost: Summary  # standalone, with the full cost of all work that the setting uses


@dataclass(frozen=True)
class SearchSummary:
    """The results of one method over one space, over the seeds."""

    method: str
    space: str | None
    settings: int
    hashes: tuple[str, ...]
    default: Default | None  # None if the default is not a setting of the space
    by_trials: tuple[float | None, ...]  # expected test score at TRIALS; None beyond the space
    bands: tuple[tuple[float, float] | None, ...]
    seeds: tuple[int, ...]  # those with a choice and a cost, in the order of all lists below
    final: Summary  # test score of the complete search
    total: float  # cost of the complete search, in the cell's unit, mean over the seeds
    best_gain: Summary  # of each seed's curve in trials
    trials_to: tuple[Bounds | None, ...]  # trials to each share TARGETS of a seed's own best gain, mean over the seeds; None without a gain
    cost_to: tuple[Bounds | None, ...]  # the same in cost
    cost_error: float  # the largest Monte-Carlo standard error of `cost_to`, as a share of it
    kept: int  # seeds in which the unmodified model was kept
    boundary_values: tuple[BoundaryValue, ...]
    optimism: float  # upper bound of the optimism of the best validation score (see `analysis.tuning.power.optimism`)
    measured_optimism: Summary  # the selected model's score on the correctly labelled validation samples minus its test score


@dataclass(frozen=True)
class HeadToHead:
    """The comparison of one search with SAP's, on the seeds that both have."""

    method: str
    space: str | None
    settings: float  # ratio of the numbers of settings
    total: float | None  # ratio of the costs of the complete searches; None if SAP's is zero
    trials: CostRatio  # of trials to the common target
    cost: Mapping[str, CostRatio]  # of costs to the common target, by name in COST_ITEM_SETS
    probability_ahead: tuple[tuple[float, Chance], ...]  # (budget, P(SAP ahead)) at the cost of SAP's and of the other complete search
    difference: Summary  # test score of the other complete search minus SAP's, paired by seed
    power: PairedPower | None  # of the paired t-test over these seeds; None for one seed, or equal differences


@dataclass(frozen=True)
class Unlisted:
    """A method that was tuned and has no numbers, and the reason on each seed that lacks them."""

    method: str
    space: str | None
    reasons: tuple[tuple[int, str], ...]  # (seed, reason)
    partly: bool = False  # other seeds have numbers


@dataclass(frozen=True)
class Headline:
    """The numbers of one cell."""

    cell: CellResult
    unit: Unit  # of all costs
    device: str
    summaries: tuple[SearchSummary, ...]
    sap: SearchSummary | None  # the reference of the comparisons: SAP in its first space
    comparisons: tuple[HeadToHead, ...]
    curves: tuple[AlphaCurve, ...]
    validation: int  # validation samples
    by_phase: bool  # whether preparation could be separated from the settings' own cost
    unlisted: tuple[Unlisted, ...] = ()  # methods and seeds without numbers


def headlines(results: Results, rule: str = RULE) -> tuple[Headline, ...]:
    """The numbers of each cell that has a search; costs are in FLOPs if a job of the cell shared its device.

    Raises:
        UserError: some rows belong to a smoke run.
    """
    found = [_headline(results, cell, rule) for cell in cells(results)]
    return tuple(each for each in found if each.summaries)


def all_transfers(results: Results, rule: str = RULE) -> dict[tuple[str, str | None], tuple[Transfer, ...]]:
    """The loss of transferring alpha between cells, by method and space; empty for a store with one cell."""
    swept = [cell for cell in cells(results) if cell.measure == "acc"]
    keys = dict.fromkeys(key for cell in swept for key in cell.methods)
    found = {key: transfers(swept, *key, rule) for key in keys}
    return {key: each for key, each in found.items() if each}


def _headline(results: Results, cell: CellResult, rule: str) -> Headline:
    # References are not tuned.
    searches = {key: many for key, many in cell.methods.items() if key[0] not in REFERENCES}
    everything = [search for many in searches.values() for search in many]
    # One unit per cell, baseline included, because all ratios and probabilities compare searches of the cell.
    unit: Unit = "seconds" if seconds_comparable(everything, CostItems(baseline=True)) else "flops"
    cost_searches = {key: one for key, many in searches.items() if (one := method_searches(results, *key, many, rule, unit))}
    trial_searches = {key: one for key, many in searches.items() if (one := method_searches(results, *key, many, rule, "trials"))}
    validation = summarise(cell.rows["num_val"].astype(float)).mean
    summaries = tuple(
        _search_summary(results, trial_searches[key], cost_searches[key], rule, int(validation or 0))
        for key in cost_searches
        if key in trial_searches
    )
    # SAP's first space in the plan is the reference, whatever the order of its results.
    saps = [key for key in cost_searches if key[0] == "sap"]
    comparisons = tuple(
        _head_to_head(cost_searches[saps[0]], cost_searches[key], trial_searches[saps[0]], trial_searches[key])
        for key in cost_searches
        if saps and key != saps[0]
    )
    return Headline(
        cell, unit, _device(everything), summaries, next((summary for summary in summaries if summary.method == "sap"), None),
        tuple(comparison for comparison in comparisons if comparison is not None), alpha_curves(cell), int(validation or 0),
        all(cost.by_phase for one in cost_searches.values() for cost in one.costs), _unlisted(searches, cost_searches, rule),
    )  # fmt: skip


def _unlisted(
    searches: Mapping[tuple[str, str | None], Sequence[SearchResult]], listed: Mapping[tuple[str, str | None], MethodSearches], rule: str
) -> tuple[Unlisted, ...]:
    """The seeds without numbers, by method and space, with the reasons."""
    found = []
    for key, many in searches.items():
        seeds = listed[key].seeds if key in listed else ()
        lacking = [search for search in many if search.seed not in seeds]
        if lacking:
            reasons = tuple((search.seed, search.choose(rule).problem or "a test score or the cost is missing") for search in lacking)
            found.append(Unlisted(*key, reasons, partly=bool(seeds)))
    return tuple(found)


def _device(searches: Sequence[SearchResult]) -> str:
    """The devices of the searches: `cpu, 1 thread a job`."""
    pairs = {(str(row["device"]), int(row["threads"])) for search in searches for _, row in search.rows[["device", "threads"]].iterrows()}
    return "; ".join(f"{device}, {threads} {'thread' if threads == 1 else 'threads'} a job" for device, threads in sorted(pairs))


def _search_summary(
    results: Results, trial_searches: MethodSearches, cost_searches: MethodSearches, rule: str, validation: int
) -> SearchSummary:
    in_trials, in_cost = anytime_curves(trial_searches, MAIN_ITEMS), anytime_curves(cost_searches, MAIN_ITEMS)
    # In trials all numbers are exact; in cost they are averages over simulated orders.
    budgets, scores = mean_scores(trial_searches, MAIN_ITEMS)
    mean_K, bands = scores.mean(axis=0), band(trial_searches, MAIN_ITEMS, budgets)
    chosen = [search.choose(rule) for search in trial_searches.searches]
    test = score_column("test_oracle", trial_searches.searches[0].measure)
    clean = score_column("val_clean_part", trial_searches.searches[0].measure)
    boundary_values = {boundary: None for choice in chosen for boundary in choice.boundary_values}
    score = score_column(rule, trial_searches.searches[0].measure)
    accuracy = summarise(float(search.vanilla[score]) for search in trial_searches.searches if search.vanilla is not None)
    # The bound is the binomial error of an accuracy; R² has no such formula.
    bounded = trial_searches.searches[0].measure == "acc" and validation > 0 and accuracy.mean is not None
    # Settings that compute the same thing are one draw of the maximum.
    distinct = max(int(search.planned["computation_id"].nunique()) for search in trial_searches.searches)
    return SearchSummary(
        method=trial_searches.method,
        space=trial_searches.space,
        settings=trial_searches.settings,
        hashes=tuple(
            dict.fromkeys(str(name) for search in trial_searches.searches for name in search.planned["space_hash"].dropna().unique())
        ),
        default=default_of(results, cost_searches, rule),
        by_trials=tuple(float(mean_K[k - 1]) if k <= len(mean_K) else None for k in TRIALS),
        bands=tuple((float(bands[0, k - 1]), float(bands[1, k - 1])) if k <= len(mean_K) else None for k in TRIALS),
        seeds=cost_searches.seeds,
        final=cost_searches.final,
        total=cost_searches.total(MAIN_ITEMS),
        best_gain=summarise(curve.best_gain for curve in in_trials),
        trials_to=tuple(_mean_cost(in_trials, share) for share in TARGETS),
        cost_to=tuple(_mean_cost(in_cost, share) for share in TARGETS),
        cost_error=_cost_error(in_cost),
        kept=sum(choice.kept for choice in chosen),
        boundary_values=tuple(boundary_values),
        optimism=optimism(distinct, accuracy.mean or 0.0, validation) if bounded else math.nan,
        measured_optimism=summarise(_above(choice.row, clean, test) for choice in chosen),
    )


def _above(row: pd.Series | None, one: str, other: str) -> float | None:
    """A score minus another one of the same row; None if one is missing."""
    first, second = (None if row is None else number_of(row[name]) for name in (one, other))
    return None if first is None or second is None else difference(first, second)


def _mean_cost(curves: Sequence[AnytimeCurve], share: float) -> Bounds | None:
    """The cost to a share of each seed's best gain, mean over the seeds; None if no seed gains."""
    costs = [curve.cost_to_share(share) for curve in curves]
    # A seed without a gain has spent its complete search and is not dropped, so the mean is at least what it is with that cost.
    spent = [Bounds(float(curve.budgets[-1]), math.inf) if cost is None else cost for curve, cost in zip(curves, costs, strict=True)]
    return mean_of(spent) if any(cost is not None for cost in costs) else None


def _cost_error(curves: Sequence[AnytimeCurve]) -> float:
    """The largest standard error of a mean cost to one of the targets, as a share of it."""
    gaining = [curve for curve in curves if curve.best_gain > 0]
    found = [0.0]
    for share in TARGETS if gaining else ():
        costs = [curve.cost_to(share * curve.best_gain).low for curve in gaining]
        # Seeds of one space are simulated in the same orders, so their errors add up and do not average out.
        errors = [curve.error(share * curve.best_gain) for curve in gaining]
        found.append(sum(errors) / sum(costs) if sum(costs) else 0.0)
    return max(found)


def _head_to_head(
    sap: MethodSearches, other: MethodSearches, sap_trials: MethodSearches, other_trials: MethodSearches
) -> HeadToHead | None:
    """None if the two have no seed in common."""
    # Paired: both searches started from the same baselines.
    seeds = [seed for seed in sap.seeds if seed in other.seeds]
    if not seeds:
        return None
    sap, other, sap_trials, other_trials = (one.restrict_to_seeds(seeds) for one in (sap, other, sap_trials, other_trials))
    # The ratio under each set of cost items, because which items to count is a matter of judgement.
    ratios = {
        name: cost_ratio_to_target(anytime_curves(sap, items), anytime_curves(other, items)) for name, items in COST_ITEM_SETS.items()
    }
    # Independent orders: with the same seed, searches of one size would try their settings in lockstep.
    trajectories = sap.trajectories(MAIN_ITEMS), other.trajectories(MAIN_ITEMS, order_seed=1)
    # Of the complete searches, seed by seed.
    differences = summarise(difference(theirs.final, ours.final) for ours, theirs in zip(sap.rankings, other.rankings, strict=True))
    return HeadToHead(
        method=other.method,
        space=other.space,
        settings=other.settings / sap.settings,
        total=other.total(MAIN_ITEMS) / sap.total(MAIN_ITEMS) if sap.total(MAIN_ITEMS) else None,
        trials=cost_ratio_to_target(anytime_curves(sap_trials, MAIN_ITEMS), anytime_curves(other_trials, MAIN_ITEMS)),
        cost=ratios,
        probability_ahead=tuple(
            (budget, probability_ahead(*trajectories, budget)) for budget in (sap.total(MAIN_ITEMS), other.total(MAIN_ITEMS))
        ),
        difference=differences,
        power=paired_power(differences),
    )


def default_of(results: Results, cost_searches: MethodSearches, rule: str) -> Default | None:
    """The default setting of a method, with the unmodified model as a candidate; None if no seed has run it."""
    # The default that the store was run with, not today's.
    wanted = _defaults(results.stores).get(cost_searches.method)
    tests, costs = [], []
    for search in cost_searches.searches:
        column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
        for _, row in search.rows.iterrows():
            if wanted is not None and row["status"] == "ok" and _same(json.loads(row["settings"]), wanted) and search.vanilla is not None:
                # The default is a search of one trial, with the same rule: the unmodified model is a candidate.
                # A missing score is NaN and beats nothing.
                kept = best(float(search.vanilla[column]), [float(row[column])]) is None
                tests.append(number_of((search.vanilla if kept else row)[test]))
                costs.append(standalone_cost(row, cost_searches.unit))
    return Default(summarise(tests), summarise(costs)) if tests else None


def _same(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    # Rows contain the searched and the fixed fields; the default setting may have further keys, such as _target_.
    return all(wanted.get(name) == value for name, value in settings.items())


@lru_cache(maxsize=4)
def _defaults(stores: tuple[Path, ...]) -> dict[str, Mapping[str, Any]]:
    """Maps methods to their default settings, from the `config.yaml` of the stores; the first store that has the method wins."""
    found: dict[str, Mapping[str, Any]] = {}
    for store in stores:
        try:
            config = yaml.safe_load(load_text(store / "config.yaml"))
            methods = config["method"].items()
        except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError, RecursionError):
            # Without its configuration a store has no known defaults.
            continue
        for name, entry in methods:
            if isinstance(entry, dict) and isinstance(entry.get("corrector"), dict):
                found.setdefault(str(entry.get("name", name)), entry["corrector"])
    return found

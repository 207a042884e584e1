"""Anytime performance of a search: the test score of its incumbent after a budget of trials, seconds, FLOPs or sample-passes.

The incumbent is the setting that the selection rule would select among those tried so far. Settings of one search differ in cost (more
epochs, a larger trusted set), so how many of them a budget in seconds buys depends on their order. Performance is therefore averaged over
random orders of the finite grid; in trials it is exact (`analysis.tuning.best_of_k`).

The cost of a search has three items, which may be counted or not (`CostItems`):

    own           the work of each setting alone: training, building or correcting, and scoring it on the validation set
    preparation   the work that settings share and that precedes the first of them: scoring samples, collecting and factorising second
                  moments, a teacher's predictions. It is spent in full before the first setting is available
    baseline      training the network that is corrected

Amounts are shares of what was spent, so own and preparation of a complete search add up to its amortised tuning cost.

Shapes: N settings, R random orders, B budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import pandas as pd

from analysis.store.load import Results, series_by_prefix
from analysis.store.results import SearchResult
from analysis.store.selection_rule import score_column
from analysis.tuning.best_of_k import RankedSettings, rank_settings
from analysis.tuning.cost import STANDALONE_PHASES, exclusive_device

Unit = Literal["trials", "seconds", "flops", "passes"]
UNITS: tuple[Unit, ...] = ("trials", "seconds", "flops", "passes")

NUM_ORDERS = 1000
"""Number of random orders in which each search is simulated."""

PREPARATION = ("select", "collect", "factor")
"""Phases of the cost meter that count as preparation."""

_POINTS: dict[Unit, tuple[str, ...]] = {"seconds": ("seconds",), "flops": ("flops",), "passes": ("forwards", "backwards")}
_AMORTISED: dict[Unit, list[str]] = {
    "seconds": ["tuning_seconds"], "flops": ["flops"], "passes": ["sample_forwards", "sample_backwards"],
}  # fmt: skip
_STANDALONE: dict[Unit, list[str]] = {
    "seconds": list(STANDALONE_PHASES), "flops": ["standalone_flops"],
    "passes": ["standalone_sample_forwards", "standalone_sample_backwards"],
}  # fmt: skip


@dataclass(frozen=True)
class CostItems:
    """Which cost items count in addition to the settings' own work."""

    preparation: bool = True
    baseline: bool = False


@dataclass(frozen=True)
class CostRecord:
    """The cost of one search by item, in one unit."""

    own: np.ndarray  # [N] in the order of the space
    preparation: float
    baseline: float
    by_phase: bool = True  # False if the store has no costs by phase; preparation is then part of `own`

    def upfront(self, items: CostItems) -> float:
        """The cost before the first setting starts."""
        # Not as a product: the cost of a baseline that was not measured is NaN, also where it does not count.
        return (self.preparation if items.preparation else 0.0) + (self.baseline if items.baseline else 0.0)

    def total(self, items: CostItems) -> float:
        """The cost of the complete search."""
        return self.upfront(items) + float(self.own.sum())


@dataclass(frozen=True)
class SearchTrajectories:
    """The incumbents of one search in R random orders."""

    cost: np.ndarray  # [R, N] cumulative cost when the n-th setting has finished
    test: np.ndarray  # [R, N] test score of the incumbent then
    unmodified: float  # test score of the unmodified model

    def at(self, budgets_B: np.ndarray) -> np.ndarray:
        """[B, R] the incumbent's test score at each budget; the unmodified model's before the first setting has finished."""
        found = np.empty((len(budgets_B), len(self.cost)))
        for order, (cost_N, test_N) in enumerate(zip(self.cost, self.test, strict=True)):
            # The factor lets a budget that equals a cumulative sum pay for it despite the rounding of the sum.
            done_B = np.searchsorted(cost_N, budgets_B * (1 + 1e-12), side="right")
            found[:, order] = np.where(done_B > 0, test_N[np.maximum(done_B, 1) - 1], self.unmodified)
        return found


def rank_search(search: SearchResult, rule: str) -> RankedSettings | None:
    """Ranks the settings of a search by `rule`; None if the rule cannot select, or a test score is missing."""
    if search.choose(rule).row is None or search.vanilla is None:
        return None
    rows = search.rows.sort_values("position", kind="stable")
    column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
    scores = rows[column].where(rows["status"] == "ok").astype(float).to_numpy()
    ranking = rank_settings(float(search.vanilla[column]), float(search.vanilla[test]), scores, rows[test].to_numpy(dtype=float))
    # With a setting that may be selected and has no test score, expectations are unknown.
    return None if np.isnan(ranking.test).any() else ranking


def cost_record(results: Results, search: SearchResult, unit: Unit) -> CostRecord | None:
    """The cost of a search; None if no row records this unit. `seconds_comparable` decides whether seconds may be used."""
    rows = search.rows.sort_values("position", kind="stable")
    # A trial costs one, and shared preparation is no trial.
    if unit == "trials":
        return CostRecord(np.ones(len(rows)), 0.0, 0.0)
    baseline = float("nan") if search.vanilla is None else float(search.vanilla[_AMORTISED[unit]].astype(float).sum(min_count=1))
    amortised_N = rows[_AMORTISED[unit]].sum(axis=1, min_count=1).to_numpy(dtype=float)
    if np.isnan(amortised_N).all():
        return None
    # Single rows without a cost (killed jobs) count as free, rather than make the whole search unknown.
    amortised_N = np.nan_to_num(amortised_N)
    # Costs by phase are stored as series of the runs, not as columns of their rows.
    prepared = _preparation_by_run(results, unit)
    if prepared is None or not rows["run_id"].isin(_runs_with_phase_costs(results)).any():
        # Older stores have no costs by phase; then preparation is spread over the settings, and reports say so.
        return CostRecord(amortised_N, 0.0, baseline, by_phase=False)
    share_N = rows["run_id"].map(prepared).fillna(0.0).to_numpy(dtype=float)
    # A difference of two rounded sums may be slightly negative.
    own_N = np.maximum(amortised_N - share_N, 0.0)
    # As a difference, so that the total is that of the tables.
    return CostRecord(own_N, float(amortised_N.sum() - own_N.sum()), baseline)


def standalone_cost(row: pd.Series, unit: Unit) -> float:
    """The cost of one setting run alone, with the full cost of all shared work that it uses; NaN if not recorded."""
    return 1.0 if unit == "trials" else float(row[_STANDALONE[unit]].astype(float).sum(min_count=1))


def seconds_comparable(searches: Sequence[SearchResult], items: CostItems) -> bool:
    """Whether every counted job had exclusive use of its device; otherwise costs are reported in FLOPs."""
    rows = [search.rows for search in searches]
    # Training is measured in another job, whose device may have been shared.
    if items.baseline:
        rows += [search.vanilla.to_frame().T for search in searches if search.vanilla is not None]
    return all(exclusive_device(each) for each in rows)


@lru_cache(maxsize=64)
def random_orders(count: int, repeats: int = NUM_ORDERS, seed: int = 0) -> np.ndarray:
    """[R, N] random permutations of 0 ... N-1, the same in every call."""
    # A generator of its own makes reports reproducible; searches of one size get the same orders.
    generator = np.random.default_rng([seed, count])
    return generator.permuted(np.tile(np.arange(count), (repeats, 1)), axis=1)


def simulate_orders(ranking: RankedSettings, cost: CostRecord, items: CostItems, orders_RN: np.ndarray) -> SearchTrajectories:
    """Runs a search in each of the given orders on its stored scores and costs."""
    # The inverse of the ranking: setting -> rank.
    rank_N = np.empty(len(ranking), dtype=int)
    rank_N[ranking.order] = np.arange(len(ranking))
    # Ranks contain ties and the preference for the unmodified model, so the best rank is the incumbent.
    best_RN = np.maximum.accumulate(rank_N[orders_RN], axis=1)
    # Preparation is spent in full before the first setting, so a curve begins at its cost.
    cost_RN = cost.upfront(items) + np.cumsum(cost.own[orders_RN], axis=1)
    return SearchTrajectories(cost_RN, ranking.test[best_RN], ranking.unmodified)


def budget_grid(trajectories: Sequence[SearchTrajectories], count: int = 400) -> np.ndarray:
    """[B] logarithmically spaced budgets, from the cheapest first setting to the most expensive complete search."""
    low = min(float(each.cost[:, 0].min()) for each in trajectories)
    high = max(float(each.cost[:, -1].max()) for each in trajectories)
    # A first setting may have no recorded cost, and 0 has no logarithm.
    return np.geomspace(max(low, high * 1e-9), high, count)


def _preparation_by_run(results: Results, unit: Unit) -> pd.Series | None:
    """Each run's share of its search's preparation, by run id; None if the store has no costs by phase."""
    costs = series_by_prefix(results, "cost/")
    if costs.empty:
        return None
    names = [f"cost/{phase}/{quantity}" for phase in PREPARATION for quantity in _POINTS[unit]]
    return costs[costs["name"].isin(names)].groupby("run_id")["value"].sum()


@lru_cache(maxsize=2)
def _runs_with_phase_costs(results: Results) -> frozenset[str]:
    """The ids of the runs whose costs by phase are stored."""
    return frozenset(series_by_prefix(results, "cost/")["run_id"])

"""What a search has reached when a budget is spent: in trials, measured seconds, FLOPs or sample-passes.

Settings of one search differ in cost (more epochs, a larger trusted set), so a budget in seconds buys different numbers of them in
different orders. Outcomes are taken over many random orders of the search's finite list; in trials they are exact (`analysis.tuning.best_of_k`).

A search's bill has three items, each of which may be counted or left out:

    own           what every setting adds by itself: training, building or correcting, and scoring it on the validation set
    preparation   work that the settings share and that comes before the first of them: scoring samples, collecting second moments and
                  factorising them, a teacher's answers. It is paid whole before the first setting is seen
    baseline      training the network that is to be corrected

All amounts are shares of what was really spent, so own and preparation of the whole search add up to its shared tuning cost.

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
"""Random orders of each search."""

PREPARATION = ("select", "collect", "factor")
_POINTS: dict[Unit, tuple[str, ...]] = {"seconds": ("seconds",), "flops": ("flops",), "passes": ("forwards", "backwards")}
_SHARED: dict[Unit, list[str]] = {
    "seconds": ["tuning_seconds"], "flops": ["flops"], "passes": ["sample_forwards", "sample_backwards"],
}  # fmt: skip
_BY_ITSELF: dict[Unit, list[str]] = {
    "seconds": list(STANDALONE_PHASES), "flops": ["standalone_flops"], "passes": ["standalone_sample_forwards", "standalone_sample_backwards"],
}  # fmt: skip


@dataclass(frozen=True)
class CostItems:
    """Which items of the bill count."""

    preparation: bool = True
    baseline: bool = False


@dataclass(frozen=True)
class CostRecord:
    """What one search cost, item by item."""

    own: np.ndarray  # [N] in the order of the space
    preparation: float
    baseline: float
    by_phase: bool = True  # False: the store tells no phases, so preparation is spread over the settings

    def before(self, items: CostItems) -> float:
        """What is spent when the first setting begins."""
        return self.preparation * items.preparation + self.baseline * items.baseline

    def total(self, items: CostItems) -> float:
        """The whole search."""
        return self.before(items) + float(self.own.sum())


@dataclass(frozen=True)
class SearchTrajectories:
    """A search in R random orders."""

    cost: np.ndarray  # [R, N] spent when the n-th setting is done
    test: np.ndarray  # [R, N] test score of the model taken then
    unmodified: float

    def at(self, budgets_B: np.ndarray) -> np.ndarray:
        """[B, R] the test score reached with each budget; the unmodified model's where no setting is done yet."""
        found = np.empty((len(budgets_B), len(self.cost)))
        for order, (cost_N, test_N) in enumerate(zip(self.cost, self.test, strict=True)):
            done_B = np.searchsorted(cost_N, budgets_B * (1 + 1e-12), side="right")
            found[:, order] = np.where(done_B > 0, test_N[np.maximum(done_B, 1) - 1], self.unmodified)
        return found


def rank_search(search: SearchResult, rule: str) -> RankedSettings | None:
    """The search's settings as `rule` ranks them; None when it cannot be judged (see `Choice.problem`)."""
    if search.choose(rule).row is None or search.vanilla is None:
        return None
    rows = search.rows.sort_values("position", kind="stable")
    column, test = score_column(rule, search.measure), score_column("test_oracle", search.measure)
    scores = rows[column].where(rows["status"] == "ok").astype(float).to_numpy()
    return rank_settings(float(search.vanilla[column]), float(search.vanilla[test]), scores, rows[test].to_numpy(dtype=float))


def cost_record(results: Results, search: SearchResult, unit: Unit) -> CostRecord | None:
    """The search's bill; None where no row knows the unit. Whether seconds may be used is for `seconds_comparable` to say."""
    rows = search.rows.sort_values("position", kind="stable")
    if unit == "trials":
        return CostRecord(np.ones(len(rows)), 0.0, 0.0)
    baseline = float("nan") if search.vanilla is None else float(search.vanilla[_SHARED[unit]].astype(float).sum(min_count=1))
    shared_N = rows[_SHARED[unit]].sum(axis=1, min_count=1).to_numpy(dtype=float)
    if np.isnan(shared_N).all():
        return None
    shared_N = np.nan_to_num(shared_N)
    prepared = _prepared(results, unit)
    if prepared is None or not rows["run_id"].isin(_told(results)).any():
        return CostRecord(shared_N, 0.0, baseline, by_phase=False)
    share_N = rows["run_id"].map(prepared).fillna(0.0).to_numpy(dtype=float)
    return CostRecord(np.maximum(shared_N - share_N, 0.0), float(share_N.sum()), baseline)


def standalone_cost(row: pd.Series, unit: Unit) -> float:
    """What one setting costs when nothing else is tried: every piece of work that it uses, whole. NaN where it is not known."""
    return 1.0 if unit == "trials" else float(row[_BY_ITSELF[unit]].astype(float).sum(min_count=1))


def seconds_comparable(searches: Sequence[SearchResult], items: CostItems) -> bool:
    """Whether every counted job had its device to itself; otherwise costs are told in FLOPs."""
    rows = [search.rows for search in searches]
    if items.baseline:
        rows += [search.vanilla.to_frame().T for search in searches if search.vanilla is not None]
    return all(exclusive_device(each) for each in rows)


@lru_cache(maxsize=64)
def random_orders(count: int, repeats: int = NUM_ORDERS, seed: int = 0) -> np.ndarray:
    """[R, N] random orders of the places 0 ... N-1, the same at every call."""
    generator = np.random.default_rng([seed, count])
    return generator.permuted(np.tile(np.arange(count), (repeats, 1)), axis=1)


def simulate_orders(ranking: RankedSettings, cost: CostRecord, items: CostItems, orders_RN: np.ndarray) -> SearchTrajectories:
    """The search in each of the orders."""
    rank_N = np.empty(len(ranking), dtype=int)
    rank_N[ranking.place] = np.arange(len(ranking))
    best_RN = np.maximum.accumulate(rank_N[orders_RN], axis=1)
    cost_RN = cost.before(items) + np.cumsum(cost.own[orders_RN], axis=1)
    return SearchTrajectories(cost_RN, ranking.test[best_RN], ranking.unmodified)


def budget_grid(trajectories: Sequence[SearchTrajectories], count: int = 400) -> np.ndarray:
    """[B] budgets, evenly spaced by their logarithm, from the cheapest first setting to the dearest whole search."""
    low = min(float(each.cost[:, 0].min()) for each in trajectories)
    high = max(float(each.cost[:, -1].max()) for each in trajectories)
    return np.geomspace(max(low, high * 1e-9), high, count)


def _prepared(results: Results, unit: Unit) -> pd.Series | None:
    """By run, its share of the search's preparation; None when the store has no costs by phase."""
    costs = series_by_prefix(results, "cost/")
    if costs.empty:
        return None
    names = [f"cost/{phase}/{what}" for phase in PREPARATION for what in _POINTS[unit]]
    return costs[costs["name"].isin(names)].groupby("run_id")["value"].sum()


@lru_cache(maxsize=2)
def _told(results: Results) -> frozenset[str]:
    """The runs whose costs by phase are known."""
    return frozenset(series_by_prefix(results, "cost/")["run_id"])

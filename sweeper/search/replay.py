"""Replays searches on the rows of a complete grid in a store (`sap-sweep replay STORE search=...`). Nothing is trained.

A replay with a search seed tries exactly the settings that a live search with this seed tries, because a setting has the same scores in
both. Random orders are replayed in chunks of many seeds at once. Of the other samplers one sequence of trials serves every smaller budget
as its prefix; successive halving is an exception, because its rungs depend on the budget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from analysis.store.labels import method_label
from analysis.store.results import CellResult, SearchResult
from analysis.store.selection_rule import score_column
from sap_core.errors import UserError
from sap_core.seeding import stream
from sweeper.config.schema import SearchConfig
from sweeper.config.search_space import Domain, SearchSpace
from sweeper.search.encoding import Setting, SettingSpace
from sweeper.search.samplers import random_order, run_trials
from sweeper.search.trial_search import resource_levels
from sweeper.search.trials import Score, rung_sizes

RULE = "val_noisy"


@dataclass(frozen=True, eq=False)
class FinishedGrid:
    """The scores of a complete grid on one baseline, by grid index."""

    seed: int
    baseline_id: str
    space: SettingSpace
    scores: np.ndarray  # [N] validation scores, which the selection rule reads; NaN: failed
    tests: np.ndarray  # [N] test scores
    unmodified: float  # validation score of the unmodified model
    unmodified_test: float

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """Ranks and test scores under the selection rule.

        Returns:
            rank_N: of each setting, higher is better; 0 where the unmodified model is preferred.
            test_R: test score by rank; rank 0 is the unmodified model.
        """
        # The unmodified model wins ties, and among equal settings the one that comes first in the grid.
        beats = np.nan_to_num(self.scores, nan=-np.inf) > self.unmodified
        order = np.lexsort((-np.arange(len(beats)), np.where(beats, self.scores, -np.inf)))
        order = order[beats[order]]
        rank_N = np.zeros(len(beats), dtype=np.int64)
        rank_N[order] = np.arange(1, len(order) + 1)
        return rank_N, np.concatenate([[self.unmodified_test], self.tests[order]])

    @property
    def best(self) -> float:
        """The test score of the setting that the rule selects from the complete grid."""
        return float(self.ranks()[1][-1])


def finished_grids(cell: CellResult, method: str, space: str | None, domains: Mapping[str, Any]) -> list[FinishedGrid]:
    """The finished grids of one method and space, one per baseline.

    Args:
        cell: of the store.
        method: its name.
        space: name of its space.
        domains: the space as configured: {field: {type: values}}.

    Raises:
        UserError: settings without a row, or rows that do not belong to this space.
    """
    searches = cell.methods[method, space]
    label, parsed = method_label(method, space), SearchSpace.parse(str(space), domains).domains
    lacking = sum(search.missing for search in searches)
    if lacking:
        planned = sum(len(search.planned) for search in searches)
        raise UserError(
            f"the grid of {label} is incomplete: {lacking} of {planned} settings have no row; run the experiment to its end first"
        )
    return [_finished_grid(search, label, parsed) for search in searches]


def _finished_grid(search: SearchResult, label: str, domains: tuple[Domain, ...]) -> FinishedGrid:
    column, test = score_column(RULE, search.measure), score_column("test_oracle", search.measure)
    rows = search.rows.sort_values("position")
    # The configuration may write 1 where rows store 1.0. Ids and orders depend on the canonical values, so the space is rebuilt from the
    # rows.
    raw = SettingSpace(domains)
    # Grid indices are positions in the space, so a gap or another size would assign scores to the wrong settings.
    if raw.size != len(rows) or rows["position"].tolist() != list(range(len(rows))):
        raise UserError(f"the {len(rows)} rows of {label} do not match the space in the store's config.yaml; run the experiment again")
    settings = [json.loads(text) for text in rows["settings"]]
    space = SettingSpace(tuple(replace(domain, values=_canonical(raw, domain, settings)) for domain in domains))
    vanilla = search.vanilla
    if vanilla is None or vanilla["status"] != "ok":
        raise UserError(f"the store has no row for the uncorrected baseline of seed {search.seed}; run the experiment to its end first")
    return FinishedGrid(
        search.seed, str(vanilla["run_id"]), space, rows[column].where(rows["status"] == "ok").astype(float).to_numpy(),
        rows[test].to_numpy(dtype=float), float(vanilla[column]), float(vanilla[test]),
    )  # fmt: skip


def _canonical(space: SettingSpace, domain: Domain, settings: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """A domain's values as rows store them (1.0 for a configured 1), found in the rows that vary this field alone."""
    first = {other.field: other.values[0] for other in space.domains}
    # All other fields at their first value: the row at this index differs from the first row in this field alone.
    indices = [space.index({**first, domain.field: value}) for value in domain.values]
    return tuple(settings[index or 0][domain.field] for index in indices)


def trial_indices(grid: FinishedGrid, spec: Mapping[str, Any]) -> list[int]:
    """The grid indices of a search's trials, in order. `spec` as in `TrialSearch.spec`: seed, sampler, resource, rungs."""
    levels = resource_levels(grid.space, spec["resource"]) if spec["resource"] else [None]
    indices: list[int] = []
    next_level: dict[int, int] = {}

    def advance(trial: int, configuration: int, setting: Setting) -> Score:
        # Successive halving calls a configuration once per level, in ascending order.
        level = next_level.get(configuration, 0)
        next_level[configuration] = level + 1
        # A replay never trains: a trial is the row of its setting at the level that its configuration has reached.
        index = grid.space.index({**setting, spec["resource"]: levels[level]} if spec["resource"] else setting)
        assert index is not None
        indices.append(index)
        score = float(grid.scores[index])
        # A failed setting is reported to the sampler as in a live search.
        return None if np.isnan(score) else score

    run_trials(grid.space, spec, grid.baseline_id, advance)
    return indices


def replay_budgets(config: SearchConfig, grid: FinishedGrid) -> list[int]:
    """The budgets to report: powers of two up to the search's own budget; for random search up to the size of the grid."""
    size = len(grid.scores)
    largest = min(config.budget or size, size)
    smallest = len(resource_levels(grid.space, config.resource)) if config.resource else 1
    is_random = config.sampler is None and config.resource is None
    # Random orders are complete permutations, so they give every budget up to the size of the grid.
    powers = [2**power for power in range(32) if smallest <= 2**power < (size if is_random else largest)]
    return sorted({*powers, largest, *([size] if is_random else [])})


def replay(
    grid: FinishedGrid, config: SearchConfig, entry: dict[str, Any] | None, repeats: range, budgets: list[int]
) -> Iterator[np.ndarray]:
    """Replay a search for each search seed in `repeats`.

    Yields:
        [R, budgets]: for R further seeds the test score of the setting selected after each of the budgets.
    """
    rank_N, test_R = grid.ranks()
    if entry is None and config.resource is None:
        for start in range(repeats.start, repeats.stop, _SEEDS_PER_CHUNK):
            # The order is the one that a live search with this seed and baseline draws.
            orders = np.array(
                [
                    random_order(grid.space, stream(seed, "search", grid.baseline_id))
                    for seed in range(start, min(start + _SEEDS_PER_CHUNK, repeats.stop))
                ]
            )
            # The rank of the incumbent after each trial. Ranks contain the selection rule's ties and its preference for the unmodified
            # model (rank 0).
            best = np.maximum.accumulate(rank_N[orders], axis=1)
            yield test_R[best[:, np.array(budgets) - 1]]
        return
    for seed in repeats:
        if config.resource is None:
            indices = trial_indices(grid, {"seed": seed, "sampler": entry, "resource": None, "rungs": [budgets[-1]]})
            # Smaller budgets are prefixes of the longest sequence, because a sampler does not know its budget.
            best = np.maximum.accumulate(rank_N[indices])
            yield test_R[best[np.array(budgets) - 1]][None]
        else:
            configurations, levels = grid.space.without(config.resource).size, len(resource_levels(grid.space, config.resource))
            # The rungs depend on the budget, so every budget is a replay of its own.
            specs = [
                {
                    "seed": seed,
                    "sampler": entry,
                    "resource": config.resource,
                    "rungs": rung_sizes(budget, configurations, levels, config.eta),
                }
                for budget in budgets
            ]
            yield np.array([[test_R[rank_N[trial_indices(grid, spec)].max()] for spec in specs]])


_SEEDS_PER_CHUNK = 1000
"""Random orders in memory at a time; 1,000 of a grid of 675 settings are 5 MB."""

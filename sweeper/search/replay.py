"""`sap-sweep replay STORE search=...`: any search on the rows of a grid that is in the store whole. Nothing is trained.

A search that is replayed with a seed tries what the live search with this seed tries, because a setting's scores are the same. Random
orders are computed all at once; of the other samplers one sequence serves every smaller budget as its prefix, but for successive halving,
where each budget is a search of its own.
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
from sweeper.config.schema import Search as Choice
from sweeper.config.search_space import Domain, Space
from sweeper.search.encoding import Point, Points
from sweeper.search.planned import levels_of
from sweeper.search.samplers import conduct, random_order
from sweeper.search.trials import Score, rungs_of

RULE = "val_noisy"


@dataclass(frozen=True, eq=False)
class Grid:
    """One baseline's whole grid, by place."""

    seed: int
    baseline_id: str
    points: Points
    scores: np.ndarray  # [N] by which settings are chosen; NaN: failed
    tests: np.ndarray  # [N]
    unmodified: float
    unmodified_test: float

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """(the rank of each place, higher is better, 0 where the unmodified model is kept; the test score of what has a rank)."""
        beats = np.nan_to_num(self.scores, nan=-np.inf) > self.unmodified
        order = np.lexsort((-np.arange(len(beats)), np.where(beats, self.scores, -np.inf)))
        order = order[beats[order]]
        rank_N = np.zeros(len(beats), dtype=np.int64)
        rank_N[order] = np.arange(1, len(order) + 1)
        return rank_N, np.concatenate([[self.unmodified_test], self.tests[order]])

    @property
    def best(self) -> float:
        """The test score of what the whole grid chooses."""
        return float(self.ranks()[1][-1])


def grids_of(cell: CellResult, method: str, space: str | None, words: Mapping[str, Any]) -> list[Grid]:
    """The grids of one method and space, one per baseline.

    Args:
        cell: of the store.
        method: its name.
        space: of the method.
        words: the space as configured: {field: {word: values}}.

    Raises:
        UserError: settings without a row, or a plan that is not of this space.
    """
    searches = cell.methods[method, space]
    label, domains = method_label(method, space), Space.parse(str(space), words).domains
    lacking = sum(search.missing for search in searches)
    if lacking:
        planned = sum(len(search.planned) for search in searches)
        raise UserError(f"the grid of {label} has gaps: {lacking} of {planned} settings have no row; run the experiment to its end first")
    return [_grid(search, label, domains) for search in searches]


def _grid(search: SearchResult, label: str, domains: tuple[Domain, ...]) -> Grid:
    column, test = score_column(RULE, search.measure), score_column("test_oracle", search.measure)
    rows = search.rows.sort_values("position")
    raw = Points(domains)
    if raw.size != len(rows) or rows["position"].tolist() != list(range(len(rows))):
        raise UserError(f"the {len(rows)} rows of {label} are not the grid that the store's config.yaml lists; run the experiment again")
    settings = [json.loads(text) for text in rows["settings"]]
    points = Points(tuple(replace(domain, values=_canonical(raw, domain, settings)) for domain in domains))
    vanilla = search.vanilla
    if vanilla is None or vanilla["status"] != "ok":
        raise UserError(f"the store has no row for the uncorrected baseline of seed {search.seed}; run the experiment to its end first")
    return Grid(
        search.seed, str(vanilla["run_id"]), points, rows[column].where(rows["status"] == "ok").astype(float).to_numpy(),
        rows[test].to_numpy(dtype=float), float(vanilla[column]), float(vanilla[test]),
    )  # fmt: skip


def _canonical(points: Points, domain: Domain, settings: Sequence[Mapping[str, Any]]) -> tuple[Any, ...]:
    """A domain's values as the rows have them."""
    first = {other.field: other.values[0] for other in points.domains}
    places = [points.place({**first, domain.field: value}) for value in domain.values]
    return tuple(settings[place or 0][domain.field] for place in places)


def tried(grid: Grid, spec: Mapping[str, Any]) -> list[int]:
    """The places of a search's trials, in order. `spec` as `TrialSearch.spec`: seed, sampler, resource, rungs."""
    levels = levels_of(grid.points, spec["resource"]) if spec["resource"] else [None]
    places: list[int] = []
    reached: dict[int, int] = {}

    def climb(trial: int, configuration: int, point: Point) -> Score:
        level = reached.get(configuration, 0)
        reached[configuration] = level + 1
        place = grid.points.place({**point, spec["resource"]: levels[level]} if spec["resource"] else point)
        assert place is not None
        places.append(place)
        score = float(grid.scores[place])
        return None if np.isnan(score) else score

    conduct(grid.points, spec, grid.baseline_id, climb)
    return places


def budgets_of(choice: Choice, grid: Grid) -> list[int]:
    """The budgets that are told: powers of two up to the search's own, and for random search up to the whole space."""
    size = len(grid.scores)
    most = min(choice.budget or size, size)
    fewest = len(levels_of(grid.points, choice.resource)) if choice.resource else 1
    free = choice.sampler is None and choice.resource is None
    powers = [2**power for power in range(32) if fewest <= 2**power < (size if free else most)]
    return sorted({*powers, most, *([size] if free else [])})


def replay(grid: Grid, choice: Choice, entry: dict[str, Any] | None, repeats: range, budgets: list[int]) -> Iterator[np.ndarray]:
    """For each repeat the test scores chosen after each of the budgets, shape [budgets]; some at a time: [repeats, budgets]."""
    rank_N, test_R = grid.ranks()
    if entry is None and choice.resource is None:
        for part in range(repeats.start, repeats.stop, _AT_ONCE):
            orders = np.array(
                [
                    random_order(grid.points, stream(seed, "search", grid.baseline_id))
                    for seed in range(part, min(part + _AT_ONCE, repeats.stop))
                ]
            )
            best = np.maximum.accumulate(rank_N[orders], axis=1)
            yield test_R[best[:, np.array(budgets) - 1]]
        return
    for seed in repeats:
        if choice.resource is None:
            places = tried(grid, {"seed": seed, "sampler": entry, "resource": None, "rungs": [budgets[-1]]})
            best = np.maximum.accumulate(rank_N[places])
            yield test_R[best[np.array(budgets) - 1]][None]
        else:
            configurations, levels = grid.points.without(choice.resource).size, len(levels_of(grid.points, choice.resource))
            specs = [
                {"seed": seed, "sampler": entry, "resource": choice.resource, "rungs": rungs_of(budget, configurations, levels, choice.eta)}
                for budget in budgets
            ]
            yield np.array([[test_R[rank_N[tried(grid, spec)].max()] for spec in specs]])


_AT_ONCE = 1000
"""So many random orders are held in memory at a time."""

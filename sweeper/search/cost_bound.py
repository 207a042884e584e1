"""An upper bound of what a search will cost, in sample-passes: as if it tried the costliest settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from sap_core.api import Passes, Sizes
from sap_core.construct import construct
from sweeper.search.encoding import Point
from sweeper.search.planned import Ground, TrialSearch, corners, levels_of

_LOOKED_AT = 5000
"""At most so many settings of a space."""


def most_passes(search: TrialSearch, sizes: Sizes) -> Passes:
    """Without scoring. Where a space has ranges, their ends stand for them."""
    if search.resource is None:
        costs = _costs(search.ground, sizes)
        return _sum([*costs[: search.budget], *[costs[0]] * max(0, search.budget - len(costs))])
    longest = [_longest(search.ground, sizes, search.resource, level) for level in range(len(search.rungs))]
    ends = [here - above for here, above in zip(search.rungs, [*search.rungs[1:], 0], strict=True)]
    return _sum([cost for cost, count in zip(longest, ends, strict=True) for _ in range(count)])


@lru_cache(maxsize=64)
def _costs(ground: Ground, sizes: Sizes) -> list[Passes]:
    """The passes of every setting by itself, costliest first; those of the ends where there are ranges or too many settings."""
    found = list(itertools.islice(corners(ground.points.domains), _LOOKED_AT))
    return sorted((_passes(ground, [point], sizes) for point in found), key=_work, reverse=True)


@lru_cache(maxsize=64)
def _longest(ground: Ground, sizes: Sizes, resource: str, level: int) -> Passes:
    """The costliest way up to a level."""
    levels = levels_of(ground.points, resource)[: level + 1]
    configurations = itertools.islice(corners(ground.points.without(resource).domains), _LOOKED_AT)
    return max((_passes(ground, [{**point, resource: value} for value in levels], sizes) for point in configurations), key=_work)


def _passes(ground: Ground, points: Sequence[Point], sizes: Sizes) -> Passes:
    settings = [construct(ground.entry(point)) for point in points]
    found: Passes = type(settings[0]).forecast(settings, sizes)
    return found


def _work(passes: Passes) -> int:
    return passes.forwards + 2 * passes.backwards


def _sum(passes: Sequence[Passes]) -> Passes:
    total = Passes()
    for one in passes:
        total = total + one
    return total

"""Computes an upper bound of a search's cost before it runs: the sample passes that it needs if it tries the costliest settings."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import lru_cache

from sap_core.api import Passes, Sizes
from sap_core.construct import construct
from sweeper.search.encoding import Setting
from sweeper.search.trial_search import SearchTarget, TrialSearch, corner_settings, resource_levels

_MAX_SETTINGS = 5000
"""Number of settings of a space that are examined; a bound of a larger space is approximate."""


def upper_bound_passes(search: TrialSearch, sizes: Sizes) -> Passes:
    """Passes of the corrections, without scoring. Of a range only the two ends are examined."""
    if search.resource is None:
        # A sampler may propose the costliest settings first; if the listed corners run out, the costliest one stands for the rest of a
        # range.
        costs = _costs(search.target, sizes)
        return _sum([*costs[: search.budget], *[costs[0]] * max(0, search.budget - len(costs))])
    # A configuration of a higher rung has run through all levels below as one trajectory, and the forecast of a family counts shared epochs
    # once.
    longest = [_longest(search.target, sizes, search.resource, level) for level in range(len(search.rungs))]
    # A configuration that is dropped at a rung has paid for the trajectory up to there, so it is counted once, at its last rung.
    dropped = [here - above for here, above in zip(search.rungs, [*search.rungs[1:], 0], strict=True)]
    return _sum([cost for cost, count in zip(longest, dropped, strict=True) for _ in range(count)])


# All seeds, budgets and search seeds of a cell ask for one target (targets compare by identity).
@lru_cache(maxsize=64)
def _costs(target: SearchTarget, sizes: Sizes) -> list[Passes]:
    """The passes of each corner setting on its own, costliest first."""
    found = list(itertools.islice(corner_settings(target.space.domains), _MAX_SETTINGS))
    return sorted((_passes(target, [setting], sizes) for setting in found), key=_work, reverse=True)


@lru_cache(maxsize=64)
def _longest(target: SearchTarget, sizes: Sizes, resource: str, level: int) -> Passes:
    """The passes of the costliest trajectory up to a level of the resource."""
    levels = resource_levels(target.space, resource)[: level + 1]
    configurations = itertools.islice(corner_settings(target.space.without(resource).domains), _MAX_SETTINGS)
    return max((_passes(target, [{**each, resource: value} for value in levels], sizes) for each in configurations), key=_work)


def _passes(target: SearchTarget, settings: Sequence[Setting], sizes: Sizes) -> Passes:
    correctors = [construct(target.entry(setting)) for setting in settings]
    found: Passes = type(correctors[0]).forecast(correctors, sizes)
    return found


def _work(passes: Passes) -> int:
    """Relative arithmetic of passes: a backward pass costs about two forward passes."""
    return passes.forwards + 2 * passes.backwards


def _sum(passes: Sequence[Passes]) -> Passes:
    total = Passes()
    for one in passes:
        total = total + one
    return total

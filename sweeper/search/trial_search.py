"""Checked searches: one method over one space with a sampler, a budget and a seed, as cells contain them and jobs carry them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sap_core.api import Corrector
from sap_core.components import component_id
from sap_core.construct import construct
from sap_core.errors import UserError
from sap_core.identity import canonical_json
from sweeper.config.component import Component, parse_component
from sweeper.config.schema import SearchConfig
from sweeper.config.search_space import LIST_TYPES, Domain, SearchSpace
from sweeper.config.space_hash import space_hash
from sweeper.search.encoding import Setting, SettingSpace
from sweeper.search.trials import rung_sizes

VERSION = 1
"""Part of every search's id. Raise it when the same search over the same space would try other settings."""

_MAX_CHECKED = 5000
"""Spaces of up to this many settings are checked setting by setting; in larger ones, each value with the first of the other fields."""


@dataclass(frozen=True, eq=False)
class SearchTarget:
    """The method and space of a search, with every value checked and converted to its field's type."""

    method: str
    space_name: str
    space_hash: str
    base: Component  # the corrector with the first value of each domain
    space: SettingSpace

    def entry(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """The argument of `construct` for a setting."""
        # The setting replaces the searched fields of the base.
        return {"target": self.base.target, "settings": {**self.base.settings, **setting}}

    @property
    def identity(self) -> dict[str, Any]:
        """The method without the searched fields, and their domains."""
        fields = [domain.field for domain in self.space.domains]
        return {
            "method": self.base.identity(outside=fields), "space": self.space_name,
            "domains": [[domain.field, domain.type, list(domain.values)] for domain in self.space.domains],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrialSearch:
    """A search that runs trials one at a time (every search but the grid)."""

    name: str
    target: SearchTarget
    budget: int  # trials; at most the size of the space
    seed: int
    sampler: dict[str, Any] | None  # entry of an Optuna sampler; None: random search
    resource: str | None = None  # the field over whose values successive halving runs
    eta: int = 2

    @property
    def method(self) -> str:
        return self.target.method

    @property
    def space(self) -> str:
        return self.target.space_name

    @property
    def space_hash(self) -> str:
        return self.target.space_hash

    @property
    def rungs(self) -> list[int]:
        """Number of configurations at each level of the resource; without a resource, one rung of all trials."""
        if self.resource is None:
            return [self.budget]
        size = self.target.space.without(self.resource).size
        return rung_sizes(self.budget, size, len(resource_levels(self.target.space, self.resource)), self.eta)

    @property
    def trials(self) -> int:
        """Number of trials, which is the number of rows."""
        return sum(self.rungs)

    @property
    def spec(self) -> dict[str, Any]:
        """Plain data from which any machine can run the search."""
        # The canonical domains, so that a worker needs neither Hydra nor the configuration.
        domains = self.target.identity["domains"]
        return {
            "method": self.target.base.entry, "domains": domains, "rungs": self.rungs, "seed": self.seed, "sampler": self.sampler,
            "resource": self.resource,
        }  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """Everything but the baseline that determines the sequence of settings. The search's name is not part of it."""
        # eta matters only where there are rungs; elsewhere it would split equal searches into two ids.
        halving = {"resource": self.resource, "eta": self.eta} if self.resource else {}
        sampler = self.sampler and component_id("sampler", self.sampler["target"]) | {"settings": self.sampler["settings"]}
        search = {"version": VERSION, "budget": self.budget, "seed": self.seed, "sampler": sampler, **halving}
        return {**self.target.identity, "search": search}


def check_target(
    method: str, space: SearchSpace, given: Mapping[str, Any], where: str, plugins: Sequence[str], extra: Mapping[str, Any],
    shrink: Callable[[dict[str, Any]], dict[str, Any]],
) -> SearchTarget:  # fmt: skip
    """Check every value of a space against the method's class.

    Args:
        method: its name.
        space: as configured; may contain ranges.
        given: the method's fixed settings as configured.
        where: the configuration key that errors name.
        plugins: further packages that `_target_` may name.
        extra: fields that the planner fills in.
        shrink: maps settings to those of a smoke run.

    Raises:
        UserError: a value that its field or its class rejects.
    """
    domains = [_shrink_domain(domain, shrink) for domain in space.domains]

    def parse(setting: Mapping[str, Any]) -> Component:
        return parse_component({**shrink(dict(given)), **setting}, where, Corrector, plugins, extra)

    # A space replaces the method's own value of a searched field, so every check uses values of the space.
    first = {domain.field: domain.values[0] for domain in domains}
    canonical = tuple(
        # Each value is parsed with the first values of the other fields, which converts and checks it.
        replace(domain, values=tuple(parse({**first, domain.field: value}).settings[domain.field] for value in domain.values))
        for domain in domains
    )
    # A class may reject combinations of values, so all are tried where the space is small enough.
    if math.prod(len(domain.values) for domain in canonical) <= _MAX_CHECKED:
        for setting in corner_settings(canonical):
            parse(setting)
    return SearchTarget(method, space.name, space_hash(space, given, where, plugins, extra), parse(first), SettingSpace(canonical))


def corner_settings(domains: Sequence[Domain]) -> Iterator[Setting]:
    """The product of all listed values and the two ends of each range."""
    fields = [domain.field for domain in domains]
    return (dict(zip(fields, values, strict=True)) for values in itertools.product(*(domain.values for domain in domains)))


def check_trial_searches(config: SearchConfig, target: SearchTarget, plugins: Sequence[str], smoke: bool) -> list[TrialSearch]:
    """One search per search seed.

    Raises:
        UserError: no budget, an invalid sampler, or a resource that the method or the space lacks.
    """
    if config.budget is None:
        raise UserError(f"search={config.name} needs a number of trials; set search.budget=64")
    entry = None
    if config.sampler is not None:
        # Loads Optuna, which most sweeps do not need.
        from sweeper.search.samplers import check_sampler

        entry = check_sampler(config.sampler, config.settings, plugins)
    elif config.settings:
        raise UserError(
            f"search.settings={config.settings} configures a sampler, but search={config.name} names none; set search.sampler=PATH"
        )
    if config.resource is not None:
        _check_resource(config, target, smoke)
    # A continuous space has no size and no cut.
    size = target.space.size
    # Cut to the space here, so that the plan knows the number of rows: every trial is a distinct setting.
    budget = config.budget if size is None else min(config.budget, size)
    return [TrialSearch(config.name, target, budget, seed, entry, config.resource, config.eta) for seed in config.seeds]


def refuse_duplicate_searches(searches: Sequence[TrialSearch]) -> None:
    """Refuse two names for one search of one method: its rows would be stored under one of the names only.

    Raises:
        UserError: names both.
    """
    owners: dict[str, str] = {}
    for search in searches:
        own = f"{search.name} of {search.method}"
        # The name of a search is not in its identity, so two names for the same sampler and budget would share one id.
        owner = owners.setdefault(canonical_json(search.identity), own)
        if owner != own:
            raise UserError(f"searches '{owner}' and '{own}' are identical, so their rows could not be told apart; name only one of them")


def _check_resource(config: SearchConfig, target: SearchTarget, smoke: bool) -> None:
    resource, method = str(config.resource), target.method
    remedy = "choose another search for this method with an entry of searches=[...] (docs/search.md)"
    if resource not in target.base.settings:
        raise UserError(
            f"search={config.name} uses '{resource}' as its resource (search.resource), but method '{method}' has no such field; {remedy}"
        )
    # A range has no levels to promote between.
    levels = resource_levels(target.space, resource)
    if len(levels) < 2 and not smoke:
        raise UserError(
            f"search={config.name} uses '{resource}' as its resource (search.resource), but space '{target.space_name}' of method "
            f"'{method}' does not list two or more values of it; give it {resource}: {{grid: [...]}}, or {remedy}"
        )
    # One configuration through all levels is the smallest ladder.
    if config.budget is not None and config.budget < len(levels):
        raise UserError(
            f"search.budget={config.budget} is less than the {len(levels)} values of '{resource}', which need one trial each; raise it to "
            f"{len(levels)} or more"
        )
    # A level must continue the trajectory of the level below, which a corrector does for settings of one family only.
    first = {domain.field: domain.values[0] for domain in target.space.domains}
    families = {construct(target.entry({**first, resource: level})).family() for level in levels}
    if len(families) > 1:
        raise UserError(
            f"method '{method}' computes the values of '{resource}' independently (they are not one family), so '{resource}' cannot be a "
            f"resource; {remedy}"
        )


def resource_levels(space: SettingSpace, resource: str) -> list[Any]:
    """The listed values of the resource in ascending order."""
    # Ascending, however the space lists them: a trajectory can only be continued to more epochs.
    return sorted(value for domain in space.domains if domain.field == resource and domain.type in LIST_TYPES for value in domain.values)


def _shrink_domain(domain: Domain, shrink: Callable[[dict[str, Any]], dict[str, Any]]) -> Domain:
    """A domain for a smoke run, without repeated values. Ends of ranges become floats, except those of `randint`."""
    # A smoke run caps epochs and counts of samples, after which several values of a grid may be equal.
    values = [shrink({domain.field: value})[domain.field] for value in domain.values]
    if domain.type in LIST_TYPES:
        return replace(domain, values=tuple(value for number, value in enumerate(values) if value not in values[:number]))
    if domain.type == "randint" and not all(isinstance(value, int) for value in values):
        raise UserError(f"the space of '{domain.field}' needs two integers [low, high] for 'randint', both included, not {values}")
    # A range that a smoke run has shrunk to a point.
    if values[0] == values[1]:
        return Domain(domain.field, "choice", (values[0],))
    return replace(domain, values=tuple(values if domain.type == "randint" else map(float, values)))

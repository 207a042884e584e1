"""Checked searches, as cells hold them and as jobs carry them: one method, one space, one search, one budget, one seed."""

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
from sweeper.config.component import Declared, declare
from sweeper.config.schema import Search as Choice
from sweeper.config.search_space import LISTS, Domain, Space
from sweeper.config.space_hash import space_hash
from sweeper.search.encoding import Point, Points
from sweeper.search.trials import rungs_of

VERSION = 1
"""Raised when the same search over the same space would try other settings."""

_CHECKED_WHOLE = 5000
"""Up to so many combinations are all checked before anything runs; in larger spaces, each value with the first of the others."""


@dataclass(frozen=True, eq=False)
class Ground:
    """What a search searches: a method over one of its spaces, every value checked and of its field's type."""

    method: str
    space: str
    space_hash: str
    base: Declared  # the setting that the first value of each field gives
    points: Points

    def entry(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """What constructs a setting."""
        return {"target": self.base.target, "settings": {**self.base.settings, **point}}

    @property
    def identity(self) -> dict[str, Any]:
        """The method without the searched fields, and their domains."""
        fields = [domain.field for domain in self.points.domains]
        return {
            "method": self.base.identity(outside=fields), "space": self.space,
            "domains": [[domain.field, domain.word, list(domain.values)] for domain in self.points.domains],
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class TrialSearch:
    """A search that runs one trial at a time."""

    name: str
    ground: Ground
    budget: int  # trials; no more than there are settings
    seed: int
    sampler: dict[str, Any] | None  # what constructs it; None: random
    resource: str | None = None  # with successive halving over this field's values
    eta: int = 2

    @property
    def method(self) -> str:
        return self.ground.method

    @property
    def space(self) -> str:
        return self.ground.space

    @property
    def space_hash(self) -> str:
        return self.ground.space_hash

    @property
    def rungs(self) -> list[int]:
        """How many configurations reach each level of the resource; without one, all trials stand on one."""
        if self.resource is None:
            return [self.budget]
        size = self.ground.points.without(self.resource).size
        return rungs_of(self.budget, size, len(levels_of(self.ground.points, self.resource)), self.eta)

    @property
    def trials(self) -> int:
        """How many rows there will be."""
        return sum(self.rungs)

    @property
    def spec(self) -> dict[str, Any]:
        """All that a machine needs to search."""
        domains = self.ground.identity["domains"]
        return {
            "method": self.ground.base.entry, "domains": domains, "rungs": self.rungs, "seed": self.seed, "sampler": self.sampler,
            "resource": self.resource,
        }  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """What the sequence of settings follows from, beside the baseline; the search's name is outside."""
        halving = {"resource": self.resource, "eta": self.eta} if self.resource else {}
        sampler = self.sampler and component_id("sampler", self.sampler["target"]) | {"settings": self.sampler["settings"]}
        search = {"version": VERSION, "budget": self.budget, "seed": self.seed, "sampler": sampler, **halving}
        return {**self.ground.identity, "search": search}


def check_ground(
    method: str, space: Space, given: Mapping[str, Any], where: str, plugins: Sequence[str], extra: Mapping[str, Any],
    shrink: Callable[[dict[str, Any]], dict[str, Any]],
) -> Ground:  # fmt: skip
    """Checks every value of a space.

    Args:
        method: its name.
        space: as parsed; ranges are welcome.
        given: the method's fixed settings as configured.
        where: the key that errors name.
        plugins: further packages that may be named.
        extra: fields that the platform fills in.
        shrink: what a smoke run does to values.

    Raises:
        UserError: a value that its field or its class refuses.
    """
    domains = [_shrunken(domain, shrink) for domain in space.domains]

    def declared(point: Mapping[str, Any]) -> Declared:
        return declare({**shrink(dict(given)), **point}, where, Corrector, plugins, extra)

    first = {domain.field: domain.values[0] for domain in domains}
    canonical = tuple(
        replace(domain, values=tuple(declared({**first, domain.field: value}).settings[domain.field] for value in domain.values))
        for domain in domains
    )
    if math.prod(len(domain.values) for domain in canonical) <= _CHECKED_WHOLE:
        for point in corners(canonical):
            declared(point)
    return Ground(method, space.name, space_hash(space, given, where, plugins, extra), declared(first), Points(canonical))


def corners(domains: Sequence[Domain]) -> Iterator[Point]:
    """All settings of lists, and of ranges the two ends."""
    fields = [domain.field for domain in domains]
    return (dict(zip(fields, values, strict=True)) for values in itertools.product(*(domain.values for domain in domains)))


def check_searches(choice: Choice, ground: Ground, plugins: Sequence[str], smoke: bool) -> list[TrialSearch]:
    """One search per seed.

    Raises:
        UserError: no budget, a bad sampler, or a resource that the method or the space does not have.
    """
    if choice.budget is None:
        raise UserError(f"search={choice.name} needs a number of trials; set search.budget=64")
    entry = None
    if choice.sampler is not None:
        from sweeper.search.samplers import check_sampler

        entry = check_sampler(choice.sampler, choice.settings, plugins)
    elif choice.settings:
        raise UserError(f"search.settings={choice.settings} are a sampler's, but search={choice.name} names none; set search.sampler=...")
    if choice.resource is not None:
        _check_resource(choice, ground, smoke)
    size = ground.points.size
    budget = choice.budget if size is None else min(choice.budget, size)
    return [TrialSearch(choice.name, ground, budget, seed, entry, choice.resource, choice.eta) for seed in choice.seeds]


def refuse_twins(searches: Sequence[TrialSearch]) -> None:
    """Two names for one search of one method would write one job's rows under one of them alone.

    Raises:
        UserError: names both.
    """
    owners: dict[str, str] = {}
    for search in searches:
        mine = f"{search.name} of {search.method}"
        owner = owners.setdefault(canonical_json(search.identity), mine)
        if owner != mine:
            raise UserError(
                f"searches '{owner}' and '{mine}' are one and the same, so their rows could not be told apart; name one of them only"
            )


def _check_resource(choice: Choice, ground: Ground, smoke: bool) -> None:
    resource, method = str(choice.resource), ground.method
    remedy = "give this method another search, by naming methods in searches=[...] (docs/search.md)"
    if resource not in ground.base.settings:
        raise UserError(
            f"search={choice.name} climbs the values of '{resource}' (search.resource), which method '{method}' does not have; {remedy}"
        )
    levels = levels_of(ground.points, resource)
    if len(levels) < 2 and not smoke:
        raise UserError(
            f"search={choice.name} climbs the values of '{resource}' (search.resource), but space '{ground.space}' of method '{method}' "
            f"does not list two or more of them; give it {resource}: {{grid: [...]}}, or {remedy}"
        )
    if choice.budget is not None and choice.budget < len(levels):
        raise UserError(
            f"search.budget={choice.budget} is too small for the {len(levels)} values of '{resource}', one trial each; raise it"
        )
    first = {domain.field: domain.values[0] for domain in ground.points.domains}
    families = {construct(ground.entry({**first, resource: level})).family() for level in levels}
    if len(families) > 1:
        raise UserError(
            f"method '{method}' does not yield its settings along '{resource}' (they are no family), so they cannot be climbed; {remedy}"
        )


def levels_of(points: Points, resource: str) -> list[Any]:
    """The listed values of the resource, smallest first."""
    return sorted(value for domain in points.domains if domain.field == resource and domain.word in LISTS for value in domain.values)


def _shrunken(domain: Domain, shrink: Callable[[dict[str, Any]], dict[str, Any]]) -> Domain:
    """A domain's values in a smoke run, each once; the ends of ranges that may be fractions as fractions."""
    values = [shrink({domain.field: value})[domain.field] for value in domain.values]
    if domain.word in LISTS:
        return replace(domain, values=tuple(value for number, value in enumerate(values) if value not in values[:number]))
    if domain.word == "randint" and not all(isinstance(value, int) for value in values):
        raise UserError(f"the space of '{domain.field}' needs two whole numbers for 'randint', both ends included, not {values}")
    if values[0] == values[1]:
        return Domain(domain.field, "choice", (values[0],))
    return replace(domain, values=tuple(values if domain.word == "randint" else map(float, values)))

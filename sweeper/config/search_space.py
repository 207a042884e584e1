"""Search spaces: a product of domains, each of type grid, choice, uniform, loguniform or randint.

spaces:
  alpha16: {alpha: {grid: [300000.0, ..., 2000.0]}}     # the first field varies slowest; by convention the mildest value comes first
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sap_core.errors import UserError, unknown

DOMAIN_TYPES = ("grid", "choice", "uniform", "loguniform", "randint")
LIST_TYPES = ("grid", "choice")
DEFAULT_SPACE = "default"
"""The space of every method that searches no field: one setting, the values of the method's `corrector`."""


@dataclass(frozen=True)
class Domain:
    """The values of one field: a list (`grid`, `choice`) or the two ends of a range (`uniform`, `loguniform`, `randint`)."""

    field: str
    type: str
    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        where = f"the space of '{self.field}'"
        if self.type not in DOMAIN_TYPES:
            raise unknown("domain type", self.type, DOMAIN_TYPES, where)
        # `grid` and `choice` list their values; a sampler may assume an order in a grid only (see `sweeper.search.samplers`).
        if self.type in LIST_TYPES:
            if not self.values:
                raise UserError(f"{where} is empty; give '{self.type}' at least one value")
            # By repr, so that lists can be values and 1 and 1.0 differ here; a grid compares them again after conversion.
            if len(set(map(repr, self.values))) != len(self.values):
                raise UserError(f"{where} names a value twice: {list(self.values)}; name each once")
            return
        # bool is a subclass of int; [false, true] is no range.
        bounds = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(self.values) != 2 or len(bounds) != 2 or not bounds[0] < bounds[1]:
            raise UserError(f"{where} needs [low, high] with low < high for '{self.type}', not {list(self.values)}")
        # The logarithm of the lower end must exist.
        if self.type == "loguniform" and bounds[0] <= 0:
            raise UserError(f"{where} must be above 0 for 'loguniform', not {bounds[0]}")


@dataclass(frozen=True)
class SearchSpace:
    """A named product of domains."""

    name: str
    domains: tuple[Domain, ...]

    @classmethod
    def parse(cls, name: str, given: Mapping[str, Any]) -> SearchSpace:
        """Parse a space from YAML: {field: {type: values}}.

        Raises:
            UserError: a field without exactly one domain type, an unknown type, or invalid values.
        """
        domains = []
        for field, content in given.items():
            if not isinstance(content, Mapping) or len(content) != 1:
                raise UserError(
                    f"field '{field}' of space '{name}' needs exactly one of {', '.join(DOMAIN_TYPES)}, as in {{grid: [1, 2]}}, not "
                    f"{content!r}"
                )
            domain_type, values = next(iter(content.items()))
            domains.append(Domain(str(field), str(domain_type), tuple(values) if isinstance(values, list | tuple) else (values,)))
        return cls(name, tuple(domains))

    def grid(self) -> list[dict[str, Any]]:
        """All settings in order; the first field varies slowest.

        Raises:
            UserError: a domain is a range, which has no list of values.
        """
        for domain in self.domains:
            if domain.type not in LIST_TYPES:
                raise UserError(
                    f"field '{domain.field}' of space '{self.name}' is a '{domain.type}' range, which a grid cannot list; "
                    f"give its values with grid: [...]"
                )
        # The order is part of the results: among equal scores the setting that comes first in the grid wins, so the mildest value is listed
        # first.
        names = [domain.field for domain in self.domains]
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*(domain.values for domain in self.domains))]


def check_searches_differ(names: Sequence[str], methods: Mapping[str, Any], key: str) -> None:
    """Check that no two names of methods are one search, as scrub and scrub@grid_a are, which would be planned once and listed twice.

    Args:
        names: methods, with or without a space.
        methods: the composed files of the methods.
        key: where the names are listed.

    Raises:
        UserError: two are the same.
    """
    found: dict[tuple[str, str], str] = {}
    for name in names:
        method, _, space = name.partition("@")
        space = space or next(iter(methods[method].get("spaces") or {}), "")
        other = found.setdefault((method, space), name)
        if other != name:
            raise UserError(f"{key}: {other} and {name} are the same search, because '{space}' is the default space of {method}; list one")


def evenly_spaced(items: list[Any], count: int) -> list[Any]:
    """`count` items at even distances over the list, in order, the first and the last included."""
    if count >= len(items):
        return items
    if count == 1:
        return items[:1]
    # Both ends are kept, so that a smoke run also executes the extreme settings of a space.
    return [items[round(step * (len(items) - 1) / (count - 1))] for step in range(count)]

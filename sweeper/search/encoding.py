"""Encodes the settings of a search space for a sampler, one number per field, and decodes its proposals. Independent of Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from sap_core.identity import canonical_json
from sweeper.config.search_space import LIST_TYPES, Domain

Setting = dict[str, Any]
"""The value of each searched field."""


def setting_key(setting: Mapping[str, Any]) -> str:
    """A string that is the same for equal settings."""
    # Canonical JSON sorts keys and writes floats by repr, so a float that a sampler proposes twice has one key.
    return canonical_json(setting)


@dataclass(frozen=True)
class SettingSpace:
    """A product of domains whose values are canonical (of their fields' types).

    Listed domains (`grid`, `choice`) are encoded by the index of a value, ranges by the value itself.
    """

    domains: tuple[Domain, ...]

    @property
    def is_listed(self) -> bool:
        """Whether all domains are lists, so that every setting has an index in the grid."""
        return all(domain.type in LIST_TYPES for domain in self.domains)

    @property
    def size(self) -> int | None:
        """Number of settings; None if a domain is continuous."""
        # The size of an empty product is 1: a method without hyperparameters has one setting.
        counts = [_count(domain) for domain in self.domains]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def at(self, index: int) -> Setting:
        """The setting at an index of the grid, whose first field varies slowest."""
        found = {}
        # Mixed radix: the last field is the lowest digit.
        for domain in reversed(self.domains):
            index, position = divmod(index, len(domain.values))
            found[domain.field] = domain.values[position]
        return {domain.field: found[domain.field] for domain in self.domains}

    def index(self, setting: Mapping[str, Any]) -> int | None:
        """The index of a setting in the grid; None if a domain is a range."""
        if not self.is_listed:
            return None
        index = 0
        for domain in self.domains:
            index = index * len(domain.values) + domain.values.index(setting[domain.field])
        return index

    def decode(self, parameters: Mapping[str, Any]) -> Setting:
        """Converts a sampler's parameters to a setting."""
        return {
            domain.field: domain.values[int(parameters[domain.field])]
            if domain.type in LIST_TYPES
            else type(domain.values[0])(parameters[domain.field])
            for domain in self.domains
        }

    def encode(self, setting: Mapping[str, Any]) -> dict[str, Any]:
        """Converts a setting to a sampler's parameters."""
        return {
            domain.field: domain.values.index(setting[domain.field]) if domain.type in LIST_TYPES else setting[domain.field]
            for domain in self.domains
        }

    def draw(self, generator: torch.Generator) -> Setting:
        """Draws each field independently and uniformly (log-uniformly for `loguniform`)."""
        return self.decode({domain.field: _draw(domain, generator) for domain in self.domains})

    def without(self, field: str) -> SettingSpace:
        """The product of the other domains."""
        return SettingSpace(tuple(domain for domain in self.domains if domain.field != field))


def _count(domain: Domain) -> int | None:
    if domain.type in LIST_TYPES:
        return len(domain.values)
    return int(domain.values[1]) - int(domain.values[0]) + 1 if domain.type == "randint" else None


def _draw(domain: Domain, generator: torch.Generator) -> float:
    """One encoded value. Both ends of a `randint` range are included, as in Optuna's IntDistribution."""
    if domain.type in LIST_TYPES or domain.type == "randint":
        # A listed domain is drawn by index, so both cases are integers below a count.
        low, count = (0, len(domain.values)) if domain.type in LIST_TYPES else (int(domain.values[0]), _count(domain) or 1)
        return low + int(torch.randint(count, (), generator=generator))
    # Log-uniform: uniform in the logarithm, as in Optuna's FloatDistribution(log=True).
    low_end, high_end = (math.log(value) if domain.type == "loguniform" else float(value) for value in domain.values)
    # float64, so that a draw is as fine as the float that it becomes
    value = low_end + (high_end - low_end) * float(torch.rand((), generator=generator, dtype=torch.float64))
    return math.exp(value) if domain.type == "loguniform" else value
